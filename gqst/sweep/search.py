"""Hyperparameter search over config keys with Optuna, for two objectives: style distance and quality."""

import dataclasses
import importlib
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from gqst import config, overrides, types
from gqst.quality import selection
from gqst.runtime import progress
from gqst.training import loop

_TRIALS_BEFORE_PRUNING = 3


@dataclasses.dataclass(frozen=True)
class Space:
    """The values that a config key may take: a range or choices.

    Attributes:
      key: Key of the config.
      low: Lower end of a range, which is one of integers if both ends are.
      high: Upper end of a range.
      log: Whether to sample the logarithm of a range uniformly.
      choices: The values, instead of a range.
    """

    key: str
    low: float | int = 0
    high: float | int = 0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: Any) -> Any:
        """Returns the value that an Optuna trial is to take."""
        if self.choices:
            return trial.suggest_categorical(self.key, list(self.choices))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, float(self.low), float(self.high), log=self.log)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial of a study.

    Attributes:
      number: Number of the trial, from 0.
      values: Values of the keys.
      state: `complete`, `pruned` (fell behind), `failed` or `running`.
      style_distance: Style distance of its best round; None before the first.
      quality: Quality of that round: ssim to the truth for paired data, else contrast_structure to the source.
      front: Whether it is on the Pareto front: no other trial is better in both.
    """

    number: int
    values: Mapping[str, Any]
    state: str
    style_distance: float | None
    quality: float | None
    front: bool


def parse(text: str) -> Space:
    """Parses KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=A,B,C; InputError for anything else."""
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
    """Runs trials until a study has as many as asked for, and returns all of them.

    Each trial is a run in `folder/trials/NUMBER`.

    Args:
      cfg: The config that the trials share.
      spaces: The values to try for each key.
      folder: Folder of the study; an existing study is resumed.
      trials: Number of trials in all, earlier ones included.
      seed: Seed of the sampler.
      pruning: Whether to end a trial that is worse in both objectives than the median of the finished ones after
        as many rounds.

    Raises:
      InputError: Optuna is missing, a key is unknown, or the folder holds a study of another config or other spaces.
    """
    optuna = _optuna()
    for space in spaces:  # fails for an unknown key before anything is trained
        value = space.choices[0] if space.choices else space.low
        overrides.override(cfg, [f"{space.key}={value!r}"])
    folder.mkdir(parents=True, exist_ok=True)
    question = json.dumps({"config": overrides.to_json(cfg), "search": [dataclasses.asdict(space) for space in spaces]})
    study = optuna.create_study(
        storage=f"sqlite:///{(folder / 'study.db').absolute()}",
        study_name="gqst",
        directions=["minimize", "maximize"],
        sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True),
        load_if_exists=True,
    )
    if study.user_attrs.get("asked", question) != question:
        raise types.InputError(f"{folder} holds a search of another config or other ranges: give another --study")
    study.set_user_attr("asked", question)
    finished = sum(trial.state.is_finished() for trial in study.trials)

    def objective(trial: Any) -> tuple[float, float]:
        values = {space.key: space.suggest(trial) for space in spaces}
        progress.say(f"trial {trial.number + 1}: " + ", ".join(f"{key}={value}" for key, value in values.items()))
        trial_cfg = overrides.override(cfg, [f"{key}={value!r}" for key, value in values.items()])
        standings: list[selection.Standing] = []
        objectives: list[tuple[float, float]] = []  # style distance and quality of each round

        def best() -> tuple[float, float]:
            return objectives[min(range(len(standings)), key=lambda i: standings[i].rank)]

        def on_round(step: int, metrics: Mapping[str, Any], sample: pathlib.Path) -> None:
            del sample
            if step == 0:
                return
            style_distance = metrics["eval/style_distance"]
            quality = metrics.get("eval/ssim", metrics["eval/contrast_structure"])
            standings.append(selection.Standing(step, style_distance, metrics["eval/shortfall"]))
            objectives.append((style_distance, quality))
            trial.set_user_attr("rounds", objectives)
            trial.set_user_attr("best", best())
            if pruning and _falls_behind(study, objectives):
                raise optuna.TrialPruned

        try:
            loop.fit(trial_cfg, folder / "trials" / str(trial.number), on_round=on_round, quiet=True)
        finally:
            jax.clear_caches()  # every trial compiles programs of its own
        return best()

    remaining = trials - finished
    if remaining > 0:
        study.optimize(objective, n_trials=remaining, catch=(types.RunError,))
    return _trials(study, optuna)


def _falls_behind(study: Any, objectives: Sequence[tuple[float, float]]) -> bool:
    """Returns whether the last round is worse in both objectives than the median of finished trials at that round."""
    round_index = len(objectives) - 1
    complete = [trial.user_attrs.get("rounds", []) for trial in study.trials if trial.state.name == "COMPLETE"]
    peers = [rounds[round_index] for rounds in complete if len(rounds) > round_index]
    if len(peers) < _TRIALS_BEFORE_PRUNING:
        return False
    style_distance, quality = objectives[-1]
    return style_distance > statistics.median(p[0] for p in peers) and quality < statistics.median(p[1] for p in peers)


def _trials(study: Any, optuna: Any) -> list[Trial]:
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
