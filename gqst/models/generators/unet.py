"""The U-Net generator of pix2pix (Isola et al. 2017, appendix 6.1)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import pydantic
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models import base, blocks


@base.GENERATORS.register("unet")
class UNet(nn.Module, kw_only=True):
    """An encoder and a decoder with a skip connection at every size.

    Sizes that 2**depth does not divide are padded by reflection and cut back. Up-sampling is
    nearest-neighbour and a 3x3 convolution where the paper has a 4x4 transposed one.

    Attributes:
      filters: channels after the first halving; they double at each halving, to 8 times that.
      depth: how often the size is halved; 8 at 256 px in the paper. Pictures need 2**depth px a side.
      norm: of all layers but the first and the innermost.
      start_at_identity: whether the last layer starts at zero and adds to the logit of the source.
      dtype: of the computation.
      axis_name: of pmap, for batch norm.
    """

    filters: pydantic.PositiveInt = 64
    depth: pydantic.PositiveInt = 8
    norm: blocks.Norm = "instance"
    start_at_identity: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def taps(self) -> tuple[str, ...]:
        """The layers of the encoder that contrastive terms may look at."""
        return ("pixels", *(f"down{level + 1}" for level in range(self.depth)))

    @nn.compact
    def __call__(self, source: Float[Array, "b h w 3"], *, train: bool = False, taps: Sequence[str] = ()) -> Any:
        """Fakes in [0, 1] of the size of `source`, float32; with `taps` the activations of these layers instead."""
        height, width = source.shape[1:3]
        x = blocks.centre(blocks.pad_to_multiple(source, 2**self.depth)).astype(self.dtype)
        skips, tapped = [], base.Taps(taps, pixels=x)
        for level in range(self.depth):
            plain = level in (0, self.depth - 1)
            x = x if level == 0 else nn.leaky_relu(x, 0.2)
            conv = {
                "size": 4,
                "stride": 2,
                "padding": "zero",
                "dtype": self.dtype,
                "before_norm": "none" if plain else self.norm,
            }
            x = blocks.Conv(features=self._width(level), **conv)(x)
            x = blocks.keep(x if plain else self._normalize(x, train))
            skips.append(x)
            tapped.add(f"down{level + 1}", x)
        if taps:
            return tapped.found
        for level in reversed(range(self.depth - 1)):
            x = blocks.UpConv(features=self._width(level), dtype=self.dtype, before_norm=self.norm)(nn.relu(x))
            x = jnp.concatenate([blocks.keep(self._normalize(x, train)), skips[level]], axis=-1)
        last = nn.initializers.zeros if self.start_at_identity else blocks.INIT
        x = blocks.UpConv(features=source.shape[-1], kernel_init=last, dtype=self.dtype)(nn.relu(x))
        change = x[:, :height, :width].astype(jnp.float32)
        return blocks.to_picture(change, source if self.start_at_identity else None)

    def _normalize(self, x: jax.Array, train: bool) -> jax.Array:
        return blocks.Normalize(kind=self.norm, axis_name=self.axis_name)(x, train=train)

    def _width(self, level: int) -> int:
        return self.filters * min(2**level, 8)
