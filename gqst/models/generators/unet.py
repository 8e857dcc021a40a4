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

    Sizes that are not multiples of 2**depth are padded by reflection, and the result is cropped. Up-sampling is
    nearest-neighbour and a 3x3 convolution in place of the paper's 4x4 transposed convolution.

    Attributes:
      filters: Number of channels after the first halving; doubled at each further halving, up to 8 times as many.
      depth: Number of halvings of the size; 8 for 256 px in the paper. Pictures need at least 2**depth px a side.
      norm: Norm of all layers but the first, the innermost and the last.
      start_at_identity: Whether the last layer starts at zero and adds to the logit of the source, so that training
        starts from the identity.
      dtype: Type of the computation; parameters are float32.
      axis_name: Name of pmap's axis, for batch norm.
    """

    filters: pydantic.PositiveInt = 64
    depth: pydantic.PositiveInt = 8
    norm: blocks.Norm = "instance"
    start_at_identity: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def multiple(self) -> int:
        """See `base.GENERATORS`."""
        return 2**self.depth

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the encoder's layers for contrastive terms."""
        return ("pixels", *(f"down{level + 1}" for level in range(self.depth)))

    @nn.compact
    def __call__(self, source: Float[Array, "b h w 3"], *, train: bool = False, taps: Sequence[str] = ()) -> Any:
        """Returns fakes in [0, 1] of the size of `source`, float32; with `taps`, the activations of these layers."""
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
            return tapped.activations
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
