"""The record that declares a metric, and the registry of metrics.

One record makes a metric available everywhere: rounds measure it, `config.targets` may aim at it, and
`python -m gqst.evaluate` puts it into its table, JSON and CSV. A metric of your own needs no change to this package:

    @metrics.register(name="sharpness", better="higher", definition="...", aim=metrics.Aim())
    def sharpness(output, reference):
        ...
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, cast

import jax

from gqst import registry, types

Better = Literal["higher", "lower", "neither"]
Output = Literal["fake", "cycled"]
Reference = Literal["source", "truth", "style"]


class Estimate(NamedTuple):
    """A distance of two sets with its uncertainty.

    Attributes:
      value: Distance.
      error: Standard error of `value`; NaN if unknown.
      subsets: Number of subsets that were averaged.
      size: Number of features in each subset; 0 if the distance is not a mean over subsets.
    """

    value: float
    error: float = math.nan
    subsets: int = 1
    size: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aim:
    """Settings of the quality loss that brings a metric to a target.

    Attributes:
      metric: `metric` option of the quality loss; None is the metric's own name.
      limits: Bounds of the targets, exclusive.
      unit: Difference that counts as an error of 1 in the controller and in the shortfall of a round.
      loss: Function (output, reference) -> f32[b] that falls while the metric rises, for a metric that cannot be
        optimised itself; it takes no floor. None is the distance of the metric to the upper end of its range, or to
        the floor.
    """

    metric: str | None = None
    limits: tuple[float, float] = (0.0, 1.0)
    unit: float = 1.0
    loss: Callable[..., jax.Array] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric, declared once.

    What `function` takes and returns follows from the other fields:

    - A metric of pictures (`reference` is "source" or "truth") takes two f32[b h w 3] in [0, 1] and returns f32[b].
      With a `network` it takes the activations of `layers` instead, a list of f32[b h2 w2 c] for each of the two, then
      the list of the network's `parameters` if it names any, then with `with_style` a list of the style's statistics.
    - A metric of sets (`reference` is "style") takes two f32[n h w 3] and returns a number or an `Estimate`. With a
      `network` it takes pooled features f32[n d], or their `sets.Moments` with `moments`. Only those with a network are
      part of evaluations, which do not hold all pictures at once.
    - One that `combines` others is a metric of sets too, and takes their values.

    Attributes:
      name: Name in configs, logs and tables.
      function: Function of the output and the reference.
      better: Direction in which the metric improves; "neither" if it only describes.
      definition: One sentence for the report of an evaluation; `{network}` stands for the feature network in use.
      unit: Unit, such as "dB"; empty for a plain number.
      range: Lowest and highest value.
      output: "fake" for G(source), "cycled" for G'(G(source)).
      reference: Pictures that the output is compared with.
      truth_if_known: Whether evaluations with truths compare with these instead of the sources; rounds do not.
      network: Feature network whose activations are compared; None compares pixels. In evaluations, metrics of sets
        compare features of the network that the user chose.
      layers: Layers of `network`.
      parameters: Parameters of `network` that the function needs beside activations.
      with_style: Whether a metric of activations also takes the style's mean and deviation of each channel, f32[2 c]
        for each layer, averaged over pictures; it is measured only where there are pictures of a style.
      moments: Whether a metric of sets takes moments of the features.
      combines: Names of the metrics of which this one is a function.
      smallest: Shortest side in pixels of the pictures that it can measure.
      always: Whether rounds measure it whenever its pair exists; others are named in `config.metrics`.
      aim: Settings for targets; None if the metric cannot be a target.

    Raises:
      ValueError: The fields contradict each other.
    """

    name: str
    function: Callable[..., Any]
    better: Better
    definition: str
    unit: str = ""
    range: tuple[float, float] = (-math.inf, math.inf)
    output: Output = "fake"
    reference: Reference = "source"
    truth_if_known: bool = False
    network: str | None = None
    layers: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    with_style: bool = False
    moments: bool = False
    combines: tuple[str, ...] = ()
    smallest: int = 1
    always: bool = False
    aim: Aim | None = None

    def __post_init__(self) -> None:
        """Checks that the fields go together."""
        if self.combines and not self.of_sets:
            raise ValueError(f"metric {self.name!r} combines others: its reference has to be 'style'")
        if self.aim is None:
            return
        if self.better != "higher" or self.of_sets or self.network is not None or self.combines:
            raise ValueError(f"metric {self.name!r}: only metrics of pixels that are better when higher have an aim")
        if self.aim.loss is None and not math.isfinite(self.range[1]):
            raise ValueError(f"metric {self.name!r} has an aim and needs a highest value, or a loss of its own")

    def __call__(self, *arguments: Any) -> Any:
        """Returns what `function` returns."""
        return self.function(*arguments)

    @property
    def of_sets(self) -> bool:
        """True if it compares two sets, and has no value for a single picture."""
        return self.reference == "style"

    @property
    def pair(self) -> str:
        """`pair` option of a quality loss that looks at the same pictures."""
        return f"{self.output}_{'target' if self.reference == 'truth' else self.reference}"

    def describe(self, network: str) -> str:
        """Returns the definition for features of this network."""
        return self.definition.replace("{network}", network)

    def estimate(self, *arguments: Any) -> Estimate:
        """Returns the value of a metric of sets, or of one that combines others, with its standard error."""
        value = self.function(*arguments)
        return value if isinstance(value, Estimate) else Estimate(float(value))


class Metrics(registry.Registry):
    """Records of type `Metric` by name, in the order of the table of an evaluation."""

    def __getitem__(self, name: str) -> Metric:
        """Returns a record; InputError that lists the registered names if it is absent."""
        return cast(Metric, super().__getitem__(name))

    def values(self) -> list[Metric]:
        """Returns all records, in the order of registration."""
        return [self[name] for name in self]


METRICS = Metrics("metric")


def register(metric: Metric | None = None, /, **fields: Any) -> Any:
    """Adds a metric: `register(Metric(...))`, or `@register(name=..., better=..., ...)` above its function.

    The decorator leaves the function as it is.

    Raises:
      ValueError: The name is taken, or the fields contradict each other.
    """
    if metric is not None:
        return METRICS.register(metric.name)(metric)

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        register(Metric(function=function, **fields))
        return function

    return add


def of_round(
    named: Sequence[str], aimed: Iterable[str] = (), *, side: int, paired: bool, cycled: bool
) -> tuple[Metric, ...]:
    """Returns the metrics that a round measures, in the order of registration.

    These are the ones measured always, those that the config names, and those that it aims at. A named metric is left
    out if the pictures are too small for it.

    Args:
      named: `config.metrics`.
      aimed: Metrics of the targets.
      side: Shortest side of the pictures in pixels.
      paired: Whether there are truths.
      cycled: Whether the run computes G'(G(x)).

    Raises:
      InputError: There is no such metric, it needs truths or cycles that the run does not have, or pictures are too
        small for the metric of a target.
    """
    aimed = tuple(aimed)
    wanted: dict[str, Metric] = {}
    queue = [*named, *aimed]
    while queue:
        metric = METRICS[queue.pop()]
        if metric.name in wanted:
            continue
        if metric.reference == "truth" and not paired:
            raise types.InputError(
                f"metrics: {metric.name!r} compares fakes with truths and needs paired data; this data is unpaired"
            )
        if metric.output == "cycled" and not cycled:
            raise types.InputError(f"metrics: {metric.name!r} looks at cycles, which no loss of this config makes")
        wanted[metric.name] = metric
        queue.extend(metric.combines)
    for metric in (METRICS[name] for name in aimed):
        if metric.smallest > side:
            raise types.InputError(
                f"targets: {metric.name} needs pictures of at least {metric.smallest} px a side, got {side}: "
                "aim at another, or raise image_size"
            )
    return tuple(
        metric
        for metric in METRICS.values()
        if metric.smallest <= side
        and (metric.name in wanted or (metric.always and _measurable(metric, paired=paired, cycled=cycled)))
    )


def _measurable(metric: Metric, *, paired: bool, cycled: bool) -> bool:
    return (paired or metric.reference != "truth") and (cycled or metric.output != "cycled")
