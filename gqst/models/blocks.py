"""Layers shared by several networks."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import ad_checkpoint
from jaxtyping import Array, Float

from gqst.models import frames
from gqst.ops import convolutions, norms

Norm = Literal["instance", "batch", "group", "none"]
Padding = Literal["reflect", "zero"]

_PAD_MODES = {"reflect": "reflect", "zero": "constant"}
INIT = nn.initializers.normal(0.02)  # as in CycleGAN and pix2pix
KEPT = "block"
"""Name of the activations passed from block to block, which `remat="blocks"` keeps."""

OPPONENT = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]], np.float32).T / np.sqrt(np.array([[3, 2, 6]], np.float32))
"""Columns are light, red against green, and blue against yellow: nearly independent of each other in pictures."""

_GROUPS = 32  # as in Wu and He 2018
_UNROLLED = contextvars.ContextVar("unrolled", default=False)


@contextlib.contextmanager
def unrolled(wanted: bool = True) -> Iterator[None]:
    """Within it, networks are traced without loops over equal layers, if that is wanted."""
    token = _UNROLLED.set(wanted or are_unrolled())
    try:
        yield
    finally:
        _UNROLLED.reset(token)


def are_unrolled() -> bool:
    """Returns whether networks are to be traced without loops."""
    return _UNROLLED.get()


class Conv(nn.Module, kw_only=True):
    """A convolution, NHWC. With odd kernels it keeps the size at stride 1 and halves it, rounded up, at stride 2.

    Attributes:
      features: Number of output channels.
      size: Side of the kernel.
      stride: Stride, 1 or 2.
      padding: Content of the border.
      pad: Width of the border in pixels on every side; None takes (size - 1) // 2.
      dtype: Type of the computation; parameters are float32.
      kernel_init: Initialiser of the kernel.
      before_norm: Norm that follows. `instance` and `batch` subtract each channel's mean and so cancel the bias, whose
        gradient is then zero and is not computed.
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
        """Returns the convolved activations."""
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        pad = (self.size - 1) // 2 if self.pad is None else self.pad
        x = pad_border(x.astype(self.dtype), pad, self.padding)
        x = convolutions.conv2d(x, kernel.astype(self.dtype), stride=self.stride)
        return x + _bias(bias, self, x.shape)


class UpConv(nn.Module, kw_only=True):
    """Nearest-neighbour up-sampling by 2 and a 3x3 convolution, free of checkerboard artefacts (Odena et al. 2016).

    It has the same parameters as a 3x3 transposed convolution.

    Attributes:
      features: Number of output channels.
      dtype: Type of the computation; parameters are float32.
      kernel_init: Initialiser of the kernel.
      before_norm: Norm that follows, as in `Conv`.
    """

    features: int
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = INIT
    before_norm: Norm = "none"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w f"]:
        """Returns the activations at twice the height and width."""
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        frame = frames.current()
        x = x if frame is None else frame.extended(x)
        x = convolutions.upsample_conv2d(x.astype(self.dtype), kernel.astype(self.dtype))
        return x + _bias(bias, self, x.shape)


def _bias(bias: jax.Array, conv: Conv | UpConv, shape: tuple[int, ...]) -> jax.Array:
    bias = jax.lax.stop_gradient(bias) if conv.before_norm in ("instance", "batch") else bias
    # Broadcast before the cast, so that the gradient sums over pixels in float32: in bfloat16 256 + 1 is 256.
    return jnp.broadcast_to(bias, shape).astype(conv.dtype)


class Normalize(nn.Module, kw_only=True):
    """Normalisation of activations, computed in float32.

    Attributes:
      kind: `instance`, per picture and channel, without learnt scale and shift (Ulyanov et al. 2016); `batch`, per
        channel over the pictures of all devices, with running averages for evaluation (Ioffe and Szegedy 2015);
        `group`, per picture and group of channels, at most 32 groups (Wu and He 2018); or `none`.
      axis_name: Name of pmap's axis, for `batch`; None under jit, where the batch already holds all pictures.
    """

    kind: Norm
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool = False) -> Float[Array, "b h w c"]:
        """Returns the normalised activations; with `train`, `batch` takes its statistics from `x` and updates them."""
        frame = frames.current()
        wide = x.astype(jnp.float32)
        if self.kind == "instance":
            if frame is None:
                return norms.instance_norm(x)
            x, moments = frame.moments(x)
            return norms.standardize(x, *moments)
        if self.kind == "batch":
            norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name=self.axis_name)
            return norm(wide).astype(x.dtype)
        if self.kind == "group":
            groups = max(n for n in range(1, _GROUPS + 1) if x.shape[-1] % n == 0)
            if frame is not None:
                wide, moments = frame.moments(wide)
                standard = norms.standardize(wide, *_of_groups(*moments, groups))
                return _Affine(name="GroupNorm_0")(standard).astype(x.dtype)
            return nn.GroupNorm(num_groups=groups, epsilon=1e-5)(wide).astype(x.dtype)
        return x


class _Affine(nn.Module):
    """The learnt scale and shift of a group norm, whose moments are known."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        return x * scale[None, None, None] + self.param("bias", nn.initializers.zeros, x.shape[-1:])[None, None, None]


def _of_groups(mean: jax.Array, variance: jax.Array, groups: int) -> tuple[jax.Array, jax.Array]:
    """Returns the moments of groups of channels, for each channel of its group, from those of the channels."""
    b, c = mean.shape[0], mean.shape[-1]
    mean, variance = (x.reshape(b, groups, -1) for x in (mean, variance))
    whole = mean.mean(-1, keepdims=True)
    spread = jnp.mean(variance + (mean - whole) ** 2, -1, keepdims=True)
    each = (jnp.broadcast_to(x, mean.shape).reshape(b, 1, 1, c) for x in (whole, spread))
    return next(each), next(each)


def to_opponent(x: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Returns RGB pictures in OPPONENT colours, as float32."""
    return x.astype(jnp.float32) @ OPPONENT


def keep(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns activations between two blocks, marked as those that `remat="blocks"` keeps."""
    frame = frames.current()
    x = x if frame is None else frame.point(x)
    return ad_checkpoint.checkpoint_name(x, KEPT)


def discriminator_conv(
    x: Float[Array, "b h w c"],
    features: int,
    size: int,
    stride: int,
    spectral_norm: bool,
    update_stats: bool,
    dtype: Any,
    before_norm: Norm = "none",
) -> Float[Array, "b h2 w2 f"]:
    """Returns x after a discriminator's convolution, zero-padded and optionally with spectral norm.

    To be called within a compact module, to which the convolution then belongs.
    """
    pad = (size - 1) // 2
    conv = Conv(
        features=features, size=size, stride=stride, padding="zero", pad=pad, dtype=dtype, before_norm=before_norm
    )
    return nn.SpectralNorm(conv)(x, update_stats=update_stats) if spectral_norm else conv(x)


def pad_border(x: Float[Array, "b h w c"], pad: int, padding: Padding) -> Float[Array, "b h2 w2 c"]:
    """Returns the activations with `pad` more pixels on every side."""
    if pad == 0:
        return x
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode=_PAD_MODES[padding])
    frame = frames.current()
    return padded if frame is None else frame.mended(padded, pad, padding)


def pad_to_multiple(x: Float[Array, "b h w c"], multiple: int) -> Float[Array, "b h2 w2 c"]:
    """Returns the pictures with reflected rows and columns added at the end, up to the next multiple of `multiple`.

    Raises:
      ValueError: A side is shorter than `multiple`.
    """
    height, width = x.shape[1:3]
    if min(height, width) < multiple:
        raise ValueError(f"the network needs pictures of {multiple} px a side, got {height}x{width}")
    return jnp.pad(x, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)), mode="reflect")


def centre(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Returns pictures in [0, 1] mapped to [-1, 1], the range inside networks."""
    return 2.0 * x - 1.0


def to_picture(change: Float[Array, "b h w c"], source: Float[Array, "b h w c"] | None) -> Float[Array, "b h w c"]:
    """Returns pictures in [0, 1] from a network's last activations: (1 + tanh(x)) / 2, which equals sigmoid(2 x).

    With a source, 2 x is added to its logit, so that zeros reproduce the source. Source values are clipped to
    [0.02, 0.98] first, because the infinite logits of black and white could never change.
    """
    if source is None:
        return (1.0 + jnp.tanh(change)) / 2.0
    clipped = jnp.clip(source, 0.02, 0.98)
    return jax.nn.sigmoid(jnp.log(clipped) - jnp.log1p(-clipped) + 2.0 * change)
