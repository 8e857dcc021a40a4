"""Layers that several networks share."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import ad_checkpoint
from jaxtyping import Array, Float

from gqst.ops import convolutions, norms

Norm = Literal["instance", "batch", "group", "none"]
Padding = Literal["reflect", "zero"]

_PAD_MODES = {"reflect": "reflect", "zero": "constant"}
INIT = nn.initializers.normal(0.02)  # of CycleGAN and pix2pix
KEPT = "block"
"""The name of what goes from block to block, for rematerialisation that keeps it."""

_GROUPS = 32  # of Wu and He 2018


class Conv(nn.Module, kw_only=True):
    """A convolution, NHWC, that keeps the size at stride 1 and halves it (rounded up) at stride 2.

    Attributes:
      features: output channels.
      size: side of the kernel.
      stride: 1 or 2.
      padding: how the border is filled.
      pad: pixels on every side; None is (size - 1) // 2.
      dtype: of the computation; the parameters are float32.
      kernel_init: of the kernel.
      before_norm: the norm that follows. `instance` and `batch` take away each channel's mean, and with it any bias:
        its gradient is zero then, and is not computed.
    """

    features: int
    size: int = 3
    stride: int = 1
    padding: Padding = "reflect"
    pad: int | None = None
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = INIT
    before_norm: Norm = "none"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 f"]:
        """The convolved activations."""
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        pad = (self.size - 1) // 2 if self.pad is None else self.pad
        x = pad_border(x.astype(self.dtype), pad, self.padding)
        x = convolutions.conv2d(x, kernel.astype(self.dtype), stride=self.stride)
        return x + _bias(bias, self, x.shape)


class UpConv(nn.Module, kw_only=True):
    """Nearest-neighbour up-sampling by 2 and a 3x3 convolution: no checkerboard (Odena et al. 2016).

    It has the parameters of a 3x3 transposed convolution.

    Attributes:
      features: output channels.
      dtype: of the computation; the parameters are float32.
      kernel_init: of the kernel.
      before_norm: as in Conv.
    """

    features: int
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = INIT
    before_norm: Norm = "none"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w f"]:
        """The activations at twice the height and width."""
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = convolutions.upsample_conv2d(x.astype(self.dtype), kernel.astype(self.dtype))
        return x + _bias(bias, self, x.shape)


def _bias(bias: jax.Array, conv: Conv | UpConv, shape: tuple[int, ...]) -> jax.Array:
    held = jax.lax.stop_gradient(bias) if conv.before_norm in ("instance", "batch") else bias
    # Spread before it is narrowed: the gradient then sums over the pixels in float32. In bfloat16 256 + 1 is 256.
    return jnp.broadcast_to(held, shape).astype(conv.dtype)


class Normalize(nn.Module, kw_only=True):
    """A norm of activations, computed in float32.

    Attributes:
      kind: `instance`, per picture and channel, without learnt scale and shift (Ulyanov et al. 2016); `batch`,
        per channel over all pictures of all devices, with running averages for evaluation (Ioffe and Szegedy
        2015); `group`, per picture and group of channels (Wu and He 2018), at most 32 groups; or `none`.
      axis_name: of pmap, for `batch`; in the global view the batch is all pictures already.
    """

    kind: Norm
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b h w c"]:
        """The normalised activations; `train` takes `batch`'s statistics from `x` itself."""
        wide = x.astype(jnp.float32)
        if self.kind == "instance":
            return norms.instance_norm(x)
        if self.kind == "batch":
            norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name=self.axis_name)
            return norm(wide).astype(x.dtype)
        if self.kind == "group":
            groups = max(n for n in range(1, _GROUPS + 1) if x.shape[-1] % n == 0)
            return nn.GroupNorm(num_groups=groups, epsilon=1e-5)(wide).astype(x.dtype)
        return x


def keep(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The activations between two blocks, marked as what `remat="blocks"` keeps."""
    return ad_checkpoint.checkpoint_name(x, KEPT)


def judging_conv(
    x: Float[Array, "b h w c"],
    features: int,
    size: int,
    stride: int,
    spectral_norm: bool,
    update_stats: bool,
    dtype: Any,
    before_norm: Norm = "none",
) -> Float[Array, "b h2 w2 f"]:
    """A discriminator's convolution, zero padded, maybe with spectral norm; to be called in a compact module."""
    pad = (size - 1) // 2
    conv = Conv(
        features=features, size=size, stride=stride, padding="zero", pad=pad, dtype=dtype, before_norm=before_norm
    )
    return nn.SpectralNorm(conv)(x, update_stats=update_stats) if spectral_norm else conv(x)


def pad_border(x: Float[Array, "b h w c"], pad: int, padding: Padding) -> Float[Array, "b h2 w2 c"]:
    """The activations with `pad` more pixels on every side."""
    if pad == 0:
        return x
    return jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode=_PAD_MODES[padding])


def pad_to_multiple(x: Float[Array, "b h w c"], multiple: int) -> Float[Array, "b h2 w2 c"]:
    """The pictures with reflected rows and columns added at the end, to sizes that `multiple` divides.

    Raises:
      ValueError: a side is shorter than `multiple`.
    """
    height, width = x.shape[1:3]
    if min(height, width) < multiple:
        raise ValueError(f"the network needs pictures of {multiple} px a side, got {height}x{width}")
    return jnp.pad(x, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)), mode="reflect")


def centre(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Pictures in [0, 1] as networks take them, in [-1, 1]."""
    return 2.0 * x - 1.0


def to_picture(change: Float[Array, "b h w c"], source: Float[Array, "b h w c"] | None) -> Float[Array, "b h w c"]:
    """Pictures in [0, 1] of a network's last activations: (1 + tanh) / 2, which is a logistic of twice.

    With a source the activations add to its logit, so that zeros give the source back, but for the darkest
    and brightest 2 %: their logits are cut there, or black and white would stay as they are for ever.
    """
    if source is None:
        return (1.0 + jnp.tanh(change)) / 2.0
    held = jnp.clip(source, 0.02, 0.98)
    return jax.nn.sigmoid(jnp.log(held) - jnp.log1p(-held) + 2.0 * change)
