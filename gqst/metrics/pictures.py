"""Quality of single pictures against others: f32[b h w c] in [0, 1], twice, to f32[b].

All of it is float32: SSIM in bfloat16 is wrong in its second digit.
"""

import functools
from collections.abc import Callable, Sequence

import dm_pix as pix
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from gqst import registry
from gqst.ops import color

Metric = Callable[[Float[Array, "b h w c"], Float[Array, "b h w c"]], Float[Array, "b"]]

METRICS = registry.Registry("metric")

WINDOW = 11
"""Side of SSIM's Gaussian window in pixels; smaller pictures have no SSIM."""

MS_SMALLEST = 176
"""Shortest side in pixels that MS-SSIM takes."""

_MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SIGMA = 1.5
# dm-pix's luminance factor is (2 m n + c) / (m^2 + n^2 + c) with c = k1^2: with so large a k1 it is 1.
_NO_LUMINANCE = 1e4


@METRICS.register("ssim")
def ssim(one: Float[Array, "b h w c"], other: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Structural similarity, at most 1 (Wang et al. 2004), averaged over channels; by dm-pix.

    Raises:
      ValueError: a side is shorter than the window of 11 px.
    """
    return _ssim(one, other, k1=0.01)


@METRICS.register("psnr")
def psnr(one: Float[Array, "b h w c"], other: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Peak signal-to-noise ratio in dB; infinite for equal pictures; by dm-pix.

    To be reported, not optimised: its gradient there is no number. See `log_mse`.
    """
    return pix.psnr(_wide(one), _wide(other))


@METRICS.register("contrast_structure")
def contrast_structure(one: Float[Array, "b h w c"], other: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """SSIM of luma without its luminance factor, in [-1, 1] (Wang et al. 2004, equation 6; by dm-pix).

    It says whether the same edges are there, whatever the colours; below 0 the picture is inverted.

    Raises:
      ValueError: a side is shorter than the window of 11 px.
    """
    return _ssim(color.luma(one), color.luma(other), k1=_NO_LUMINANCE)


@METRICS.register("ms_ssim")
def ms_ssim(one: Float[Array, "b h w c"], other: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Structural similarity over five scales, in (0, 1] (Wang et al. 2003, equation 7), averaged over channels.

    Each scale has half the size of the one before, by means of 2 x 2 pixels; an odd last line is left out. A scale
    counts as at least 1e-4, so that the gradient is finite where structures are inverted.

    Raises:
      ValueError: a side is shorter than 176 px, where the coarsest scale would be smaller than the window.
    """
    one, other = _wide(one), _wide(other)
    if min(one.shape[1:3]) < MS_SMALLEST:
        raise ValueError(f"MS-SSIM needs at least {MS_SMALLEST} px a side, got {one.shape[1]}x{one.shape[2]}")
    product = jnp.ones((len(one),))
    for scale, weight in enumerate(_MS_WEIGHTS, 1):
        last = scale == len(_MS_WEIGHTS)
        value = _ssim(one, other, k1=0.01 if last else _NO_LUMINANCE)
        product = product * jnp.maximum(value, 1e-4) ** weight
        if not last:
            one, other = (nn.avg_pool(x, (2, 2), strides=(2, 2)) for x in (one, other))
    return product


@METRICS.register("pixel_accuracy")
def pixel_accuracy(
    one: Float[Array, "b h w c"], other: Float[Array, "b h w c"], *, tolerance: float = 0.05
) -> Float[Array, "b"]:
    """The share of pixels whose channels all lie within `tolerance`, in [0, 1]; no gradient."""
    # A distance of just the tolerance counts as within, whichever way float32 rounds it.
    near = jnp.abs(_wide(one) - _wide(other)) <= tolerance + 1e-6
    return jnp.mean(jnp.all(near, axis=-1).astype(jnp.float32), axis=(1, 2))


@METRICS.register("color_shift")
def color_shift(one: Float[Array, "b h w 3"], other: Float[Array, "b h w 3"]) -> Float[Array, "b"]:
    """How far the mean colours lie apart: the Euclidean distance in RGB, in [0, 1.73]."""
    gap = jnp.mean(_wide(one), axis=(1, 2)) - jnp.mean(_wide(other), axis=(1, 2))
    # The gradient of the bare root is not finite where both are equal.
    return jnp.sqrt(jnp.sum(gap**2, axis=-1) + 1e-12) - 1e-6


def log_mse(one: Float[Array, "b h w c"], other: Float[Array, "b h w c"], *, floor: float = 1e-5) -> Float[Array, "b"]:
    """Natural logarithm of the mean squared error, not below log(floor).

    It is PSNR times -ln(10) / 10 with a gradient that is finite everywhere: `floor` is 50 dB.
    """
    mse = jnp.mean((_wide(one) - _wide(other)) ** 2, axis=(1, 2, 3))
    return jnp.log(jnp.maximum(mse, floor))


def lpips(
    one: Sequence[Float[Array, "b h2 w2 c"]],
    other: Sequence[Float[Array, "b h2 w2 c"]],
    heads: Sequence[Float[Array, "c"]],
) -> Float[Array, "b"]:
    """LPIPS v0.1 (Zhang et al. 2018, equation 1): 0 for equal pictures, larger the less alike they look.

    The gradient is finite where both are equal.

    Args:
      one: the five activations of AlexNet, of the feature network "alexnet".
      other: those of the other pictures.
      heads: its parameters lin1 to lin5.
    """
    total = jnp.zeros((len(one[0]),))
    for first, second, head in zip(one, other, heads, strict=True):
        gap = (_unit(first) - _unit(second)) ** 2
        total = total + jnp.mean(jnp.sum(gap * head[None, None, None], axis=-1), axis=(1, 2))
    return total


def content_retention(one: Float[Array, "b h2 w2 c"], other: Float[Array, "b h2 w2 c"]) -> Float[Array, "b"]:
    """The mean cosine of two pictures' activations of VGG relu3_1, in [0, 1]; 1 is the same content."""
    return jnp.mean(jnp.sum(_unit(one) * _unit(other), axis=-1), axis=(1, 2))


def _unit(x: jax.Array) -> jax.Array:
    """Activations of unit length over the channels."""
    x = _wide(x)
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-10)


def _wide(pictures: jax.Array) -> jax.Array:
    return pictures.astype(jnp.float32)


def _ssim(one: jax.Array, other: jax.Array, *, k1: float) -> jax.Array:
    if min(one.shape[1:3]) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW} px a side, got {one.shape[1]}x{one.shape[2]}")
    return pix.ssim(_wide(one), _wide(other), filter_size=WINDOW, k1=k1, filter_fn=_blur)


def _blur(x: jax.Array) -> jax.Array:
    # Two banded matrix products: the value of dm-pix's own filter at a third of its time.
    rows, columns = (jnp.asarray(_band(size)) for size in x.shape[1:3])
    x = jnp.einsum("oh,bhwc->bowc", rows, x, precision=jax.lax.Precision.HIGHEST)
    return jnp.einsum("ow,bhwc->bhoc", columns, x, precision=jax.lax.Precision.HIGHEST)


@functools.cache
def _band(size: int) -> np.ndarray:
    """The Gaussian window at every valid position of a line: f32[size - 10, size]."""
    offsets = np.arange(WINDOW) - (WINDOW - 1) / 2
    window = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    window /= window.sum()
    band = np.zeros((size - WINDOW + 1, size), np.float32)
    for row in range(len(band)):
        band[row, row : row + WINDOW] = window
    return band
