"""The run: the only module that puts side effects in order."""

import contextlib
import dataclasses
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from gqst import config, types
from gqst.data import pipeline, sources
from gqst.quality import selection
from gqst.training import checkpoint, parallel, perception, progress, recipes, round, state, summary, writer

OnRound = Callable[[int, Mapping[str, Any], pathlib.Path], None]


@dataclasses.dataclass(frozen=True)
class Result:
    """How a call of `train` ended.

    Attributes:
      step: steps done, of the whole run.
      finished: whether that is all; otherwise a signal stopped it.
      traces: how often the step was compiled.
      best: the best round, if there was one.
    """

    step: int
    finished: bool
    traces: int
    best: selection.Standing | None


def train(
    cfg: config.Config,
    workdir: str | pathlib.Path,
    *,
    mode: parallel.Mode = "jit",
    devices: int | None = None,
    on_round: OnRound | None = None,
    quiet: bool = False,
) -> Result:
    """Trains in `workdir` until `cfg.steps`, going on from its newest checkpoint if it has one.

    SIGTERM and Ctrl-C end it after the step at hand, saved.

    Args:
      cfg: the experiment.
      workdir: folder of the run; made if absent.
      mode: `jit` or `pmap`.
      devices: how many local devices to use; None is all.
      on_round: called after every round with step, metrics and the path of the sample grid.
      quiet: whether to show no progress.

    Raises:
      InputError: config, data or workdir cannot be used, or a checkpoint cannot be written.
      RunError: a loss is not finite.
    """
    folder = pathlib.Path(workdir)
    # 1. Everything that can be wrong with the input is found before anything is written.
    dataset = sources.build(cfg.data, validation=cfg.validation)
    recipe = recipes.build(cfg, paired=dataset.paired)
    across = parallel.build(
        recipe,
        mode=mode,
        batch_size=cfg.batch_size,
        repeats=cfg.steps_per_dispatch,
        devices=local_devices(devices),
    )
    _claim(folder, cfg)
    store = checkpoint.Checkpoints(folder / "checkpoints", keep=cfg.keep_checkpoints, keep_every=cfg.keep_every)
    batches = pipeline.make_iterator(dataset, cfg, batch_size=cfg.batch_size, stack=cfg.steps_per_dispatch)
    # 2. A checkpoint wins over a new state; its note says where the data and the best round stand.
    now = across.create(cfg.seed)
    # One checkpoint is written before the oldest is deleted.
    checkpoint.check_space(store.directory, 2 * summary.state_bytes(across.single(now)))
    restored = store.restore(jax.tree.map(_like, across.single(now)))
    best = None
    if restored is not None:
        single, note = restored
        now = across.spread(single)
        batches.set_state(note["data"])
        best = selection.Standing(**note["best"]) if note["best"] else None
        store.keep(best.step if best else None)
    done = int(across.single(now).step)
    run = _Run(cfg, folder, dataset, recipe, across, store, batches, on_round, best)
    with contextlib.ExitStack() as stack:
        stack.callback(batches.close)
        stack.callback(store.close)
        run.out = writer.Writer(folder, step=done)
        stack.callback(run.out.close)
        asked = stack.enter_context(_signals())
        bar = progress.Progress(cfg.steps, done, pictures=cfg.batch_size, quiet=quiet)
        stack.callback(bar.close)
        if restored is not None:
            bar.say(f"going on from step {done} of {cfg.steps} in {folder}")
        now, done = run.go(now, done, asked, bar)
    result = Result(step=done, finished=done >= cfg.steps, traces=across.traces, best=run.best)
    if not quiet:
        progress.say(_farewell(result, folder, cfg, asked))
    return result


class _Run:
    """The steps of one call of `train`, in a fixed order."""

    out: writer.Writer

    def __init__(
        self,
        cfg: config.Config,
        folder: pathlib.Path,
        dataset: sources.Dataset,
        recipe: recipes.Recipe,
        across: parallel.Parallel,
        store: checkpoint.Checkpoints,
        batches: Any,
        on_round: OnRound | None,
        best: selection.Standing | None,
    ):
        self.cfg = cfg
        self.folder = folder
        self.across = across
        self.store = store
        self.batches = batches
        self.on_round = on_round
        self.best = best
        self.round = round.Round(
            recipe,
            held_out(dataset, cfg),
            paired=dataset.paired,
            batch_size=cfg.batch_size,
            samples=cfg.samples,
            frozen=perception.load(cfg.metrics),
        )

    def go(
        self, now: state.TrainState, done: int, asked: "_Asked", bar: progress.Progress
    ) -> tuple[state.TrainState, int]:
        """The state and step at the end, everything saved."""
        cfg, per_call = self.cfg, self.cfg.steps_per_dispatch
        if done == 0:
            self._round(now, 0, bar)
        pending: tuple[int, types.Metrics] | None = None
        logged = _Mean()
        while done < cfg.steps and not asked.signal:
            batch = self.across.put(next(self.batches))
            with jax.transfer_guard("disallow"):
                now, metrics = self.across.step(now, batch)
            done += per_call
            # The step runs while the metrics of the one before are read.
            if pending is not None:
                logged.add(*self._read(*pending))
            pending = (done, metrics)
            bar.advance(per_call)
            at_round = done % cfg.round_every == 0 or done == cfg.steps
            at_save = done % cfg.checkpoint_every == 0 or done == cfg.steps or bool(asked.signal)
            at_log = done % cfg.log_every == 0 or done == cfg.steps
            if at_round or at_save or at_log:
                # Nothing is saved or shown of a state whose loss is not finite.
                logged.add(*self._read(*pending))
                pending = None
            if at_log:
                said = logged.take()
                self.out.scalars(done, said)
                bar.log(done, said)
            if at_round and self._round(now, done, bar):
                at_save = True
            if at_save:
                self._save(now)
        if pending is not None:
            self._read(*pending)
        if asked.signal and done:
            self._save(now)
        self.store.wait()
        return now, done

    def _read(self, step: int, metrics: types.Metrics) -> tuple[int, dict[str, float]]:
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not values.pop("finite"):
            culprits = [f"{name}={v}" for name, v in values.items() if not np.isfinite(v)]
            saved = self.store.steps
            raise types.RunError(
                f"the loss is not finite at step {step} ({', '.join(culprits[:3])}): training stops; "
                + (f"the last checkpoint is of step {saved[-1]}" if saved else "there is no checkpoint yet")
                + "; try a smaller learning rate, clip_norm, or float32"
            )
        return step, values

    def _round(self, now: state.TrainState, done: int, bar: progress.Progress) -> bool:
        """Runs a round; whether it is the best so far."""
        started = time.monotonic()
        metrics, standing, columns = self.round(self.across.single(now).ema, done)
        metrics["eval/seconds"] = float(f"{time.monotonic() - started:.3f}")
        path = self.out.samples(done, writer.grid(columns))
        best = done > 0 and standing.beats(self.best)
        if best:
            self.best = standing
            self.store.keep(done)
        self.out.scalars(done, {**metrics, "eval/best": best})
        bar.round(done, metrics, best)
        if self.on_round is not None:
            self.on_round(done, metrics, path)
        return best

    def _save(self, now: state.TrainState) -> None:
        note = {
            "data": self.batches.get_state(),
            "best": self.best.to_dict() if self.best else None,
        }
        self.store.save(self.across.single(now), note)


class _Asked:
    """The signal that asked the run to stop, if any."""

    def __init__(self) -> None:
        self.signal = ""


@contextlib.contextmanager
def _signals() -> Iterator[_Asked]:
    """Notes SIGTERM and SIGINT in place of dying of them; a second one has its usual effect."""
    asked = _Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: Any) -> None:
        del frame
        kind = signal.Signals(number)
        asked.signal = kind.name
        progress.say(f"{kind.name}: saving after this step")
        signal.signal(kind, before[kind])

    try:
        for number in before:
            signal.signal(number, note)
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Mean:
    """The mean of metrics since it was last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, step: int, values: Mapping[str, float]) -> None:
        del step
        self._count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        means = {name: value / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


def local_devices(count: int | None) -> list[jax.Device]:
    """The first `count` local devices, None for all; InputError if there are fewer."""
    there = jax.local_devices()
    if count is None:
        return there
    if not 1 <= count <= len(there):
        raise types.InputError(f"--devices {count}: there are {len(there)} here")
    return there[:count]


def held_out(dataset: sources.Dataset, cfg: config.Config) -> dict[str, np.ndarray]:
    """The pictures of the rounds, source and target, f32[n h w 3] in [0, 1].

    Both are of the validation split where there is one. Few unpaired targets are not the style: those of the
    training split are then added. Sources are always unseen.
    """
    split = dataset.validation or dataset.train
    count = max(cfg.samples, cfg.round_pictures)
    pictures, _ = pipeline.held_out(split, cfg, count)
    if not dataset.paired and split is not dataset.train and len(pictures["target"]) < round.FEWEST:
        seen, _ = pipeline.held_out(dataset.train, cfg, count)
        pictures["target"] = np.concatenate([pictures["target"], seen["target"]])
    return pictures


def _like(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def _claim(folder: pathlib.Path, cfg: config.Config) -> None:
    """Writes the config into the folder; InputError if it belongs to a run of another config."""
    checkpoint.check_writable(folder)
    path = folder / "config.json"
    if path.exists():
        there = config.from_json(path.read_text(encoding="utf-8"), origin=str(path))
        changed = config.differences(there, cfg)
        if changed:
            key, (old, new) = next(iter(changed.items()))
            more = f" and {len(changed) - 1} more keys" if len(changed) > 1 else ""
            raise types.InputError(
                f"{folder} holds a run of another config: {key} is {old!r} there and {new!r} here{more}; "
                "give another --workdir, or the config that it was started with"
            )
    writer.write_text(path, config.to_json(cfg))


def _farewell(result: Result, folder: pathlib.Path, cfg: config.Config, asked: _Asked) -> str:
    if not result.finished:
        return (
            f"stopped by {asked.signal} at step {result.step} of {cfg.steps}, saved in {folder}: "
            "run the same command again to go on"
        )
    best = f"; the best round is step {result.best.step}" if result.best else ""
    return (
        f"finished: {result.step} steps in {folder}{best}; to use it: "
        f"python -m gqst.stylize --workdir {folder} --input PHOTOS --output OUT"
    )
