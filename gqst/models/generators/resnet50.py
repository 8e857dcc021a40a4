"""The generator of the paper (see configs/paper.py): ResNet-50 as an encoder, and a decoder back to a picture."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import pydantic
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models import base, blocks, resnet50

_SMALLEST = 32  # the encoder halves five times


@base.GENERATORS.register("resnet50")
class ResNet50(nn.Module, kw_only=True):
    """ResNet-50 and a decoder that doubles the size five times, with a skip connection from the stem and each stage.

    The paper's listing would output class scores; this network decodes to a picture, as its text demands.

    Attributes:
      filters: Number of channels of the stem; 64 in the paper.
      norm: Norm of all layers but the last.
      weights: Path of a file of torchvision's resnet50 (.safetensors or .npz) for the encoder's initial weights, which
        needs 64 filters and norm `batch`; None initialises them at random.
      start_at_identity: Whether the last layer starts at zero and adds to the logit of the source, so that training
        starts from the identity.
      dtype: Type of the computation; parameters are float32.
      axis_name: Name of pmap's axis, for batch norm.
    """

    filters: pydantic.PositiveInt = 64
    norm: blocks.Norm = "batch"
    weights: str | None = None
    start_at_identity: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def multiple(self) -> int:
        """See `base.GENERATORS`."""
        return _SMALLEST

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the encoder's layers for contrastive terms."""
        return ("stem", "stage1", "stage2", "stage3")

    @nn.compact
    def __call__(self, source: Float[Array, "b h w 3"], *, train: bool = False, taps: Sequence[str] = ()) -> Any:
        """Returns fakes in [0, 1] of the size of `source`, float32; with `taps`, the activations of these layers."""
        height, width = source.shape[1:3]
        padded = blocks.pad_to_multiple(source, _SMALLEST)
        encoder = resnet50.Encoder(
            filters=self.filters, norm=self.norm, dtype=self.dtype, axis_name=self.axis_name, name="encoder"
        )
        stem, *stages = encoder(padded, train=train)
        if taps:
            tapped = base.Taps(taps, stem=stem, **{f"stage{n}": x for n, x in enumerate(stages, 1)})
            return tapped.activations
        skips = [stem, *stages]
        x = skips.pop()
        for level in (3, 2, 1, 0):
            x = self._up(x, self.filters * 2**level, train)
            x = jnp.concatenate([x, skips.pop()], axis=-1)
        x = self._up(x, max(self.filters // 2, 1), train)
        last = nn.initializers.zeros if self.start_at_identity else blocks.INIT
        x = blocks.Conv(features=source.shape[-1], size=7, kernel_init=last, dtype=self.dtype)(x)
        change = x[:, :height, :width].astype(jnp.float32)
        return blocks.to_picture(change, source if self.start_at_identity else None)

    def _up(self, x: jax.Array, channels: int, train: bool) -> jax.Array:
        init = nn.initializers.he_normal()
        x = blocks.UpConv(features=channels, kernel_init=init, dtype=self.dtype)(x)
        return blocks.keep(nn.relu(blocks.Normalize(kind=self.norm, axis_name=self.axis_name)(x, train=train)))

    def initial(self) -> dict[str, Any]:
        """Returns the encoder's variables from the file `weights`, by collection; empty without one."""
        return resnet50.pretrained(self.weights, filters=self.filters, norm=self.norm)
