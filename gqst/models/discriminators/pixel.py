"""The PixelGAN discriminator of pix2pix (Isola et al. 2017, section 3.2.2 and appendix 6.1.2)."""

from typing import Any

import jax.numpy as jnp
import pydantic
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models import base, blocks


@base.DISCRIMINATORS.register("pixel")
class Pixel(nn.Module, kw_only=True):
    """1x1 convolutions, which judge each pixel by its colour alone.

    Attributes:
      filters: Number of channels of the first layer; the second has twice as many.
      norm: Norm of the second layer.
      spectral_norm: Whether every kernel is divided by its largest singular value (Miyato et al. 2018).
      dtype: Type of the computation; parameters are float32.
      axis_name: Name of pmap's axis, for batch norm.
    """

    filters: pydantic.PositiveInt = 64
    norm: blocks.Norm = "instance"
    spectral_norm: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w c"], *, update_stats: bool = False) -> base.Verdict:
        """Returns the verdict on pictures in [0, 1] of any size, with a logit for each pixel."""
        x = blocks.centre(pictures).astype(self.dtype)
        activations = []
        for features in (self.filters, 2 * self.filters):
            first = features == self.filters
            norm = "none" if first else self.norm
            x = blocks.discriminator_conv(x, features, 1, 1, self.spectral_norm, update_stats, self.dtype, norm)
            if not first:
                x = blocks.Normalize(kind=norm, axis_name=self.axis_name)(x, train=True)
            x = nn.leaky_relu(x, 0.2)
            activations.append(x)
        logits = blocks.discriminator_conv(x, 1, 1, 1, self.spectral_norm, update_stats, self.dtype)
        return base.Verdict(logits=(logits.astype(jnp.float32),), activations=(tuple(activations),))
