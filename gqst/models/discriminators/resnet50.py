"""The discriminator of the paper (see configs/paper.py): ResNet-50 with a single logit for the whole picture."""

from typing import Any

import jax.numpy as jnp
import pydantic
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models import base, blocks, resnet50


@base.DISCRIMINATORS.register("resnet50")
class ResNet50(nn.Module, kw_only=True):
    """ResNet-50, its features averaged over positions, and a dense layer to a single logit.

    Attributes:
      filters: Number of channels of the stem; 64 in the paper.
      norm: Norm of all convolutions.
      weights: Path of a file of torchvision's resnet50 (.safetensors or .npz) for the initial weights, which needs 64
        filters and norm `batch`; None initialises them at random.
      dtype: Type of the computation; parameters are float32.
      axis_name: Name of pmap's axis, for batch norm.
    """

    filters: pydantic.PositiveInt = 64
    norm: blocks.Norm = "batch"
    weights: str | None = None
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w c"], *, update_stats: bool = False) -> base.Verdict:
        """Returns the verdict on pictures in [0, 1] of any size, with one logit per picture, f32[b 1 1 1]."""
        del update_stats  # batch norm uses the statistics of the batch itself, never its running averages
        encoder = resnet50.Encoder(
            filters=self.filters, norm=self.norm, dtype=self.dtype, axis_name=self.axis_name, name="encoder"
        )
        activations = encoder(pictures, train=True)
        pooled = jnp.mean(activations[-1].astype(jnp.float32), axis=(1, 2), keepdims=True)
        logits = nn.Dense(1, name="logit")(pooled)
        return base.Verdict(logits=(logits,), activations=(tuple(activations),))

    def initial(self) -> dict[str, Any]:
        """Returns the encoder's variables from the file `weights`, by collection; empty without one."""
        return resnet50.pretrained(self.weights, filters=self.filters, norm=self.norm)
