"""Which round of a run is the best."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Standing:
    """How one round stands, measured on held-out pictures.

    Attributes:
      step: of the round.
      style_distance: how far the fakes are from the target domain; less is better.
      shortfall: how far quality stays below the floors of the config, summed; 0 meets them.
    """

    step: int
    style_distance: float
    shortfall: float

    def beats(self, other: "Standing | None") -> bool:
        """Whether this round is the better: floors met first, then the smaller style distance."""
        return other is None or self._rank() < other._rank()

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return dataclasses.asdict(self)

    def _rank(self) -> tuple[float, float]:
        return max(self.shortfall, 0.0), self.style_distance
