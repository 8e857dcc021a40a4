"""The PatchGAN discriminator of pix2pix (Isola et al. 2017, appendix 6.1.2)."""

from typing import Any

import jax
import jax.numpy as jnp
import pydantic
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models import base, blocks


@base.DISCRIMINATORS.register("patch")
class Patch(nn.Module, kw_only=True):
    """A fully convolutional network with a logit for each patch, of 70x70 px with 3 layers.

    Attributes:
      filters: Number of channels of the first layer; doubled at each further layer, up to 8 times as many.
      layers: Number of 4x4 convolutions of stride 2, which one of stride 1 and that of the logit follow. The side of a
        patch is 16, 34, 70 or 142 px with 1, 2, 3 or 4 layers.
      norm: Norm of all layers but the first and that of the logit.
      spectral_norm: Whether every kernel is divided by its largest singular value (Miyato et al. 2018).
      dtype: Type of the computation; parameters are float32.
      axis_name: Name of pmap's axis, for batch norm.
    """

    filters: pydantic.PositiveInt = 64
    layers: pydantic.PositiveInt = 3
    norm: blocks.Norm = "instance"
    spectral_norm: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w c"], *, update_stats: bool = False) -> base.Verdict:
        """Returns the verdict on pictures in [0, 1].

        Args:
          pictures: Pictures of at least 2**(layers + 2) px a side.
          update_stats: Whether spectral norm's power iteration advances, in the collection `batch_stats`.

        Raises:
          ValueError: The pictures are smaller.
        """
        smallest = 2 ** (self.layers + 2)
        if min(pictures.shape[1:3]) < smallest:
            raise ValueError(
                f"a patch discriminator with {self.layers} layers needs pictures of {smallest} px a side, "
                f"got {pictures.shape[1]}x{pictures.shape[2]}"
            )
        x = blocks.centre(pictures).astype(self.dtype)
        activations = []
        for layer in range(self.layers + 1):
            features = self.filters * min(2**layer, 8)
            stride = 2 if layer < self.layers else 1
            norm = self.norm if layer > 0 else "none"
            x = self._conv(x, features, stride=stride, update_stats=update_stats, before_norm=norm)
            if layer > 0:
                x = blocks.Normalize(kind=norm, axis_name=self.axis_name)(x, train=True)
            x = nn.leaky_relu(x, 0.2)
            activations.append(x)
        logits = self._conv(x, 1, stride=1, update_stats=update_stats)
        return base.Verdict(logits=(logits.astype(jnp.float32),), activations=(tuple(activations),))

    def _conv(
        self, x: jax.Array, features: int, *, stride: int, update_stats: bool, before_norm: blocks.Norm = "none"
    ) -> jax.Array:
        return blocks.discriminator_conv(
            x, features, 4, stride, self.spectral_norm, update_stats, self.dtype, before_norm
        )
