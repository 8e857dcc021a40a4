"""The steps of a run in their order: dispatch, read, log, round, save, and going back."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from gqst import config, types
from gqst.data import pipeline, sources
from gqst.evaluation import networks
from gqst.quality import alarms, memory, selection
from gqst.runtime import processes, profiler, progress, signals
from gqst.training import checkpoint, parallel, recipes, round, state, writer

MOST_SHARE = 0.05
"""Of the time, that rounds may take before the run says what would lower it."""

SOUND_START = 0.9
"""contrast_structure of the fakes above which a run may go back to its start; below it is left to learn."""

OnRound = Callable[[int, Mapping[str, Any], pathlib.Path], None]


class Run:
    """The steps of one call of `train`, in a fixed order."""

    out: writer.Writer
    profile: profiler.Profile

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
        steered: memory.Steering,
        like: state.TrainState,
    ):
        """Takes the parts that `loop.train` has made; `out` and `profile` are set before `go`."""
        self.cfg = cfg
        self.folder = folder
        self.across = across
        self.store = store
        self.batches = batches
        self.on_round = on_round
        self.steering = steered
        self.like = like
        self.pending: tuple[int, types.Metrics] | None = None
        self.logged = Mean()
        self.since_round = Mean()
        self.last: dict[str, float] = {}
        self.round_ended: float | None = None
        self.told_share = False
        self.round = round.Round(
            recipe,
            held_out(dataset, cfg),
            paired=dataset.paired,
            batch_size=cfg.batch_size,
            samples=cfg.samples,
            where=across.where,
            settled_at=max(cfg.steps // 4, 1),
            frozen=networks.load(cfg.metrics),
        )

    def go(
        self, now: state.TrainState, done: int, asked: signals.Asked, bar: progress.Progress
    ) -> tuple[state.TrainState, int, str]:
        """The state, the step and why it ended, everything saved."""
        cfg, ended = self.cfg, ""
        if done == 0:
            now = self._round(now, 0, bar)[0]
        while not ended:
            try:
                if done < cfg.steps and not asked.signal and not self.steering.stalled:
                    now, done = self._call(now, done, asked, bar)
                    continue
                self._read()
            except SetbackError as grave:
                now, done = self._go_back(grave, bar)
                continue
            ended = "finished"
            if done < cfg.steps and asked.signal:
                ended = f"stopped by {asked.signal}"
            elif done < cfg.steps:
                ended = f"finished early, nothing better in {cfg.stop_after} rounds"
        if done and done not in self.store.steps:
            self._save(now)
        self.store.wait()
        return now, done, ended

    def _call(
        self, now: state.TrainState, done: int, asked: signals.Asked, bar: progress.Progress
    ) -> tuple[state.TrainState, int]:
        """One call to the devices, and what is due after it."""
        cfg, per_call = self.cfg, self.cfg.steps_per_dispatch
        batch = self.across.put(next(self.batches))
        self.profile.before_call()
        with jax.transfer_guard("disallow"):
            now, metrics = self.across.step(now, batch)
        self.profile.after_call(metrics)
        done += per_call
        asked.check(done // per_call)
        # The step runs while the metrics of the one before are read.
        self._read()
        self.pending = (done, metrics)
        bar.advance(per_call)
        at_round = done % cfg.round_every == 0 or done == cfg.steps
        at_save = done % cfg.checkpoint_every == 0 or done == cfg.steps or bool(asked.signal)
        at_log = done % cfg.log_every == 0 or done == cfg.steps
        if at_round or at_save or at_log:
            # Nothing is saved or shown of a state whose loss is not finite.
            self._read()
        if at_log:
            said = self.logged.take()
            self.out.scalars(done, said)
            bar.log(done, said)
        if at_round:
            now, worth_keeping = self._round(now, done, bar)
            at_save = at_save or worth_keeping
        if at_save:
            self._save(now)
        return now, done

    def _read(self) -> None:
        """Takes in the metrics of the last call, if there are any; SetbackError if they are not finite."""
        if self.pending is None:
            return
        (step, metrics), self.pending = self.pending, None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not values.pop("finite"):
            culprits = [f"{name}={v}" for name, v in values.items() if not np.isfinite(v)]
            what = f"the loss is not finite at step {step} ({', '.join(culprits[:3])})"
            raise SetbackError(alarms.Alarm("not_finite", what), step)
        self.logged.add(values)
        self.since_round.add(values)
        self.last = values

    def _round(self, now: state.TrainState, done: int, bar: progress.Progress) -> tuple[state.TrainState, bool]:
        """Runs a round: the state with the weights that follow from it, and whether it is worth keeping."""
        started = time.monotonic()
        single = self.across.single(now)
        found = self.round(single.ema, done)
        # Of one process, so that all decide alike.
        metrics, standing, raised = _told(found)
        metrics |= self._time(started, bar)
        path = self.out.samples(done, found.columns)
        raised += alarms.of_training(self.since_round.take(), self.last)
        # Before the first step there is nothing to tell, but a start from the pictures themselves can be gone back to.
        for alarm in raised if done else ():
            bar.say(f"ALARM at step {done}: {alarm.kind}: {alarm.message}")
            self.out.decision(done, {"alarm": alarm.kind, "message": alarm.message})
        sound = bool(done) or metrics["eval/contrast_structure"] > SOUND_START
        grave = self.steering.judge(raised, done) if sound else None
        best = bool(done) and grave is None and self.steering.rank(standing)
        worth_keeping = grave is None and done in self.steering.kept
        self.store.keep(self.steering.kept)
        metrics["eval/style_distance"] = standing.style_distance
        metrics["eval/shortfall"] = standing.shortfall
        self.out.scalars(done, {**metrics, "eval/best": best})
        bar.round(done, metrics, best)
        if self.on_round is not None and processes.first():
            self.on_round(done, metrics, path)
        if grave is not None:
            raise SetbackError(grave, done)
        if not done:
            return now, False
        weights = {label: float(value) for label, value in jax.device_get(single.multipliers).items()}
        new, trail = self.steering.weigh(metrics, weights)
        for decision in trail:
            self.out.decision(done, decision.to_dict())
        if new != weights:
            held = {label: np.float32(value) for label, value in new.items()}
            now = now.replace(multipliers=self.across.spread(held))
        return now, worth_keeping

    def _time(self, started: float, bar: progress.Progress) -> dict[str, float]:
        """The seconds of a round, and their share of the time since the one before; the first one compiles."""
        ended, before = time.monotonic(), self.round_ended
        self.round_ended = ended
        told = {"eval/seconds": float(f"{ended - started:.3f}")}
        if before is None:
            return told
        told["eval/share"] = float(f"{(ended - started) / (ended - before):.4f}")
        if told["eval/share"] > MOST_SHARE and not self.told_share:
            self.told_share = True
            bar.say(
                f"rounds take {told['eval/share']:.0%} of the time: "
                "a larger round_every, a smaller round_pictures or fewer metrics cost less"
            )
        return told

    def _go_back(self, grave: "SetbackError", bar: progress.Progress) -> tuple[state.TrainState, int]:
        """The last good state with a smaller learning rate; RunError if there is none, or once too often."""
        self.pending = None
        self.logged, self.since_round = Mean(), Mean()
        self.store.wait()
        good = grave.step if grave.alarm.kind == "not_finite" else self.steering.good
        single = None
        if self.steering.rollbacks < self.cfg.rollbacks:
            restored = self.store.restore(self.like, at_most=good)
            single = restored[0] if restored is not None else None
            if single is None and good == 0:
                single = self.across.single(self.across.create(self.cfg.seed))
        if single is None:
            saved = self.store.steps
            raise types.RunError(
                f"{grave.alarm.message}: training stops"
                + (f" after {self.steering.rollbacks} roll-backs" if self.steering.rollbacks else "")
                + (f"; the last checkpoint is of step {saved[-1]}" if saved else "; there is no checkpoint yet")
                + "; try a smaller learning rate, clip_norm, or float32"
            )
        done = int(single.step)
        self.store.drop_after(done)
        self.steering.go_back(done)
        self.store.keep(self.steering.kept)
        now = self.across.spread(single.replace(rate=np.float32(self.steering.rate)))
        told = (
            f"{grave.alarm.kind} at step {grave.step}: back to step {done}, learning rates times {self.steering.rate}"
        )
        bar.say(told)
        bar.go_back(done)
        self.out.decision(done, {"rollback": grave.alarm.kind, "from": grave.step, "rate": self.steering.rate})
        return now, done

    def _save(self, now: state.TrainState) -> None:
        note = {"data": self.batches.get_state(), "trail": self.out.decisions, **self.steering.note()}
        self.store.save(self.across.single(now), note)


class SetbackError(Exception):
    """The run cannot go on from where it is."""

    def __init__(self, alarm: alarms.Alarm, step: int):
        super().__init__(alarm.message)
        self.alarm = alarm
        self.step = step


class Mean:
    """The mean of metrics since it was last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, values: Mapping[str, float]) -> None:
        """Takes metrics in."""
        self._count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """The means, by name; it then starts anew."""
        means = {name: value / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


def _told(found: round.Outcome) -> tuple[dict[str, Any], selection.Standing, list[alarms.Alarm]]:
    """The figures of a round as process 0 has them."""
    known = [found.metrics, dataclasses.astuple(found.standing), [dataclasses.astuple(a) for a in found.alarms]]
    metrics, standing, raised = processes.told(known)
    return metrics, selection.Standing(*standing), [alarms.Alarm(*alarm) for alarm in raised]


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
