"""Ranking of the rounds of a run: the best one, the ones worth keeping, and the end of all improvement."""

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Standing:
    """The two measurements on held-out pictures by which rounds are ranked.

    Attributes:
      step: Step of the round.
      style_distance: Distance of the fakes from the target domain.
      shortfall: Sum of the amounts, in units of error, by which metrics stay below the targets and floors of the
        config; 0 if all are met.
    """

    step: int
    style_distance: float
    shortfall: float

    @property
    def rank(self) -> tuple[float, float]:
        """Sort key, smaller for better rounds: targets are met first, then comes the style distance."""
        return max(self.shortfall, 0.0), self.style_distance

    def dominates(self, other: "Standing") -> bool:
        """Returns whether this round is no worse in either measurement, and better in one."""
        return self._values != other._values and all(a <= b for a, b in zip(self._values, other._values, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields by name, as JSON can hold them."""
        return dataclasses.asdict(self)

    @property
    def _values(self) -> tuple[float, float]:
        return self.style_distance, self.shortfall


def front(standings: Sequence[Standing]) -> list[Standing]:
    """Returns the Pareto set, the best first: rounds that no other dominates; of equal ones only the earliest."""
    kept: list[Standing] = []
    for standing in sorted(standings, key=lambda s: s.step):
        if any(earlier.dominates(standing) or earlier._values == standing._values for earlier in kept):
            continue
        kept = [earlier for earlier in kept if not standing.dominates(earlier)] + [standing]
    return sorted(kept, key=lambda s: s.rank)


def stalled(standings: Sequence[Standing], rounds: int) -> bool:
    """Returns whether neither style distance nor shortfall has reached a new minimum in the last `rounds` rounds."""
    if len(standings) <= rounds:
        return False
    earlier, last = standings[:-rounds], standings[-rounds:]
    return all(
        min(getattr(s, field) for s in last) >= min(getattr(s, field) for s in earlier)
        for field in ("style_distance", "shortfall")
    )
