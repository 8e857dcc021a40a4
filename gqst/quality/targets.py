"""Targets to weights: what a round measured decides how much a quality loss counts until the next.

The method of multipliers, in log space: the weight of a loss grows while its metric is below the target and shrinks
while it is above (GECO, Rezende and Viola 2018, algorithm 1). Everything here is a pure function of numbers.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gqst import config, types

UNITS = {"psnr": 30.0}
"""What counts as one unit of a metric's error; 1 where it is not here."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A held-out metric, the value that the user asked for, and the losses whose weight brings it there.

    Attributes:
      metric: its name without `eval/`.
      value: to be met.
      labels: of the losses, in `Config.losses`.
    """

    metric: str
    value: float
    labels: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Decision:
    """One line of the trail.

    Attributes:
      metric: that was measured.
      measured: by this round.
      smoothed: with the rounds before.
      target: its value.
      label: of the loss.
      old: its multiplier before.
      new: and after.
      reason: `below`, `above`, `in the dead band`, `at the bound` or `not a number`.
    """

    metric: str
    measured: float
    smoothed: float
    target: float
    label: str
    old: float
    new: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return dataclasses.asdict(self)


_HELD_OUT: dict[str, tuple[str, str]] = {
    "contrast_structure": ("contrast_structure", "fake_source"),
    "ssim": ("ssim", "fake_target"),
    "psnr": ("psnr", "fake_target"),
    "ssim_cycled": ("ssim", "cycled_source"),
}
"""What is optimised for a metric of a round, by its name there."""

_WEIGHT = 5.0


def aim(
    losses: Mapping[str, config.Loss], targets: Mapping[str, float]
) -> tuple[dict[str, config.Loss], tuple[Target, ...]]:
    """The losses with which targets can be met, and the targets with the labels of these.

    Raises:
      InputError: a target on what no round measures, or a value that cannot be reached.
    """
    made, aims = dict(losses), []
    for name, value in targets.items():
        if name not in _HELD_OUT:
            raise types.InputError(f"targets: there is no metric {name!r} to aim at; there are: {', '.join(_HELD_OUT)}")
        metric, pair = _HELD_OUT[name]
        if not 0.0 < value < (100.0 if metric == "psnr" else 1.0):
            raise types.InputError(f"targets: {name}={value} cannot be met: it lies between 0 and 1, psnr below 100 dB")
        labels = [label for label, entry in made.items() if _is_of(label, entry, metric, pair)]
        if not labels:
            labels = [f"target_{name}"]
            made[labels[0]] = config.loss(_WEIGHT, term="quality", metric=metric, pair=pair)
        if metric != "psnr":
            for label in labels:
                options = {**made[label].options, "floor": value}
                made[label] = dataclasses.replace(made[label], options=options)
        aims.append(Target(name, value, tuple(labels)))
    return made, tuple(aims)


def _is_of(label: str, entry: config.Loss, metric: str, pair: str) -> bool:
    asked = entry.options.get("metric"), entry.options.get("pair")
    return entry.on and (entry.term or label) == "quality" and asked == (metric, pair)


def decide(
    targets: Sequence[Target],
    measured: Mapping[str, float],
    multipliers: Mapping[str, float],
    smoothed: Mapping[str, float],
    settings: config.Control,
) -> tuple[dict[str, float], dict[str, float], list[Decision]]:
    """The multipliers and smoothed measurements after a round, and why.

    Args:
      targets: to be met.
      measured: by the round, by metric.
      multipliers: by the label of a loss.
      smoothed: measurements by metric, as this function returned them; empty at first.
      settings: how to react.

    Raises:
      KeyError: a target's metric was not measured.
    """
    new, memory, trail = dict(multipliers), dict(smoothed), list[Decision]()
    for target in targets:
        value = float(measured[target.metric])
        if math.isfinite(value):
            before = memory.get(target.metric, value)
            memory[target.metric] = settings.smoothing * before + (1.0 - settings.smoothing) * value
        level = memory.get(target.metric, math.nan)
        error = (target.value - level) / UNITS.get(target.metric, 1.0)
        for label in target.labels:
            old = float(multipliers[label])
            new[label], reason = _moved(old, error if math.isfinite(value) else math.nan, settings)
            trail.append(Decision(target.metric, value, level, target.value, label, old, new[label], reason))
    return new, memory, trail


def _moved(multiplier: float, error: float, settings: config.Control) -> tuple[float, str]:
    """A multiplier after an error of the metric, positive below the target; and why."""
    if math.isnan(error):
        return multiplier, "not a number"
    if abs(error) <= settings.dead_band:
        return multiplier, "in the dead band"
    # The error counts from the edge of the dead band, so that there is no jump there.
    beyond = error - math.copysign(settings.dead_band, error)
    limit = math.log(settings.limit)
    moved = multiplier * math.exp(min(max(settings.gain * beyond, -limit), limit))
    held = min(max(moved, settings.bounds[0]), settings.bounds[1])
    return held, "at the bound" if held != moved else "below" if error > 0 else "above"
