"""The result of measuring a set of pictures."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Result:
    """Measurements of a set of pictures.

    Attributes:
      means: Means of the metrics of pictures, then the metrics of the whole set, by name.
      intervals: 95 % intervals of these by name: bootstrapped over the pictures for means, two standard errors either
        way for metrics of the set that have one.
      against: Pictures that each metric compares with: "sources", "truths" or "style".
      count: Number of pictures.
      pictures: Values of every picture by its name and by metric.
      style_count: Number of pictures in the style set; 0 without one.
      notes: Why metrics are missing or infinite, by name.
    """

    means: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    against: Mapping[str, str]
    count: int
    pictures: Mapping[str, Mapping[str, float]]
    style_count: int
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
