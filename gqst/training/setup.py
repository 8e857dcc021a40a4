"""The parts of a run, opened in a fixed order before the first step and closed after the last."""

import contextlib
import dataclasses
import functools
import glob
import json
import logging
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from gqst import config, overrides, storage, types
from gqst.data import pipeline, sources
from gqst.pictures import files
from gqst.quality.memory import Memory
from gqst.report import refresh
from gqst.runtime import environment, lock, processes, profiler, progress, signals
from gqst.training import checkpoint, log, parallel, restore, summary
from gqst.training.recipe import Recipe
from gqst.training.rounds import FEWEST, Round
from gqst.training.state import TrainState

_CONFIG, _DATA, _ENVIRONMENT = "config.json", "data.json", "environment.json"
_MIRRORED_EVERY = 10.0
"""Seconds between two copies of a run's files to its bucket."""
_STYLES = 16
"""Largest number of pictures whose mean style a run starts with, if it starts with a generator that takes styles."""

_log = logging.getLogger("gqst")

OnRound = Callable[[int, Mapping[str, Any], pathlib.Path], None]
"""Called after every round, on process 0, with step, metrics and the path of the sample grid."""


@dataclasses.dataclass(kw_only=True)
class Run:
    """All parts of a run.

    Attributes:
      config: The experiment.
      workdir: Folder of the run.
      publish: Function that copies the files of a run in a bucket there, now rather than in some seconds.
      recipe: Static parts of the step.
      parallel: Compiled step, and layout of the state on the devices.
      batches: Training batches without end.
      measure: Measurement of held-out pictures.
      memory: Results of the rounds so far, and the decisions that follow from them.
      checkpoints: Folder of checkpoints.
      log: Metrics, decisions and sample grids on disk.
      report: Refreshes the page of the run, on process 0.
      progress: Display on the terminal.
      profiler: Trace of some calls to the devices.
      stop: Request to stop, by a signal.
      start: Function that reads the networks that the run starts with; None if the config names none.
      on_round: Callback after every round, or None.
      state: Train state on the devices.
      step: Number of optimiser steps taken; always that of `state`.
    """

    config: config.Config
    workdir: pathlib.Path
    publish: Callable[[], None]
    recipe: Recipe
    parallel: parallel.Parallel
    batches: pipeline.BatchIterator
    measure: Round
    memory: Memory
    checkpoints: checkpoint.Checkpoints
    log: log.Log
    report: Callable[[], None]
    progress: progress.Progress
    profiler: profiler.Profiler
    stop: signals.StopRequest
    start: Callable[[], restore.Start] | None
    on_round: OnRound | None
    state: TrainState
    step: int

    def begin(self) -> TrainState:
        """Returns one copy of the state of step 0; InputError if what it starts from is gone."""
        new = self.parallel.single(self.parallel.create(self.config.seed))
        return new if self.start is None else restore.begun(self.start(), new)

    @property
    def abstract_state(self) -> TrainState:
        """The state as shapes, types and shardings of one copy, as checkpoints take it."""
        return abstract(self.parallel.single(self.state))


@contextlib.contextmanager
def opened(
    cfg: config.Config,
    workdir: pathlib.Path,
    *,
    mode: parallel.Mode = "jit",
    devices: int | None = None,
    on_round: OnRound | None = None,
    quiet: bool = False,
    profile_calls: int = 0,
) -> Iterator[Run]:
    """Opens a run in its folder, from the newest checkpoint if it has one; closes everything at the end.

    The arguments are those of `loop.fit`.

    Raises:
      InputError: Config, data or workdir cannot be used.
    """
    # 1. All input is checked, on all processes, before anything is written.
    dataset, recipe, trainer = processes.run_on_all(lambda: _build(cfg, workdir, mode, devices))
    fresh = not checkpoint.exists(workdir / "checkpoints")
    read = functools.partial(restore.start, recipe, lambda: _styles(dataset, cfg)) if cfg.start_from else None
    start = processes.run_on_all(read) if fresh and read is not None else None
    processes.check_same("the config", overrides.flat(cfg))
    processes.check_same("the data", {name: split.sizes for name, split in dataset.splits.items()})
    with contextlib.ExitStack() as stack:
        # 2. The folder belongs to this process and to this config, and all processes see it.
        processes.run_on_first(lambda: checkpoint.check_writable(workdir))
        processes.run_on_first(lambda: stack.enter_context(lock.held(workdir)))
        files_in, publish = processes.run_on_all(lambda: _files_of(workdir, stack))
        processes.run_on_first(lambda: _claim(files_in, workdir, cfg, sources.fingerprint(dataset)))
        processes.run_on_first(publish)
        processes.run_on_all(lambda: _check_shared(workdir))
        where = workdir if checkpoint.is_native(workdir) else files_in
        checkpoints = checkpoint.Checkpoints(
            where / "checkpoints", keep=cfg.keep_checkpoints, keep_every=cfg.keep_every
        )
        stack.callback(checkpoints.close)
        batches = pipeline.make_iterator(
            dataset,
            cfg,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            stack=cfg.steps_per_dispatch,
        )
        stack.callback(batches.close)
        # 3. A checkpoint wins over a new state; its note holds the positions of data, rounds and decisions.
        state = trainer.create(cfg.seed)
        # One checkpoint is written before the oldest is deleted.
        checkpoint.check_space(checkpoints.directory, 2 * summary.state_bytes(trainer.single(state)))
        memory, decisions = Memory(cfg, recipe.targets), 0
        restored = checkpoints.restore(abstract(trainer.single(state)))
        if restored is not None:
            single, note = restored
            state = trainer.spread(single)
            batches.set_state(note["data"])
            memory.recall(note)
            decisions = note["trail"]
            checkpoints.keep(memory.kept)
        elif start is not None:
            state = trainer.spread(restore.begun(start, trainer.single(state)))
        step = int(trainer.single(state).step)
        # 4. The rounds; this reads their held-out pictures.
        measure = Round(recipe, held_out(dataset, cfg), trainer.mesh)
        # 5. Logs, progress and profile, on the first process alone.
        first = processes.is_first()
        run_log = (log.Log if first else log.NullLog)(files_in, step=step, decisions=decisions)
        report = refresh.Refresher(files_in, workdir) if first else None
        if report is not None:
            # Once everything else is closed.
            stack.callback(report.close)
        stack.callback(run_log.close)
        stop = stack.enter_context(signals.listen())
        bar = progress.Progress(cfg.steps, step, pictures=cfg.batch_size, quiet=quiet or not first)
        stack.callback(bar.close)
        trace = profiler.Profiler(files_in / "profile", profile_calls if first else 0, bar.say)
        stack.callback(trace.close)
        if restored is not None:
            bar.say(f"going on from step {step} of {cfg.steps} in {workdir}")
        elif start is not None:
            run_log.decision(0, start.note)
            judge = "; its discriminator is new" if recipe.adversarial and not start.discriminators else ""
            bar.say(f"starting with the generator of {cfg.start_from}, step {start.note['of_step']}{judge}")
        # 6. Processes take different times to read a checkpoint, and the first step waits only so long for all of them.
        processes.meet()
        yield Run(
            config=cfg,
            workdir=workdir,
            publish=publish,
            recipe=recipe,
            parallel=trainer,
            batches=batches,
            measure=measure,
            memory=memory,
            checkpoints=checkpoints,
            log=run_log,
            report=report or (lambda: None),
            progress=bar,
            profiler=trace,
            stop=stop,
            start=read,
            on_round=on_round,
            state=state,
            step=step,
        )


def held_out(dataset: sources.Dataset, cfg: config.Config) -> dict[str, np.ndarray]:
    """Returns the pictures of the rounds, source and target, f32[n h w 3] in [0, 1].

    Both come from the validation split if there is one. A few unpaired targets do not represent a style, so those of
    the training split are added to them; sources of the training split never are.
    """
    split = dataset.validation or dataset.train
    count = max(cfg.samples, cfg.round_pictures)
    pictures, _ = pipeline.held_out(split, cfg, count)
    if not dataset.paired and split is not dataset.train and len(pictures["target"]) < FEWEST:
        training, _ = pipeline.held_out(dataset.train, cfg, count)
        pictures["target"] = np.concatenate([pictures["target"], training["target"]])
    return pictures


def _styles(dataset: sources.Dataset, cfg: config.Config) -> np.ndarray:
    """Some training pictures of the style domain, f32[n h w 3] in [0, 1]."""
    return pipeline.held_out(dataset.train, cfg, _STYLES)[0]["target"]


def abstract(tree: Any) -> Any:
    """Returns a tree of arrays as their shapes, types and shardings."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def _build(
    cfg: config.Config, workdir: pathlib.Path, mode: parallel.Mode, devices: int | None
) -> tuple[sources.Dataset, Recipe, parallel.Parallel]:
    try:
        dataset = sources.load(cfg)
    except types.InputError as error:
        if (workdir / _CONFIG).exists():
            raise types.InputError(
                f"{error}; if the data has moved, give its new place, as in --set data.root=NEW, and the run goes on"
            ) from error
        raise
    recipe = Recipe(cfg, paired=dataset.paired)
    return (
        dataset,
        recipe,
        parallel.build(
            recipe,
            mode=mode,
            batch_size=cfg.batch_size,
            repeats=cfg.steps_per_dispatch,
            devices=_chosen_devices(devices),
        ),
    )


def _chosen_devices(count: int | None) -> list[jax.Device]:
    """The first `count` devices, None for those of all processes; InputError if there are fewer."""
    devices = jax.devices()
    if count is None:
        return devices
    if processes.is_distributed():
        raise types.InputError("--devices does not go with several processes: all of their devices are used")
    if not 1 <= count <= len(devices):
        raise types.InputError(f"--devices {count}: there are {len(devices)} here")
    return devices[:count]


def _files_of(workdir: pathlib.Path, stack: contextlib.ExitStack) -> tuple[pathlib.Path, Callable[[], None]]:
    """Returns the folder on disk for the files of a run, and what copies them to its bucket if it has one.

    Of several processes, the first one copies.

    Raises:
      InputError: The bucket is of a kind that several processes cannot share.
    """
    if not storage.is_remote(workdir):
        return workdir, lambda: None
    native = checkpoint.is_native(workdir)
    if glob.has_magic(str(workdir)):
        # Libraries take it for a pattern, and would delete checkpoints of the runs that it matches.
        raise types.InputError(f"{workdir}: the name of a run in a bucket has none of * ? [")
    if processes.is_distributed() and not native:
        raise types.InputError(
            f"{workdir}: several processes share a run on storage that all of them see, or in gs://, not in s3://"
        )
    if not processes.is_first():
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gqst-"))
        return pathlib.Path(folder), lambda: None
    mirror = storage.Mirror(
        workdir,
        last=checkpoint.METADATA,
        ignored=checkpoint.UNFINISHED,
        wanted=lambda name: not (native and name.startswith("checkpoints/")),
        every=_MIRRORED_EVERY,
    )
    stack.callback(mirror.close)
    return mirror.local, mirror.try_to_push


def _claim(folder: pathlib.Path, workdir: pathlib.Path, cfg: config.Config, prints: Mapping[str, Any]) -> None:
    """Writes the config, the data's fingerprint and the environment into the folder on disk of a workdir.

    Raises:
      InputError: The folder belongs to a run of another config, or of other data.
    """
    path = folder / _CONFIG
    if path.exists():
        earlier = overrides.from_json(path.read_text(encoding="utf-8"), origin=str(path))
        changed = overrides.differences(earlier, cfg)
        moved = {key: values for key, values in changed.items() if _is_place(key, values)}
        others = {key: values for key, values in changed.items() if key not in moved}
        if others:
            key, (old, new) = next(iter(others.items()))
            more = f" and {len(others) - 1} more keys" if len(others) > 1 else ""
            raise types.InputError(
                f"{workdir} holds a run of another config: {key} is {old!r} there and {new!r} here{more}; "
                "give another --workdir, or the config that it was started with"
            )
        if moved:
            _check_moved(folder, workdir, moved, prints)
    files.write_text(folder / _DATA, json.dumps(prints, indent=1) + "\n")
    files.write_text(folder / _ENVIRONMENT, json.dumps(environment.describe(), indent=1) + "\n")
    files.write_text(path, overrides.to_json(cfg))


def _is_place(key: str, values: tuple[Any, Any]) -> bool:
    return key.startswith("data.options.") and all(isinstance(value, str | None) for value in values)


def _check_moved(
    folder: pathlib.Path, workdir: pathlib.Path, moved: Mapping[str, tuple[str, str]], prints: Mapping[str, Any]
) -> None:
    """Tells that the data has moved; InputError if it is other data."""
    where = ", ".join(f"{key.replace('.options', '')} from {old} to {new}" for key, (old, new) in moved.items())
    counts = {domain: count for domain, (count, _) in prints.items()}
    told = f"the same {counts['train/source']} and {counts['train/target']} pictures by name"
    try:
        earlier: Any = json.loads((folder / _DATA).read_text(encoding="utf-8"))
        same = earlier == dict(prints)
    except (OSError, ValueError):
        # A run of before fingerprints: its checkpoints note the numbers of training pictures.
        earlier = checkpoint.noted_pictures(workdir / "checkpoints")
        same = earlier in (None, [counts["train/source"], counts["train/target"]])
        told = "only the numbers of pictures could be compared"
    if not same:
        raise types.InputError(
            f"{workdir} holds a run of other data: {where} does not lead to the same pictures by number and name; give "
            "another --workdir, or the data that it was started with"
        )
    _log.warning("the data has moved, %s: %s", where, told)


def _check_shared(workdir: pathlib.Path) -> None:
    """Raises InputError if this process does not see what process 0 has written."""
    if not (workdir / _CONFIG).exists():
        raise types.InputError(
            f"{workdir} of process 0 is not seen here: --workdir has to be on storage that all processes share"
        )
