"""The multi-scale discriminator of pix2pixHD (Wang et al. 2018, section 3.2)."""

from typing import Any

import jax.numpy as jnp
import pydantic
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models import base, blocks
from gqst.models.discriminators import patch


@base.DISCRIMINATORS.register("multiscale")
class MultiScale(nn.Module, kw_only=True):
    """A patch discriminator for each of several sizes of the picture: full, half, quarter and so on.

    Attributes:
      scales: Number of sizes.
      filters, layers, norm, spectral_norm, dtype, axis_name: Fields of each discriminator, as in `patch.Patch`.
    """

    scales: pydantic.PositiveInt = 3
    filters: pydantic.PositiveInt = 64
    layers: pydantic.PositiveInt = 3
    norm: blocks.Norm = "instance"
    spectral_norm: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w c"], *, update_stats: bool = False) -> base.Verdict:
        """Returns the verdict of all scales on pictures in [0, 1], full size first."""
        verdicts = []
        for scale in range(self.scales):
            if scale:
                pictures = nn.avg_pool(pictures, (2, 2), strides=(2, 2))
            discriminator = patch.Patch(
                filters=self.filters,
                layers=self.layers,
                norm=self.norm,
                spectral_norm=self.spectral_norm,
                dtype=self.dtype,
                axis_name=self.axis_name,
            )
            verdicts.append(discriminator(pictures, update_stats=update_stats))
        return base.Verdict(
            logits=tuple(v.logits[0] for v in verdicts),
            activations=tuple(v.activations[0] for v in verdicts),
        )
