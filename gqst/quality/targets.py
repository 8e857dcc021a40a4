"""Targets: from what the config asks for to the weights of quality losses.

`aim` reads targets off the config. After every round `decide` moves weights by the method of multipliers, in log space:
the weight of a loss grows while its metric is below the target and shrinks while it is above (GECO, Rezende and Viola
2018, algorithm 1). Everything here is a pure function of numbers.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gqst import config, metrics, registry, types

TOLERANCE = 0.01
"""Shortfall, in units of the metric's error, within which a target counts as met."""

_WEIGHT = 5.0


@dataclasses.dataclass(frozen=True)
class Target:
    """Value that a held-out metric should reach.

    Attributes:
      metric: Name of the metric.
      value: Value to reach.
      labels: Labels in `Config.losses` of the losses whose weights are steered towards it; empty if it only ranks
        rounds.
    """

    metric: str
    value: float
    labels: tuple[str, ...] = ()

    def error(self, measured: float) -> float:
        """Returns how far a measurement lies below the value, in the units of the metric's `Aim`; negative above it."""
        aim = metrics.METRICS[self.metric].aim
        return (self.value - measured) / (1.0 if aim is None else aim.unit)

    def shortfall(self, measured: float) -> float:
        """Returns the error of a measurement, or 0 if it is within the tolerance."""
        error = self.error(measured)
        return error if error > TOLERANCE else 0.0


@dataclasses.dataclass(frozen=True)
class Decision:
    """One line of `decisions.jsonl`: why a weight was moved, or left.

    Attributes:
      metric: Name of the metric.
      measured: Value in this round.
      smoothed: Value smoothed over the rounds so far.
      target: Value to reach.
      label: Label of the loss.
      old: Multiplier before.
      new: Multiplier after.
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
        """Returns the fields by name, as JSON can hold them."""
        return dataclasses.asdict(self)


def aim(
    losses: Mapping[str, config.Loss], wanted: Mapping[str, float]
) -> tuple[dict[str, config.Loss], tuple[Target, ...]]:
    """Returns the losses by which targets can be reached, and the targets.

    A quality loss of a target's metric takes the target as its floor; if there is no such loss, one is added. The
    floors of quality losses that no target steers follow as further targets, because rounds are ranked by them too.

    Args:
      losses: `Config.losses`.
      wanted: `Config.targets`.

    Raises:
      InputError: A metric cannot be aimed at, or a value cannot be reached.
    """
    steerable, targets = dict(losses), list[Target]()
    for name, value in wanted.items():
        metric, metric_aim = _aimed(name)
        low, high = metric_aim.limits
        if not low < value < high:
            unit = f" {metric.unit}" if metric.unit else ""
            raise types.InputError(
                f"targets: {name}={value} cannot be met: it has to lie between {low:g} and {high:g}{unit}"
            )
        options = {"metric": metric_aim.metric or name, "pair": metric.pair}
        labels = [label for label, loss in steerable.items() if _is_quality(label, loss, options)]
        if not labels:
            labels = [f"target_{name}"]
            steerable[labels[0]] = config.loss(_WEIGHT, term="quality", **options)
        if metric_aim.loss is None:
            for label in labels:
                loss = steerable[label]
                steerable[label] = dataclasses.replace(loss, options={**loss.options, "floor": value})
        targets.append(Target(name, value, tuple(labels)))
    return steerable, (*targets, *_floors(steerable, targets))


def _aimed(name: str) -> tuple[metrics.Metric, metrics.Aim]:
    """The metric and its aim; InputError if it has none."""
    names = [metric.name for metric in metrics.METRICS.values() if metric.aim is not None]
    if name not in names:
        raise types.InputError(
            f"targets: there is no metric {name!r} to aim at{registry.hint(name, names)}; there are: {', '.join(names)}"
        )
    metric = metrics.METRICS[name]
    assert metric.aim is not None
    return metric, metric.aim


def _is_quality(label: str, loss: config.Loss, options: Mapping[str, Any]) -> bool:
    """True for a quality loss with a weight and these options."""
    given = {key: loss.options.get(key) for key in options}
    return loss.on and (loss.term or label) == "quality" and given == options


def _floors(losses: Mapping[str, config.Loss], targets: Sequence[Target]) -> list[Target]:
    """The floors, as targets, of the quality losses that no target steers.

    Only losses between fakes and their sources count: similarity to truths, and of cycles, ranks rounds only if it is a
    target.
    """
    steered = {label for target in targets for label in target.labels}
    floors = []
    for label, loss in losses.items():
        floor = loss.options.get("floor")
        if label in steered or not isinstance(floor, int | float):
            continue
        for metric in metrics.METRICS.values():
            if metric.aim is None or metric.pair != "fake_source":
                continue
            if _is_quality(label, loss, {"metric": metric.aim.metric or metric.name, "pair": metric.pair}):
                floors.append(Target(metric.name, float(floor)))
    return floors


def decide(
    targets: Sequence[Target],
    measured: Mapping[str, float],
    multipliers: Mapping[str, float],
    smoothed: Mapping[str, float],
    settings: config.Control,
) -> tuple[dict[str, float], dict[str, float], list[Decision]]:
    """Returns the multipliers and the smoothed measurements after a round, and the reasons.

    Args:
      targets: Targets; those without labels move nothing.
      measured: Values of the round by metric.
      multipliers: Multipliers by label of a loss.
      smoothed: Smoothed measurements by metric, as this function returned them; empty at first.
      settings: Gain, smoothing and limits of the controller.

    Raises:
      KeyError: The metric of a target was not measured.
    """
    new, levels, trail = dict(multipliers), dict(smoothed), list[Decision]()
    for target in targets:
        if not target.labels:
            continue
        value = float(measured[target.metric])
        if math.isfinite(value):
            before = levels.get(target.metric, value)
            levels[target.metric] = settings.smoothing * before + (1.0 - settings.smoothing) * value
        level = levels.get(target.metric, math.nan)
        error = target.error(level) if math.isfinite(value) else math.nan
        for label in target.labels:
            old = float(multipliers[label])
            new[label], reason = _moved(old, error, settings)
            trail.append(Decision(target.metric, value, level, target.value, label, old, new[label], reason))
    return new, levels, trail


def _moved(multiplier: float, error: float, settings: config.Control) -> tuple[float, str]:
    """The multiplier after an error of the metric, which is positive below the target, and the reason."""
    if math.isnan(error):
        return multiplier, "not a number"
    if abs(error) <= settings.dead_band:
        return multiplier, "in the dead band"
    # Errors count from the edge of the dead band, so that the multiplier does not jump there.
    beyond = error - math.copysign(settings.dead_band, error)
    limit = math.log(settings.limit)
    moved = multiplier * math.exp(min(max(settings.gain * beyond, -limit), limit))
    clipped = min(max(moved, settings.bounds[0]), settings.bounds[1])
    return clipped, "at the bound" if clipped != moved else "below" if error > 0 else "above"
