"""A discriminator that sees frozen features instead of pixels (Sauer et al. 2021, Projected GANs)."""

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

    The features know textures and shapes from the start, so that few pictures and steps go far. The network
    must not be one that judges the result: KID is measured on another.

    Attributes:
      network: of the features.
      layers: of it, a head each.
      filters: channels of a head.
      dtype: of the computation.
    """

    network: str = "vgg16"
    layers: tuple[str, ...] = ("relu1_2", "relu2_2", "relu3_3", "relu4_1")
    filters: pydantic.PositiveInt = 64
    dtype: Any = jnp.float32

    @property
    def wants(self) -> tuple[str, tuple[str, ...]]:
        """The network and the layers that `features` has to hold."""
        return self.network, tuple(self.layers)

    @nn.compact
    def __call__(
        self,
        pictures: Float[Array, "b h w c"],
        *,
        features: Mapping[str, jax.Array],
        update_stats: bool = False,
    ) -> base.Verdict:
        """The verdict on pictures by their features; logits for each position of each layer."""
        del pictures
        logits, activations = [], []
        for layer in self.layers:
            x = features[layer].astype(jnp.float32)
            # Each layer on a scale of 1, as it is on average over positions and channels.
            scale = jnp.sqrt(jnp.mean(x**2, axis=(1, 2, 3), keepdims=True) + 1e-4)
            x = (x / jax.lax.stop_gradient(scale)).astype(self.dtype)
            x = nn.leaky_relu(blocks.judging_conv(x, self.filters, 4, 2, True, update_stats, self.dtype), 0.2)
            activations.append((x,))
            x = nn.leaky_relu(blocks.judging_conv(x, self.filters, 3, 1, True, update_stats, self.dtype), 0.2)
            logits.append(blocks.judging_conv(x, 1, 3, 1, True, update_stats, self.dtype).astype(jnp.float32))
        return base.Verdict(logits=tuple(logits), activations=tuple(activations))
