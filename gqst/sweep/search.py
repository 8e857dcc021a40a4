"""Hyper-parameter search over config keys with Optuna, for two ends at once: near the style, good in quality."""

import dataclasses
import importlib
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from gqst import config, overrides, types
from gqst.runtime import progress
from gqst.training import loop

_EARLIEST = 3
"""Finished trials before one may be cut short."""


@dataclasses.dataclass(frozen=True)
class Space:
    """The values that a config key may take.

    Attributes:
      key: of the config.
      low, high: ends of a range; whole numbers where both are.
      log: whether the range is even in its logarithm.
      choices: the values, where it is no range.
    """

    key: str
    low: float | int = 0
    high: float | int = 0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: Any) -> Any:
        """The value that an Optuna trial shall take."""
        if self.choices:
            return trial.suggest_categorical(self.key, list(self.choices))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, float(self.low), float(self.high), log=self.log)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial as it stands.

    Attributes:
      number: of it, from 0.
      values: of the keys.
      state: `complete`, `pruned` (fell behind), `failed` or `running`.
      style_distance: of its best round; None before one.
      quality: of that round: ssim to the truth of paired data, else contrast_structure to the source.
      front: whether no other trial beats it in both.
    """

    number: int
    values: Mapping[str, Any]
    state: str
    style_distance: float | None
    quality: float | None
    front: bool


def parse(text: str) -> Space:
    """The space of KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=A,B,C; InputError for anything else."""
    key, equals, values = text.partition("=")
    if not (key and equals and values):
        raise types.InputError(f"--search {text!r} is not of the form KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=A,B,C")
    low, dots, rest = values.partition("..")
    if not dots:
        return Space(key, choices=tuple(overrides.literal(value.strip()) for value in values.split(",")))
    high, _, scale = rest.partition(":")
    ends = [overrides.literal(low.strip()), overrides.literal(high.strip())]
    if scale not in ("", "log") or not all(isinstance(end, int | float) for end in ends):
        raise types.InputError(f"--search {text!r}: a range is two numbers, as in {key}=0.01..1 or {key}=0.01..1:log")
    if not ends[0] < ends[1] or (scale and ends[0] <= 0):
        raise types.InputError(f"--search {text!r}: the low end comes first, and is above 0 with :log")
    return Space(key, ends[0], ends[1], bool(scale))


def run(
    cfg: config.Config,
    spaces: Sequence[Space],
    folder: pathlib.Path,
    *,
    trials: int,
    seed: int = 0,
    pruning: bool = True,
) -> list[Trial]:
    """All trials of a study, after it has as many as asked for; each is a run in `folder/trials/NUMBER`.

    Args:
      cfg: what the trials have in common.
      spaces: what is varied.
      folder: of the study; one that is there goes on.
      trials: how many there shall be in all.
      seed: of the search.
      pruning: whether a trial ends that is behind the median of the finished ones in both at the same round.

    Raises:
      InputError: Optuna is missing, a key is unknown, or the folder holds another search.
    """
    optuna = _optuna()
    for space in spaces:  # an unknown key is found before anything is trained
        value = space.choices[0] if space.choices else space.low
        overrides.override(cfg, [f"{space.key}={value!r}"])
    folder.mkdir(parents=True, exist_ok=True)
    asked = json.dumps({"config": overrides.to_json(cfg), "search": [dataclasses.asdict(space) for space in spaces]})
    study = optuna.create_study(
        storage=f"sqlite:///{(folder / 'study.db').absolute()}",
        study_name="gqst",
        directions=["minimize", "maximize"],
        sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True),
        load_if_exists=True,
    )
    if study.user_attrs.get("asked", asked) != asked:
        raise types.InputError(f"{folder} holds a search of another config or other ranges: give another --study")
    study.set_user_attr("asked", asked)
    done = sum(trial.state.is_finished() for trial in study.trials)

    def objective(trial: Any) -> tuple[float, float]:
        values = {space.key: space.suggest(trial) for space in spaces}
        progress.say(f"trial {trial.number + 1}: " + ", ".join(f"{key}={value}" for key, value in values.items()))
        chosen = overrides.override(cfg, [f"{key}={value!r}" for key, value in values.items()])
        rounds: list[tuple[float, float]] = []
        best: tuple[float, float, float] | None = None

        def on_round(step: int, metrics: Mapping[str, Any], sample: pathlib.Path) -> None:
            nonlocal best
            del sample
            if step == 0:
                return
            found = metrics["eval/style_distance"], metrics.get("eval/ssim", metrics["eval/contrast_structure"])
            rank = (metrics["eval/shortfall"], *found)
            if best is None or rank[:2] < best[:2]:
                best = rank
            rounds.append(found)
            trial.set_user_attr("rounds", rounds)
            trial.set_user_attr("best", best[1:])
            if pruning and _behind(study, rounds):
                raise optuna.TrialPruned

        try:
            loop.fit(chosen, folder / "trials" / str(trial.number), on_round=on_round, quiet=True)
        finally:
            jax.clear_caches()  # every trial compiles its own
        assert best is not None
        return best[1], best[2]

    left = trials - done
    if left > 0:
        study.optimize(objective, n_trials=left, catch=(types.RunError,))
    return _told(study, optuna)


def _behind(study: Any, rounds: Sequence[tuple[float, float]]) -> bool:
    """Whether a trial is worse than the median of the finished ones after as many rounds, in both."""
    count = len(rounds)
    others = [trial.user_attrs.get("rounds", []) for trial in study.trials if trial.state.name == "COMPLETE"]
    peers = [other[count - 1] for other in others if len(other) >= count]
    if len(peers) < _EARLIEST:
        return False
    distance, quality = rounds[-1]
    return distance > statistics.median(p[0] for p in peers) and quality < statistics.median(p[1] for p in peers)


def _told(study: Any, optuna: Any) -> list[Trial]:
    complete = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    front = {trial.number for trial in study.best_trials} if complete else set()
    return [
        Trial(
            trial.number,
            dict(trial.params),
            {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower()),
            *_pair(trial.user_attrs.get("best")),
            front=trial.number in front,
        )
        for trial in study.trials
    ]


def _pair(best: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (best[0], best[1]) if best else (None, None)


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise types.InputError("gqst.sweep needs Optuna: pip install 'gqst[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
