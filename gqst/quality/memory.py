"""The rounds of a run so far, which decide about weights, the best round and the end of the run."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gqst import config
from gqst.quality import alarms, selection
from gqst.quality.targets import Decision, Target, decide


class Memory:
    """The rounds of a run and the decisions they lead to; `note` and `recall` carry them through a checkpoint.

    Attributes:
      standings: Standings of all rounds after the first step.
      good: Step of the last round without an alarm that calls for a roll-back; None before there is one.
      rollbacks: Number of roll-backs so far.
    """

    def __init__(self, cfg: config.Config, targets: Sequence[Target]):
        """Starts a run with these targets and no rounds."""
        self._cfg = cfg
        self._targets = targets
        self._smoothed: dict[str, float] = {}
        self.standings: list[selection.Standing] = []
        self.good: int | None = None
        self.rollbacks = 0

    @property
    def best(self) -> selection.Standing | None:
        """Best round so far; None before the first."""
        front = selection.front(self.standings)
        return front[0] if front else None

    @property
    def kept(self) -> list[int]:
        """Steps whose checkpoints are worth keeping: the best rounds of the Pareto set, the best first."""
        return [s.step for s in selection.front(self.standings)][: self._cfg.keep_checkpoints]

    @property
    def stalled(self) -> bool:
        """True if the run should end because nothing improves."""
        rounds = self._cfg.stop_after
        return rounds is not None and selection.stalled(self.standings, rounds)

    @property
    def rate(self) -> float:
        """Factor on the learning rates after the roll-backs so far."""
        return 0.5**self.rollbacks

    def rank(self, standing: selection.Standing) -> bool:
        """Adds a round and returns whether it is the best so far."""
        self.standings.append(standing)
        return self.best == standing

    def weigh(
        self, metrics: Mapping[str, float], multipliers: Mapping[str, float]
    ) -> tuple[dict[str, float], list[Decision]]:
        """Returns the multipliers that follow from the metrics of a round, and the reasons."""
        new, self._smoothed, trail = decide(self._targets, metrics, multipliers, self._smoothed, self._cfg.control)
        return new, trail

    def judge(self, raised: Iterable[alarms.Alarm], step: int) -> alarms.Alarm | None:
        """Returns the alarm of a round that calls for a roll-back; None without one, and the round counts as good.

        Before the first good round there is nothing to go back to, and the network is left to learn.
        """
        grave = next((alarm for alarm in raised if alarm.kind in alarms.ROLL_BACK), None)
        if grave is None:
            self.good = step
        return grave if self.good is not None else None

    def go_back(self, step: int) -> None:
        """Counts a roll-back to this step and forgets all later rounds."""
        self.rollbacks += 1
        self.standings = [s for s in self.standings if s.step <= step]
        self.good = min(self.good, step) if self.good is not None else None

    def note(self) -> dict[str, Any]:
        """Returns all that `recall` needs, as JSON can hold it; inference reads `best` to choose a checkpoint."""
        best = self.best
        return {
            "best": best.to_dict() if best else None,
            "standings": [s.to_dict() for s in self.standings],
            "smoothed": self._smoothed,
            "good": self.good,
            "rollbacks": self.rollbacks,
        }

    def recall(self, note: Mapping[str, Any]) -> None:
        """Restores what `note` returned."""
        self.standings = [selection.Standing(**s) for s in note["standings"]]
        self._smoothed = dict(note["smoothed"])
        self.good = note["good"]
        self.rollbacks = note["rollbacks"]
