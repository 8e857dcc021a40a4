"""A discriminator of frozen features instead of pixels (Projected GANs, Sauer et al. 2021)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import pydantic
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models import base, blocks


@base.DISCRIMINATORS.register("projected")
class Projected(nn.Module, kw_only=True):
    """A small head with spectral norm on each of several layers of a frozen network.

    The features represent textures and shapes from the start, so that few pictures and steps suffice. The network must
    not be one that also measures the result; KID uses another.

    Attributes:
      network: Name of the feature network.
      layers: Names of its layers that have a head.
      filters: Number of channels of a head.
      dtype: Type of the computation; parameters are float32.
    """

    network: str = "vgg16"
    layers: tuple[str, ...] = ("relu1_2", "relu2_2", "relu3_3", "relu4_1")
    filters: pydantic.PositiveInt = 64
    dtype: Any = jnp.float32

    @property
    def wants(self) -> tuple[str, tuple[str, ...]]:
        """Name of the feature network, and names of the layers that `features` must hold."""
        return self.network, tuple(self.layers)

    @nn.compact
    def __call__(
        self,
        pictures: Float[Array, "b h w c"],
        *,
        features: Mapping[str, jax.Array],
        update_stats: bool = False,
    ) -> base.Verdict:
        """Returns the verdict on the pictures that have these features, with a logit for each position of each layer.

        Args:
          pictures: Pictures in [0, 1], which are not looked at.
          features: Activations of the feature network for them, by layer.
          update_stats: Whether spectral norm's power iteration advances, in the collection `batch_stats`.
        """
        del pictures
        logits, activations = [], []
        for layer in self.layers:
            x = features[layer].astype(jnp.float32)
            # Each picture's features are scaled to a root mean square of 1 over positions and channels.
            scale = jnp.sqrt(jnp.mean(x**2, axis=(1, 2, 3), keepdims=True) + 1e-4)
            x = (x / jax.lax.stop_gradient(scale)).astype(self.dtype)
            x = nn.leaky_relu(blocks.discriminator_conv(x, self.filters, 4, 2, True, update_stats, self.dtype), 0.2)
            activations.append((x,))
            x = nn.leaky_relu(blocks.discriminator_conv(x, self.filters, 3, 1, True, update_stats, self.dtype), 0.2)
            logits.append(blocks.discriminator_conv(x, 1, 3, 1, True, update_stats, self.dtype).astype(jnp.float32))
        return base.Verdict(logits=tuple(logits), activations=tuple(activations))
