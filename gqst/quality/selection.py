"""Which rounds of a run are kept, which is the best, and whether going on is worth it."""

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Standing:
    """How one round stands, measured on held-out pictures.

    Attributes:
      step: of the round.
      style_distance: how far the fakes are from the target domain; less is better.
      shortfall: how far quality stays below the targets and floors of the config, summed; 0 meets them.
    """

    step: int
    style_distance: float
    shortfall: float

    @property
    def rank(self) -> tuple[float, float]:
        """Sort key, less is better: the targets come first, met or not, then the style distance."""
        return max(self.shortfall, 0.0), self.style_distance

    def dominates(self, other: "Standing") -> bool:
        """Whether this round is no worse in either, and better in one."""
        mine, its = (self.style_distance, self.shortfall), (other.style_distance, other.shortfall)
        return mine != its and all(a <= b for a, b in zip(mine, its, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return dataclasses.asdict(self)


def front(standings: Sequence[Standing]) -> list[Standing]:
    """The Pareto set: those that no other dominates, the best first; of equal ones the earliest."""
    kept: list[Standing] = []
    for one in sorted(standings, key=lambda s: s.step):
        if any(other.dominates(one) or _equal(other, one) for other in kept):
            continue
        kept = [other for other in kept if not one.dominates(other)] + [one]
    return sorted(kept, key=lambda s: s.rank)


def stalled(standings: Sequence[Standing], rounds: int) -> bool:
    """Whether the last `rounds` rounds brought neither a smaller style distance nor a smaller shortfall."""
    if len(standings) <= rounds:
        return False
    before, last = standings[:-rounds], standings[-rounds:]
    return all(
        min(getattr(s, of) for s in last) >= min(getattr(s, of) for s in before)
        for of in ("style_distance", "shortfall")
    )


def _equal(one: Standing, other: Standing) -> bool:
    return (one.style_distance, one.shortfall) == (other.style_distance, other.shortfall)
