"""The run: the only module that puts side effects in order."""

import contextlib
import dataclasses
import pathlib

import jax

from gqst import config, overrides, types
from gqst.data import pipeline, sources
from gqst.pictures import files
from gqst.quality import memory, selection
from gqst.runtime import processes, profiler, progress, signals
from gqst.training import checkpoint, parallel, recipes, run, summary, writer


@dataclasses.dataclass(frozen=True)
class Result:
    """How a call of `train` ended.

    Attributes:
      step: steps done, of the whole run.
      finished: whether no more is to be done; otherwise a signal stopped it.
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
    on_round: run.OnRound | None = None,
    quiet: bool = False,
    profiled: int = 0,
) -> Result:
    """Trains in `workdir` until `cfg.steps`, going on from its newest checkpoint if it has one.

    SIGTERM and Ctrl-C end it after the step at hand, saved. Several processes of one run, joined by
    `processes.joined`, all make the same call, with a workdir on storage that they share.

    Args:
      cfg: the experiment.
      workdir: folder of the run; made if absent.
      mode: `jit` or `pmap`.
      devices: how many devices to use, where this is the only process; None is all.
      on_round: called after every round, on process 0, with step, metrics and the path of the sample grid.
      quiet: whether to show no progress.
      profiled: calls to the devices of which to write a trace for XProf into `<workdir>/profile`.

    Raises:
      InputError: config, data or workdir cannot be used, or a checkpoint cannot be written.
      RunError: a loss is not finite, or the fakes are inverted or collapsed, and going back did not help.
    """
    folder = pathlib.Path(workdir)
    # 1. Everything that can be wrong with the input is found before anything is written, on all processes.
    dataset, recipe, across = processes.together(lambda: _prepare(cfg, mode, devices))
    processes.check_same("the config", overrides.flat(cfg))
    processes.check_same("the data", {name: split.sizes for name, split in dataset.splits.items()})
    processes.at_first(lambda: _claim(folder, cfg))
    processes.together(lambda: _check_shared(folder))
    store = checkpoint.Checkpoints(folder / "checkpoints", keep=cfg.keep_checkpoints, keep_every=cfg.keep_every)
    batches = pipeline.make_iterator(
        dataset,
        cfg,
        batch_size=cfg.batch_size // jax.process_count(),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        stack=cfg.steps_per_dispatch,
    )
    # 2. A checkpoint wins over a new state; its note says where the data and the best round stand.
    now = across.create(cfg.seed)
    # One checkpoint is written before the oldest is deleted.
    checkpoint.check_space(store.directory, 2 * summary.state_bytes(across.single(now)))
    like = jax.tree.map(_like, across.single(now))
    restored = store.restore(like)
    steered, decisions = memory.Steering(cfg, recipe.targets), 0
    if restored is not None:
        single, note = restored
        now = across.spread(single)
        batches.set_state(note["data"])
        steered.recall(note)
        decisions = note["trail"]
        store.keep(steered.kept)
    done = int(across.single(now).step)
    session = run.Run(cfg, folder, dataset, recipe, across, store, batches, on_round, steered, like)
    with contextlib.ExitStack() as stack:
        stack.callback(batches.close)
        stack.callback(store.close)
        kind = writer.Writer if processes.first() else writer.Mute
        session.out = kind(folder, step=done, decisions=decisions)
        stack.callback(session.out.close)
        asked = stack.enter_context(signals.noted())
        quiet = quiet or not processes.first()
        bar = progress.Progress(cfg.steps, done, pictures=cfg.batch_size, quiet=quiet)
        stack.callback(bar.close)
        session.profile = profiler.Profile(folder / "profile", profiled if processes.first() else 0, bar.say)
        stack.callback(session.profile.close)
        if restored is not None:
            bar.say(f"going on from step {done} of {cfg.steps} in {folder}")
        now, done, ended = session.go(now, done, asked, bar)
    result = Result(step=done, finished=not ended.startswith("stopped"), traces=across.traces, best=steered.best)
    if not quiet:
        progress.say(_farewell(result, folder, cfg, ended))
    return result


def _prepare(
    cfg: config.Config, mode: parallel.Mode, devices: int | None
) -> tuple[sources.Dataset, recipes.Recipe, parallel.Parallel]:
    dataset = sources.build(cfg.data, validation=cfg.validation)
    recipe = recipes.build(cfg, paired=dataset.paired)
    across = parallel.build(
        recipe,
        mode=mode,
        batch_size=cfg.batch_size,
        repeats=cfg.steps_per_dispatch,
        devices=chosen_devices(devices),
    )
    return dataset, recipe, across


def _check_shared(folder: pathlib.Path) -> None:
    """InputError if this process does not see what process 0 has written."""
    if not (folder / "config.json").exists():
        raise types.InputError(f"{folder} of process 0 is not seen here: --workdir has to be on storage that all share")


def chosen_devices(count: int | None) -> list[jax.Device]:
    """The first `count` devices, None for all, of all processes; InputError if there are fewer."""
    there = jax.devices()
    if count is None:
        return there
    if processes.several():
        raise types.InputError("--devices does not go with several processes: all of their devices are used")
    if not 1 <= count <= len(there):
        raise types.InputError(f"--devices {count}: there are {len(there)} here")
    return there[:count]


def _like(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def _claim(folder: pathlib.Path, cfg: config.Config) -> None:
    """Writes the config into the folder; InputError if it belongs to a run of another config."""
    checkpoint.check_writable(folder)
    path = folder / "config.json"
    if path.exists():
        there = overrides.from_json(path.read_text(encoding="utf-8"), origin=str(path))
        changed = overrides.differences(there, cfg)
        if changed:
            key, (old, new) = next(iter(changed.items()))
            more = f" and {len(changed) - 1} more keys" if len(changed) > 1 else ""
            raise types.InputError(
                f"{folder} holds a run of another config: {key} is {old!r} there and {new!r} here{more}; "
                "give another --workdir, or the config that it was started with"
            )
    files.write_text(path, overrides.to_json(cfg))


def _farewell(result: Result, folder: pathlib.Path, cfg: config.Config, ended: str) -> str:
    if not result.finished:
        return f"{ended} at step {result.step} of {cfg.steps}, saved in {folder}: run the same command again to go on"
    best = f"; the best round is step {result.best.step}" if result.best else ""
    return (
        f"{ended}: {result.step} steps in {folder}{best}; to use it: "
        f"python -m gqst.stylize --workdir {folder} --input PHOTOS --output OUT"
    )
