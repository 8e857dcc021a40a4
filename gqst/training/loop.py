"""The training loop: the only module that puts side effects in order."""

import dataclasses
import enum
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from gqst import config, storage, types
from gqst.quality import alarms, selection
from gqst.runtime import processes, progress
from gqst.training import parallel, setup
from gqst.training.log import Mean
from gqst.training.rounds import RoundResult

MAX_ROUND_SHARE = 0.05
"""Share of the time that rounds may take before the run suggests how to lower it."""

SOUND_START = 0.9
"""contrast_structure of the initial fakes above which a run may roll back to its start; below, it is left to learn."""


class Ending(enum.Enum):
    """The reason why a call of `fit` returned."""

    FINISHED = "finished"
    STALLED = "finished early"
    STOPPED = "stopped"


@dataclasses.dataclass(frozen=True)
class Result:
    """The end of a call of `fit`.

    Attributes:
      step: Number of optimiser steps taken, of the whole run.
      ending: Reason why it ended.
      traces: Number of times the step was compiled.
      best: The best round, if there was one.
    """

    step: int
    ending: Ending
    traces: int
    best: selection.Standing | None

    @property
    def finished(self) -> bool:
        """True if the run is over; otherwise a signal stopped it, and it can be resumed."""
        return self.ending is not Ending.STOPPED


def fit(
    cfg: config.Config,
    workdir: str | pathlib.Path,
    *,
    mode: parallel.Mode = "jit",
    devices: int | None = None,
    on_round: setup.OnRound | None = None,
    quiet: bool = False,
    profile_calls: int = 0,
) -> Result:
    """Trains in `workdir` until `cfg.steps`, from its newest checkpoint if it has one.

    SIGTERM and Ctrl-C end it after the current step, which is saved. Several processes of one run, joined by
    `processes.joined`, all make the same call, with a workdir on storage that they share.

    Args:
      cfg: The experiment.
      workdir: Folder of the run; created if absent.
      mode: `jit` or `pmap`.
      devices: Number of devices to use, if this is the only process; None uses all.
      on_round: Called after every round, on process 0, with step, metrics and the path of the sample grid.
      quiet: Whether to hide progress.
      profile_calls: Number of calls to the devices to trace for XProf, into `<workdir>/profile`.

    Returns:
      Last step, reason of the end, and best round.

    Raises:
      InputError: Config, data or workdir cannot be used, or a checkpoint cannot be written.
      RunError: A loss is not finite, or the fakes are inverted or collapsed, and going back did not help.
    """
    folder = storage.path(workdir)
    options: dict[str, Any] = {"mode": mode, "devices": devices, "on_round": on_round, "quiet": quiet}
    with setup.opened(cfg, folder, profile_calls=profile_calls, **options) as run:
        ending = train(run)
        result = Result(step=run.step, ending=ending, traces=run.parallel.traces, best=run.memory.best)
    if not quiet and processes.is_first():
        progress.say(_farewell(run, result))
    return result


def train(run: setup.Run) -> Ending:
    """Runs the steps that are left, in the order of the numbered comments; everything is saved at the end."""
    cfg, per_call = run.config, run.config.steps_per_dispatch
    metrics = _Metrics()
    rounds = _Rounds()
    if run.step == 0:
        rounds(run, metrics)
    while True:
        try:
            # 1. The end: all steps done, a signal, or nothing better for long. The last metrics may still roll it back.
            ending = _ending(run)
            if ending is not None:
                metrics.read()
                break
            # 2. One call to the devices.
            batch = run.parallel.put(next(run.batches))
            run.profiler.before_call()
            with jax.transfer_guard("disallow"):
                run.state, device_metrics = run.parallel.step(run.state, batch)
            run.profiler.after_call(device_metrics)
            run.step += per_call
            run.stop.check(run.step // per_call)
            # 3. The metrics of the call before are read while this one runs.
            metrics.read()
            metrics.pending = (run.step, device_metrics)
            run.progress.advance(per_call)
            log_due, round_due, save_due = (
                run.step % every == 0 or run.step == cfg.steps
                for every in (cfg.log_every, cfg.round_every, cfg.checkpoint_every)
            )
            save_due = save_due or bool(run.stop.signal)
            if log_due or round_due or save_due:
                # A state whose loss is not finite is never saved or shown.
                metrics.read()
            # 4. Training metrics.
            if log_due:
                means = metrics.since_log.take()
                run.log.scalars(run.step, means)
                run.progress.log(run.step, means)
            # 5. A round: held-out pictures decide about weights, the best checkpoint, and whether to go back.
            if round_due:
                save_due = rounds(run, metrics) or save_due
                run.report()
            # 6. A checkpoint.
            if save_due:
                _save(run)
        except SetbackError as setback:
            # 7. Back to the last good checkpoint.
            metrics = _Metrics()
            _roll_back(run, setback)
    if run.step and run.step not in run.checkpoints.steps:
        _save(run)
    run.checkpoints.wait()
    return ending


class SetbackError(Exception):
    """Raised when a run cannot continue from its present state."""

    def __init__(self, alarm: alarms.Alarm, step: int):
        super().__init__(alarm.message)
        self.alarm = alarm
        self.step = step


class _Metrics:
    """The training metrics of the last calls to the devices, read one call late.

    Attributes:
      pending: Step and metrics of the last call, still on the devices.
      since_log: Means since they were last logged.
      since_round: Means since the last round.
      last: Metrics of the last call that was read.
    """

    def __init__(self) -> None:
        self.pending: tuple[int, types.Metrics] | None = None
        self.since_log = Mean()
        self.since_round = Mean()
        self.last: dict[str, float] = {}

    def read(self) -> None:
        """Waits for the last call's metrics, if they are still pending; SetbackError if they are not finite."""
        if self.pending is None:
            return
        (step, metrics), self.pending = self.pending, None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not values.pop("finite"):
            culprits = [f"{name}={value}" for name, value in values.items() if not np.isfinite(value)]
            message = f"the loss is not finite at step {step} ({', '.join(culprits[:3])})"
            raise SetbackError(alarms.Alarm("not_finite", message), step)
        self.since_log.add(values)
        self.since_round.add(values)
        self.last = values


class _Rounds:
    """The rounds of one call of `train`, and the share of the time that they take."""

    def __init__(self) -> None:
        self._ended: float | None = None
        self._warned = False

    def __call__(self, run: setup.Run, training: _Metrics) -> bool:
        """Measures held-out pictures and acts on the result; returns whether the round is worth a checkpoint.

        Raises:
          SetbackError: The fakes call for going back.
        """
        started = time.monotonic()
        # 1. Measure; all processes take the numbers of the first, so that they decide alike.
        single = run.parallel.single(run.state)
        result = run.measure(single.ema, run.step)
        metrics, standing, raised = _agreed(result)
        metrics |= self._times(started, run.progress)
        # 2. Alarms, on the terminal and in the log; before the first step there is nothing to report.
        samples = run.log.samples(run.step, result.columns)
        raised += alarms.of_training(training.since_round.take(), training.last)
        for alarm in raised if run.step else ():
            run.progress.say(f"ALARM at step {run.step}: {alarm.kind}: {alarm.message}")
            run.log.decision(run.step, {"alarm": alarm.kind, "message": alarm.message})
        # 3. Judge: good or grave, best or not. A start from the pictures themselves counts as good.
        sound = bool(run.step) or metrics["contrast_structure"] > SOUND_START
        grave = run.memory.judge(raised, run.step) if sound else None
        best = bool(run.step) and grave is None and run.memory.rank(standing)
        run.checkpoints.keep(run.memory.kept)
        # 4. Show.
        if best:
            run.log.worst_and_best(run.step, result.extremes)
        metrics |= {"style_distance": standing.style_distance, "shortfall": standing.shortfall}
        # Logs and callbacks tell held-out metrics from training metrics by this prefix.
        held_out = {f"eval/{name}": value for name, value in metrics.items()}
        run.log.scalars(run.step, {**held_out, "eval/best": best})
        run.progress.log_round(run.step, metrics, best)
        if run.on_round is not None and processes.is_first():
            run.on_round(run.step, held_out, samples)
        if grave is not None:
            raise SetbackError(grave, run.step)
        if not run.step:
            return False
        # 5. Steer: the multipliers of quality losses follow their targets.
        old = {label: float(value) for label, value in jax.device_get(single.multipliers).items()}
        new, decisions = run.memory.weigh(metrics, old)
        for decision in decisions:
            run.log.decision(run.step, decision.to_dict())
        if new != old:
            multipliers = {label: np.float32(value) for label, value in new.items()}
            run.state = run.state.replace(multipliers=run.parallel.spread(multipliers))
        return run.step in run.memory.kept

    def _times(self, started: float, bar: progress.Progress) -> dict[str, float]:
        """Seconds of a round, and their share of the time since the one before; the first one compiles."""
        ended, before = time.monotonic(), self._ended
        self._ended = ended
        times = {"seconds": float(f"{ended - started:.3f}")}
        if before is None:
            return times
        times["share"] = share = float(f"{(ended - started) / (ended - before):.4f}")
        if share > MAX_ROUND_SHARE and not self._warned:
            self._warned = True
            bar.say(
                f"rounds take {share:.0%} of the time: "
                "a larger round_every, a smaller round_pictures or fewer metrics cost less"
            )
        return times


def _ending(run: setup.Run) -> Ending | None:
    """The reason to end at this step; None to continue."""
    if run.step >= run.config.steps:
        return Ending.FINISHED
    if run.stop.signal:
        return Ending.STOPPED
    return Ending.STALLED if run.memory.stalled else None


def _agreed(result: RoundResult) -> tuple[dict[str, Any], selection.Standing, list[alarms.Alarm]]:
    """The result of a round as process 0 measured it."""
    own = [result.metrics, dataclasses.astuple(result.standing), [dataclasses.astuple(a) for a in result.alarms]]
    metrics, standing, raised = processes.broadcast(own)
    return metrics, selection.Standing(*standing), [alarms.Alarm(*alarm) for alarm in raised]


def _save(run: setup.Run) -> None:
    note: Mapping[str, Any] = {
        "data": run.batches.get_state(),
        "directions": run.recipe.directions,
        "trail": run.log.decisions,
        **run.memory.note(),
    }
    # A run that resumes from it finds the log up to it.
    run.publish()
    run.checkpoints.save(run.parallel.single(run.state), note)


def _roll_back(run: setup.Run, setback: SetbackError) -> None:
    """Goes back to the last good state with a smaller learning rate; RunError if none is left or allowed."""
    run.checkpoints.wait()
    good = setback.step if setback.alarm.kind == "not_finite" else run.memory.good
    single = None
    if run.memory.rollbacks < run.config.rollbacks:
        restored = run.checkpoints.restore(run.abstract_state, at_most=good)
        single = restored[0] if restored is not None else None
        if single is None and good == 0:
            single = run.begin()
    if single is None:
        saved = run.checkpoints.steps
        raise types.RunError(
            f"{setback.alarm.message}: training stops"
            + (f" after {run.memory.rollbacks} roll-backs" if run.memory.rollbacks else "")
            + (f"; the last checkpoint is of step {saved[-1]}" if saved else "; there is no checkpoint yet")
            + "; try a smaller learning rate, clip_norm, or float32"
        )
    run.step = int(single.step)
    run.checkpoints.drop_after(run.step)
    run.memory.go_back(run.step)
    run.checkpoints.keep(run.memory.kept)
    run.state = run.parallel.spread(single.replace(rate=np.float32(run.memory.rate)))
    kind, rate = setback.alarm.kind, run.memory.rate
    run.progress.say(f"{kind} at step {setback.step}: back to step {run.step}, learning rates times {rate}")
    run.progress.rewind(run.step)
    run.log.decision(run.step, {"rollback": kind, "from": setback.step, "rate": rate})


def _farewell(run: setup.Run, result: Result) -> str:
    reason = {
        Ending.FINISHED: "finished",
        Ending.STALLED: f"finished early, nothing better in {run.config.stop_after} rounds",
        Ending.STOPPED: f"stopped by {run.stop.signal}",
    }[result.ending]
    if not result.finished:
        return (
            f"{reason} at step {result.step} of {run.config.steps}, saved in {run.workdir}: "
            "run the same command again to go on"
        )
    best = f"; the best round is step {result.best.step}" if result.best else ""
    style = "" if run.recipe.structures is None else " --style PAINTING"
    return (
        f"{reason}: {result.step} steps in {run.workdir}{best}; to use it: "
        f"python -m gqst.stylize --workdir {run.workdir}{style} --input PHOTOS --output OUT"
    )
