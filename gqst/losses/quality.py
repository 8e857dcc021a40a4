"""Metrics of pictures as differentiable losses inside the training step."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import pydantic
from jaxtyping import Array, Float

from gqst import metrics, types
from gqst.losses import base

Pair = Literal["fake_target", "cycled_source", "identity_target", "fake_source"]

_NEEDS: dict[Pair, frozenset[base.Need]] = {
    "fake_target": frozenset({"paired"}),
    "cycled_source": frozenset({"cycled"}),
    "identity_target": frozenset({"identity"}),
    "fake_source": frozenset(),
}


@base.TERMS.register("quality")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality(base.Term):
    """Shortfall in quality of one picture of a pair against the other, the part L_qual of the objective.

    It is f32[b]: 1 - metric, in [0, 2], for ssim and contrast_structure; with a floor, max(floor - metric, 0). For psnr
    it is the natural logarithm of the mean squared error, in [-11.5, 0], clamped at 50 dB.

    Attributes:
      metric: Name of a metric with an aim, such as `ssim`, `psnr` or `contrast_structure`.
      pair: Picture and its reference: `fake_target` (paired data only), `cycled_source`, `identity_target` or
        `fake_source` (only metrics that compare with the source, such as contrast_structure).
      floor: Value of the metric above which the loss is 0; None for no floor. psnr takes none.

    Raises:
      InputError: A metric without an aim, one that compares with truths on fake_source, or a floor for a metric whose
        aim has a loss of its own, such as psnr.
    """

    metric: str
    pair: Pair
    floor: float | None = None

    steered = True

    def __post_init__(self) -> None:
        """Checks that the options go together."""
        record = metrics.METRICS[self.metric]
        if record.aim is None or record.output != "fake":
            raise types.InputError(
                f"a quality loss cannot optimise the metric {self.metric!r}: it has no aim of its own"
            )
        if self.pair == "fake_source" and record.reference != "source":
            raise types.InputError(
                f"a quality loss of {self.metric} on fake_source would punish every change of colour, which is "
                "what style is: use contrast_structure there"
            )
        if self.floor is not None and record.aim.loss is not None:
            raise types.InputError(f"a quality loss of {self.metric} takes no floor: use its weight")

    @property
    def needs(self) -> frozenset[base.Need]:
        """Paired data, G'(G(source)) or G(target), if the pair has it."""
        return _NEEDS[self.pair]

    def __call__(self, context: base.Context) -> Float[Array, "b"]:
        """Returns the loss of each picture; reads the two pictures of the pair."""
        output, reference = (getattr(context, name) for name in self.pair.split("_"))
        assert output is not None
        record = metrics.METRICS[self.metric]
        if record.aim is not None and record.aim.loss is not None:
            return record.aim.loss(output, reference)
        value = record(output, reference)
        return record.range[1] - value if self.floor is None else jax.nn.relu(self.floor - value)


@base.TERMS.register("asked_structure")
@dataclasses.dataclass(frozen=True, kw_only=True)
class AskedStructure(base.Term):
    """Distance of contrast_structure between fakes and sources from what the generator was asked for.

    It is f32[b], in [0, 2]; for generators that take a structure, such as `any_style`.

    Attributes:
      above: Factor on the distance of fakes that have more structure than was asked for, at least 0. Below 1 it is left
        to the style to lower the structure; at 1, any texture that does so pays.
    """

    above: pydantic.NonNegativeFloat = 1.0

    @property
    def needs(self) -> frozenset[base.Need]:
        """The structure that was asked for."""
        return frozenset({"structure"})

    def __call__(self, context: base.Context) -> Float[Array, "b"]:
        """Returns the loss of each picture; reads `fake`, `source` and `structure`."""
        assert context.structure is not None
        structure = metrics.METRICS["contrast_structure"](context.fake, context.source)
        short = context.structure - structure
        return jnp.maximum(short, -self.above * short)
