"""The residual generator of Johnson et al. 2016 as CycleGAN (Zhu et al. 2017, appendix 7.2) uses it."""

from typing import Any

import jax
import jax.numpy as jnp
import pydantic
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models import base
from gqst.models import blocks as layers  # `blocks` is an option here


@base.GENERATORS.register("resnet")
class ResNet(nn.Module, kw_only=True):
    """Down-sampling, residual blocks, up-sampling; any input size.

    With 64 filters and 9 blocks it has 11,378,179 parameters, as the published one: an up-sampling here is
    nearest-neighbour and a 3x3 convolution, which has as many as a 3x3 transposed convolution.

    Attributes:
      filters: channels at full size; they double at each halving.
      blocks: residual blocks at the smallest size; 9 for 256 px, 6 for 128 px in the paper.
      scales: how often the size is halved.
      norm: `instance` or `none`.
      start_at_identity: whether the last layer starts at zero and adds to the logit of the source, so that
        training starts from the picture itself and learns the change.
      dtype: of the computation.
    """

    filters: pydantic.PositiveInt = 64
    blocks: pydantic.NonNegativeInt = 9
    scales: pydantic.NonNegativeInt = 2
    norm: layers.Norm = "instance"
    start_at_identity: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, source: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        """Fakes in [0, 1] of the size of `source`, float32."""
        height, width = source.shape[1:3]
        x = layers.centre(layers.pad_to_multiple(source, 2**self.scales)).astype(self.dtype)
        x = self._activate(layers.Conv(features=self.filters, size=7, dtype=self.dtype)(x))
        for scale in range(1, self.scales + 1):
            down = layers.Conv(features=self.filters * 2**scale, stride=2, dtype=self.dtype)
            x = self._activate(down(x))
        for _ in range(self.blocks):
            x = self._block(x)
        for scale in reversed(range(self.scales)):
            x = self._activate(layers.UpConv(features=self.filters * 2**scale, dtype=self.dtype)(x))
        last = nn.initializers.zeros if self.start_at_identity else layers.INIT
        change = layers.Conv(features=source.shape[-1], size=7, kernel_init=last, dtype=self.dtype)(x)
        change = change[:, :height, :width].astype(jnp.float32)
        return layers.to_picture(change, source if self.start_at_identity else None)

    def _activate(self, x: jax.Array) -> jax.Array:
        return nn.relu(layers.normalize(x, self.norm))

    def _block(self, x: jax.Array) -> jax.Array:
        features = x.shape[-1]
        y = self._activate(layers.Conv(features=features, dtype=self.dtype)(x))
        return x + layers.normalize(layers.Conv(features=features, dtype=self.dtype)(y), self.norm)
