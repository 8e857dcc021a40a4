"""A generator that takes the style as an input, and how much of the scene's structure is to be kept.

Conditional instance norm (Dumoulin et al. 2017) whose scales and shifts a small network predicts from a style picture
(Ghiasi et al. 2017). For one style it is an ordinary `resnet` (`AnyStyle.folded`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import pydantic
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models import base, blocks, conditions, noise
from gqst.models.generators import resnet

_INIT_SIDE = 32
# The middle of the range of structures and its half.
_MIDDLE, _HALF = 0.6, 0.3
_PALETTE, _GAIN = "Palette_0", "Gain_0"
_DIALS = 4  # outputs of the predictor for these two


class _Predictor(nn.Module):
    """Scales and shifts of all norms, shares of the palette, and the gain, from style and structure.

    Attributes:
      embedding: Number of features that stand for a style.
      hidden: Number of features of style and structure together.
      outputs: Number of scales and shifts.
    """

    embedding: int
    hidden: int
    outputs: int

    @nn.compact
    def __call__(self, asked: conditions.Conditions) -> Float[Array, "b n"]:
        style = nn.Dense(self.embedding)(asked.style)
        structure = 4 * ((asked.structure - _MIDDLE) / _HALF)[:, None]
        x = nn.relu(nn.Dense(self.hidden)(jnp.concatenate([style, structure, structure**2 / 4], axis=-1)))
        # The norms' own scales and shifts are its bias.
        return nn.Dense(self.outputs, use_bias=False, kernel_init=nn.initializers.normal(0.02))(x)


@base.GENERATORS.register("any_style")
class AnyStyle(nn.Module, kw_only=True):
    """A residual generator whose norms follow a style picture and the structure asked for (`models.conditions`).

    Attributes:
      filters: Number of channels at full size; doubled at each halving.
      blocks: Number of residual blocks at the smallest size.
      scales: Number of halvings of the size.
      noise: Whether activations get noise, as in `resnet`.
      embedding: Number of features that stand for a style.
      hidden: Number of features of style and structure together.
      structures: Lowest and highest contrast_structure that is asked for in training.
      dtype: Type of the computation; parameters are float32.
    """

    filters: pydantic.PositiveInt = 24
    blocks: pydantic.PositiveInt = 5
    scales: pydantic.NonNegativeInt = 2
    noise: bool = True
    embedding: pydantic.PositiveInt = 128
    hidden: pydantic.PositiveInt = 256
    structures: tuple[float, float] = (0.3, 0.9)
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Creates the parameters of the residual network, as one tree, and of the predictor."""
        self.params = self.param("network", self._init_network)
        counts = self._counts(self.params)
        self.predictor = _Predictor(self.embedding, self.hidden, _DIALS + 2 * sum(counts.values()))

    @property
    def options(self) -> dict[str, Any]:
        """Options of the `resnet` that it is for one style."""
        shared = {name: getattr(self, name) for name in ("filters", "blocks", "scales", "noise")}
        return {**shared, "norm": "instance", "affine": True, "palette": True, "start_at_identity": True}

    @property
    def network(self) -> resnet.ResNet:
        """The `resnet` that it is for one style."""
        return resnet.ResNet(**self.options, dtype=self.dtype, parent=None)

    @property
    def multiple(self) -> int:
        """See `base.GENERATORS`."""
        return self.network.multiple

    @property
    def taps(self) -> tuple[str, ...]:
        """See `base.GENERATORS`."""
        return self.network.taps

    def __call__(self, source: Float[Array, "b h w 3"], *, taps: Sequence[str] = ()) -> Any:
        """Returns fakes in [0, 1] of the size of `source`, float32; with `taps`, the activations of these layers."""
        affine = self.affine(conditions.of(self, len(source)))
        variables = {"params": self.params, blocks.AFFINE: affine}
        if self.noise:
            variables = noise.seeded(variables, noise.seeds_of(self))
        return self.network.apply(variables, source, taps=taps)

    def affine(self, asked: conditions.Conditions) -> dict[str, Any]:
        """Returns what is added to scales and shifts, f32[b c] each, by norm and name; and palette and gain."""
        counts = self._counts(self.params)
        values, first, tree = self.predictor(asked), _DIALS, {}
        mean, deviation = asked.style[:, :3], asked.style[:, 3:6]
        # At first three quarters of the way to the style's colours.
        tree[_PALETTE] = {"mean": mean, "deviation": deviation, "share": jax.nn.sigmoid(values[:, :3] + 1.1)}
        # The more structure is to be kept, the less is changed; the network refines that.
        tree[_GAIN] = {"gain": 2 * (1 - asked.structure)[:, None] * jnp.exp(values[:, 3:4])}
        for norm, count in counts.items():
            scale, shift = values[:, first : first + count], values[:, first + count : first + 2 * count]
            tree[norm] = {"scale": scale, "shift": shift}
            first += 2 * count
        return tree

    def folded(
        self, variables: Mapping[str, Any], style: Float[Any, "n"], structure: float | jax.Array
    ) -> dict[str, Any]:
        """Returns the variables of `network` for one style, as from `conditions.style_of`, and structure."""
        asked = conditions.Conditions(jnp.asarray(style)[None], jnp.asarray(structure, jnp.float32)[None])
        affine: Any = self.apply(variables, asked, method="affine")
        params = dict(variables["params"]["network"])
        for norm, added in affine.items():
            plus = {} if norm in (_PALETTE, _GAIN) else params[norm]
            params[norm] = {name: value[0] + plus.get(name, 0.0) for name, value in added.items()}
        return {"params": params}

    def _init_network(self, key: jax.Array) -> Any:
        return self.network.init(key, jnp.zeros((1, _INIT_SIDE, _INIT_SIDE, 3)))["params"]

    @staticmethod
    def _counts(params: Mapping[str, Any]) -> dict[str, int]:
        """Numbers of channels by norm."""
        return {name: params[name]["scale"].size for name in sorted(params) if "scale" in params[name]}
