"""The residual generator of Johnson et al. 2016, as used by CycleGAN (Zhu et al. 2017, appendix 7.2)."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import pydantic
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models import base, frames
from gqst.models import blocks as layers  # `blocks` is the name of an option
from gqst.models import noise as noises  # so is `noise`

_FEWEST_PIXELS = 1024
"""Pixels in the blocks from which on these are a loop; with fewer, its copies of kernels would take time.

They are those of the whole batch under jit, and of a device's share of it under pmap.
"""


@base.GENERATORS.register("resnet")
class ResNet(nn.Module, kw_only=True):
    """Down-sampling, residual blocks and up-sampling, for pictures of any size.

    With 64 filters and 9 blocks it has 11,378,179 parameters, like the published network: up-sampling is
    nearest-neighbour and a 3x3 convolution here, which has as many as the paper's 3x3 transposed convolution.

    Attributes:
      filters: Number of channels at full size; doubled at each halving.
      blocks: Number of residual blocks at the smallest size; in the paper 9 for 256 px and 6 for 128 px.
      scales: Number of halvings of the size.
      norm: Norm of all layers but the last.
      start_at_identity: Whether the last layer starts at zero and adds to the logit of the source, so that training
        starts from the identity and learns the change.
      noise: Whether activations get noise, so that flat areas differ from place to place and pictures have variants.
      dtype: Type of the computation; parameters are float32.
      axis_name: Name of pmap's axis, for batch norm.
    """

    filters: pydantic.PositiveInt = 64
    blocks: pydantic.NonNegativeInt = 9
    scales: pydantic.NonNegativeInt = 2
    norm: layers.Norm = "instance"
    start_at_identity: bool = False
    noise: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def multiple(self) -> int:
        """See `base.GENERATORS`."""
        return 2**self.scales

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the encoder's layers for contrastive terms: those of CUT, unless the network is shallower."""
        middle = [f"block{number}" for number in sorted({1, (self.blocks + 1) // 2}) if 1 <= number <= self.blocks]
        return ("pixels", *(f"down{scale}" for scale in range(1, self.scales + 1)), *middle)

    @nn.compact
    def __call__(self, source: Float[Array, "b h w 3"], *, train: bool = False, taps: Sequence[str] = ()) -> Any:
        """Returns fakes in [0, 1] of the size of `source`, float32; with `taps`, the activations of these layers."""
        height, width = source.shape[1:3]
        source = layers.pad_to_multiple(source, 2**self.scales)
        x = layers.centre(source).astype(self.dtype)
        tapped = base.Taps(taps, pixels=x)
        x = self._activate(self._conv(x, self.filters, size=7), train)
        for scale in range(1, self.scales + 1):
            x = layers.keep(self._activate(self._conv(x, self.filters * 2**scale, stride=2), train))
            tapped.add(f"down{scale}", x)
        if self._loops(x, taps):
            x = self._looped(x)
        else:
            for number in range(self.blocks):
                x = layers.keep(self._block(x, train))
                tapped.add(f"block{number + 1}", x)
                if tapped.complete:
                    break
        if taps:
            return tapped.activations
        for scale in reversed(range(self.scales)):
            up = layers.UpConv(features=self.filters * 2**scale, **self._common)
            x = layers.keep(self._activate(up(x), train))
        last = nn.initializers.zeros if self.start_at_identity else layers.INIT
        # Counted with the convolutions of the blocks, also where a loop made these.
        name = f"Conv_{1 + self.scales + 2 * self.blocks}"
        change = layers.Conv(name=name, features=source.shape[-1], size=7, kernel_init=last, dtype=self.dtype)(x)
        change, source = (z[:, :height, :width].astype(jnp.float32) for z in (change, source))
        return layers.to_picture(change, source if self.start_at_identity else None)

    def _normalize(self, x: jax.Array, train: bool) -> jax.Array:
        return layers.Normalize(kind=self.norm, axis_name=self.axis_name)(x, train=train)

    def _activate(self, x: jax.Array, train: bool) -> jax.Array:
        if self.noise:
            x = noises.Noise(weight_init=layers.INIT)(x, noises.seeds_of(self))
        return nn.relu(self._normalize(x, train))

    def _block(self, x: jax.Array, train: bool) -> jax.Array:
        features = x.shape[-1]
        y = self._activate(self._conv(x, features), train)
        # Without a norm, blocks start as the identity (Fixup, Zhang et al. 2019), or sums would grow with every block.
        init = nn.initializers.zeros if self.norm == "none" else self._init
        return x + self._normalize(self._conv(y, features, init=init), train)

    def _loops(self, x: jax.Array, taps: Sequence[str]) -> bool:
        """Whether the blocks, whose only variables are then those of convolutions, are the body of a loop."""
        plain = self.norm in ("instance", "none") and not self.noise
        apart = self.is_initializing() or taps or frames.current() is not None or layers.are_unrolled()
        return plain and not apart and self.blocks > 1 and math.prod(x.shape[:3]) >= _FEWEST_PIXELS

    def _looped(self, x: jax.Array) -> jax.Array:
        """The activations after all blocks, as `_block` gives them one by one."""
        conv = layers.Conv(parent=None, features=x.shape[-1], **self._common)
        norm = layers.Normalize(parent=None, kind=self.norm)

        def block(x: jax.Array, pair: Any) -> tuple[jax.Array, None]:
            y: Any = norm.apply({}, conv.apply({"params": pair[0]}, x))
            y = norm.apply({}, conv.apply({"params": pair[1]}, nn.relu(y)))
            return x + y, None

        first = 1 + self.scales
        convs = [self.variables["params"][f"Conv_{first + i}"] for i in range(2 * self.blocks)]
        pairs = list(zip(convs[::2], convs[1::2], strict=True))
        return jax.lax.scan(block, x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *pairs))[0]

    def _conv(self, x: jax.Array, features: int, *, size: int = 3, stride: int = 1, init: Any = None) -> jax.Array:
        options = self._common | ({"kernel_init": init} if init else {})
        return layers.Conv(features=features, size=size, stride=stride, **options)(x)

    @property
    def _common(self) -> dict[str, Any]:
        """Options shared by all convolutions but the last."""
        return {"kernel_init": self._init, "dtype": self.dtype, "before_norm": self.norm}

    @property
    def _init(self) -> nn.initializers.Initializer:
        # Without a norm, the signal would fade through kernels with a deviation of 0.02.
        return nn.initializers.he_normal() if self.norm == "none" else layers.INIT
