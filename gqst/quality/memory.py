"""What rounds have told so far, and what follows from it: weights, the best round, the end."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gqst import config
from gqst.quality import alarms, selection
from gqst.quality.targets import Decision, Target, decide


class Steering:
    """The host's memory of the rounds of a run; `note` and `recall` take it through a checkpoint.

    Attributes:
      standings: of all rounds after the first step.
      good: the step of the last round that called for no roll-back; None before one.
      rollbacks: how often the run went back.
    """

    def __init__(self, cfg: config.Config, targets: Sequence[Target]):
        """Starts a run with these targets."""
        self._cfg = cfg
        self._targets = targets
        self._smoothed: dict[str, float] = {}
        self.standings: list[selection.Standing] = []
        self.good: int | None = None
        self.rollbacks = 0

    @property
    def best(self) -> selection.Standing | None:
        """The best round so far."""
        front = selection.front(self.standings)
        return front[0] if front else None

    @property
    def kept(self) -> list[int]:
        """The steps of the rounds worth keeping: the best ones of the Pareto set, the best first."""
        return [s.step for s in selection.front(self.standings)][: self._cfg.keep_checkpoints]

    @property
    def stalled(self) -> bool:
        """Whether the run should end, as nothing gets better."""
        rounds = self._cfg.stop_after
        return rounds is not None and selection.stalled(self.standings, rounds)

    @property
    def rate(self) -> float:
        """The factor on the learning rates after so many roll-backs."""
        return 0.5**self.rollbacks

    def rank(self, standing: selection.Standing) -> bool:
        """Takes a round in; whether it is the best so far."""
        self.standings.append(standing)
        return self.best == standing

    def weigh(
        self, metrics: Mapping[str, float], multipliers: Mapping[str, float]
    ) -> tuple[dict[str, float], list[Decision]]:
        """The multipliers for the time after a round, and why."""
        new, self._smoothed, trail = decide(self._targets, metrics, multipliers, self._smoothed, self._cfg.control)
        return new, trail

    def judge(self, found: Iterable[alarms.Alarm], step: int) -> alarms.Alarm | None:
        """The alarm of a round for which the run has to go back; None, and the round counts as good.

        A network that has never been good, as at the start, is left to learn.
        """
        grave = next((alarm for alarm in found if alarm.kind in alarms.ROLL_BACK), None)
        if grave is None:
            self.good = step
        return grave if self.good is not None else None

    def go_back(self, step: int) -> None:
        """Counts a roll-back to this step; what rounds said after it is forgotten."""
        self.rollbacks += 1
        self.standings = [s for s in self.standings if s.step <= step]
        self.good = min(self.good, step) if self.good is not None else None

    def note(self) -> dict[str, Any]:
        """As JSON can hold it; `best` is what tells others which checkpoint to take."""
        best = self.best
        return {
            "best": best.to_dict() if best else None,
            "standings": [s.to_dict() for s in self.standings],
            "smoothed": self._smoothed,
            "good": self.good,
            "rollbacks": self.rollbacks,
        }

    def recall(self, note: Mapping[str, Any]) -> None:
        """Goes on from what `note` gave."""
        self.standings = [selection.Standing(**s) for s in note["standings"]]
        self._smoothed = dict(note["smoothed"])
        self.good = note["good"]
        self.rollbacks = note["rollbacks"]
