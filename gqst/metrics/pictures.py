"""Metrics of single pictures: f32[b h w c] in [0, 1] and their references to f32[b].

All are computed in float32: SSIM in bfloat16 is wrong in its second digit. Arrays may be NumPy's or JAX's.
"""

import functools
import math
from collections.abc import Sequence

import dm_pix as pix
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.metrics import base
from gqst.ops import color

WINDOW = 11
"""Side of SSIM's Gaussian window in pixels; smaller pictures have no SSIM."""

MS_SMALLEST = 176
"""Shortest side in pixels of pictures for MS-SSIM."""

_STAMP_WINDOW, _STAMP_NEAREST, _STAMP_FARTHEST, _STAMP_BLUR = 96, 6, 40, 17
# Mean square of the fine luma below which texture can hardly be seen: a deviation of two levels of 255.
_STAMP_FAINTEST = (2.0 / 255) ** 2
_MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SIGMA = 1.5
# dm-pix's luminance factor is (2 m n + c) / (m^2 + n^2 + c) with c = k1^2: with so large a k1 it is 1.
_NO_LUMINANCE = 1e4


@base.register(
    name="ssim",
    better="higher",
    range=(-1.0, 1.0),
    definition="structural similarity, 11 px Gaussian window, RGB; 1 is equal",
    reference="truth",
    smallest=WINDOW,
    always=True,
    aim=base.Aim(),
)
def ssim(output: Float[Array, "b h w c"], reference: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Structural similarity (Wang et al. 2004, equation 13), averaged over channels; by dm-pix.

    Args:
      output: Pictures in [0, 1].
      reference: Pictures that they are compared with, in [0, 1].

    Returns:
      Values in [-1, 1]; 1 for equal pictures.

    Raises:
      ValueError: A side is shorter than the window of 11 px.
    """
    return _ssim(output, reference, k1=0.01)


def log_mse(
    output: Float[Array, "b h w c"], reference: Float[Array, "b h w c"], *, floor: float = 1e-5
) -> Float[Array, "b"]:
    """Natural logarithm of the mean squared error: PSNR times -ln(10) / 10, with a gradient that is finite everywhere.

    Args:
      output: Pictures in [0, 1].
      reference: Pictures that they are compared with, in [0, 1].
      floor: Smallest mean squared error; smaller ones count as this. The default is 50 dB.

    Returns:
      Values in [log(floor), 0].
    """
    mse = jnp.mean((_wide(output) - _wide(reference)) ** 2, axis=(1, 2, 3))
    return jnp.log(jnp.maximum(mse, floor))


@base.register(
    name="psnr",
    better="higher",
    unit="dB",
    range=(0.0, math.inf),
    definition="peak signal-to-noise ratio in dB",
    reference="truth",
    always=True,
    aim=base.Aim(limits=(0.0, 100.0), unit=30.0, loss=log_mse),
)
def psnr(output: Float[Array, "b h w c"], reference: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Peak signal-to-noise ratio; by dm-pix.

    Its gradient is not finite for equal pictures: optimise `log_mse` instead.

    Args:
      output: Pictures in [0, 1].
      reference: Pictures that they are compared with, in [0, 1].

    Returns:
      Values in dB, at least 0; infinite for equal pictures.
    """
    return pix.psnr(_wide(output), _wide(reference))


@base.register(
    name="ms_ssim",
    better="higher",
    range=(0.0, 1.0),
    definition="structural similarity over five scales; 1 is equal",
    reference="truth",
    smallest=MS_SMALLEST,
)
def ms_ssim(output: Float[Array, "b h w c"], reference: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Structural similarity over five scales (Wang et al. 2003, equation 7), averaged over channels.

    Each scale has half the size of the one before, by means of 2 x 2 pixels; an odd last line is left out. A scale
    counts as at least 1e-4, so that the gradient is finite for inverted structures.

    Args:
      output: Pictures in [0, 1].
      reference: Pictures that they are compared with, in [0, 1].

    Returns:
      Values in (0, 1]; 1 for equal pictures.

    Raises:
      ValueError: A side is shorter than 176 px, so that the coarsest scale would be smaller than the window.
    """
    output, reference = _wide(output), _wide(reference)
    if min(output.shape[1:3]) < MS_SMALLEST:
        raise ValueError(f"MS-SSIM needs at least {MS_SMALLEST} px a side, got {output.shape[1]}x{output.shape[2]}")
    product = jnp.ones((len(output),))
    for scale, weight in enumerate(_MS_WEIGHTS, 1):
        last = scale == len(_MS_WEIGHTS)
        value = _ssim(output, reference, k1=0.01 if last else _NO_LUMINANCE)
        product = product * jnp.maximum(value, 1e-4) ** weight
        if not last:
            output, reference = (nn.avg_pool(x, (2, 2), strides=(2, 2)) for x in (output, reference))
    return product


@base.register(
    name="pixel_accuracy",
    better="higher",
    range=(0.0, 1.0),
    definition="share of pixels with every channel within 0.05",
    reference="truth",
)
def pixel_accuracy(
    output: Float[Array, "b h w c"], reference: Float[Array, "b h w c"], *, tolerance: float = 0.05
) -> Float[Array, "b"]:
    """Share of pixels whose channels are all within a tolerance; it has no gradient.

    Args:
      output: Pictures in [0, 1].
      reference: Pictures that they are compared with, in [0, 1].
      tolerance: Largest difference of a channel.

    Returns:
      Values in [0, 1].
    """
    # A difference of exactly the tolerance counts as within, whichever way float32 rounds it.
    near = jnp.abs(_wide(output) - _wide(reference)) <= tolerance + 1e-6
    return jnp.mean(jnp.all(near, axis=-1).astype(jnp.float32), axis=(1, 2))


@base.register(
    name="contrast_structure",
    better="higher",
    range=(-1.0, 1.0),
    definition="SSIM of luma without its luminance factor; 1 is the same edges",
    smallest=WINDOW,
    always=True,
    aim=base.Aim(),
)
def contrast_structure(output: Float[Array, "b h w c"], reference: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """SSIM of luma without its luminance factor: the same edges, whatever the colours; by dm-pix.

    Wang et al. 2004, equation 13 without the factor of equation 6.

    Args:
      output: Pictures in [0, 1].
      reference: Pictures that they are compared with, in [0, 1].

    Returns:
      Values in [-1, 1]; 1 for the same edges, below 0 for inverted pictures.

    Raises:
      ValueError: A side is shorter than the window of 11 px.
    """
    return _ssim(color.luma(output), color.luma(reference), k1=_NO_LUMINANCE)


def contrast_structure_map(
    output: Float[Array, "b h w 3"], reference: Float[Array, "b h w 3"]
) -> Float[Array, "b h-10 w-10"]:
    """Returns the value of every window, whose mean is `contrast_structure`.

    Raises:
      ValueError: A side is shorter than the window of 11 px.
    """
    return _ssim(color.luma(output), color.luma(reference), k1=_NO_LUMINANCE, each_window=True)[..., 0]


@base.register(
    name="content_retention",
    better="higher",
    range=(0.0, 1.0),
    definition="mean cosine of VGG-16 relu3_1 features; 1 is the same content",
    network="vgg16",
    layers=("relu3_1",),
)
def content_retention(
    output: Sequence[Float[Array, "b h2 w2 c"]], reference: Sequence[Float[Array, "b h2 w2 c"]]
) -> Float[Array, "b"]:
    """Cosine between the activations of two pictures, averaged over positions and layers.

    Args:
      output: Activations of the pictures, one array for each layer; of VGG-16's relu3_1 in rounds and evaluations.
      reference: Activations of the pictures that they are compared with.

    Returns:
      Values in [0, 1] for activations that are not negative; 1 for the same content.
    """
    layers = zip(output, reference, strict=True)
    cosines = [jnp.mean(jnp.sum(_unit(a) * _unit(b), axis=-1), axis=(1, 2)) for a, b in layers]
    return jnp.mean(jnp.stack(cosines), axis=0)


@base.register(
    name="color_shift",
    better="neither",
    range=(0.0, math.sqrt(3.0)),
    definition="distance of the mean colours in RGB; 0 is none",
)
def color_shift(output: Float[Array, "b h w 3"], reference: Float[Array, "b h w 3"]) -> Float[Array, "b"]:
    """Euclidean distance in RGB between the mean colours.

    Args:
      output: Pictures in [0, 1].
      reference: Pictures that they are compared with, in [0, 1].

    Returns:
      Values in [0, 1.73].
    """
    gap = jnp.mean(_wide(output), axis=(1, 2)) - jnp.mean(_wide(reference), axis=(1, 2))
    # The gradient of the bare root is not finite if both are equal.
    return jnp.sqrt(jnp.sum(gap**2, axis=-1) + 1e-12) - 1e-6


@base.register(
    name="lpips",
    better="lower",
    range=(0.0, math.inf),
    definition="LPIPS v0.1, AlexNet; 0 is equal",
    truth_if_known=True,
    network="alexnet",
    layers=("relu1", "relu2", "relu3", "relu4", "relu5"),
    parameters=("lin1", "lin2", "lin3", "lin4", "lin5"),
    smallest=32,
)
def lpips(
    output: Sequence[Float[Array, "b h2 w2 c"]],
    reference: Sequence[Float[Array, "b h2 w2 c"]],
    heads: Sequence[Float[Array, "c"]],
) -> Float[Array, "b"]:
    """LPIPS v0.1 (Zhang et al. 2018, equation 1), with a finite gradient for equal pictures.

    Args:
      output: Activations of the feature network "alexnet", one array for each of its five layers.
      reference: Activations of the pictures that they are compared with.
      heads: Parameters lin1 to lin5 of the network.

    Returns:
      Values of at least 0; 0 for equal pictures, larger the less alike they look.
    """
    total = jnp.zeros((len(output[0]),))
    for a, b, head in zip(output, reference, heads, strict=True):
        gap = (_unit(a) - _unit(b)) ** 2
        total = total + jnp.mean(jnp.sum(gap * head[None, None, None], axis=-1), axis=(1, 2))
    return total


@base.register(
    name="style_gain",
    better="higher",
    range=(-math.inf, 1.0),
    definition="share of the way to the style in channel statistics of EfficientNet-Lite0's first layers; 1 is there",
    network="efficientnet_lite0",
    layers=("stem", "stage1", "stage2", "stage3"),
    with_style=True,
    smallest=32,
)
def style_gain(
    output: Sequence[Float[Array, "b h2 w2 c"]],
    reference: Sequence[Float[Array, "b h2 w2 c"]],
    style: Sequence[Float[Array, "*b 2 c"]],
) -> Float[Array, "b"]:
    """Share of the distance to a style that pictures have covered: 1 - d(output, style) / d(source, style).

    d is the mean over layers of the Euclidean distance between means and deviations of channels, over the length of
    the style's (the statistics of Huang and Belongie 2017, equation 13).

    Args:
      output: Activations of the pictures, one array for each layer.
      reference: Activations of their sources.
      style: Mean and deviation of each channel, averaged over the pictures of the style, one array for each layer.

    Returns:
      Values of at most 1; 0 for the sources themselves, below 0 for pictures that lie farther from the style.
    """
    before, after = jnp.zeros((len(reference[0]),)), jnp.zeros((len(output[0]),))
    for a, b, goal in zip(output, reference, (x if x.ndim == 3 else x[None] for x in style), strict=True):
        scale = jnp.sqrt(jnp.sum(goal**2)) + 1e-6
        after = after + jnp.sqrt(jnp.sum((channel_statistics(a) - goal) ** 2, axis=(1, 2)) + 1e-12) / scale
        before = before + jnp.sqrt(jnp.sum((channel_statistics(b) - goal) ** 2, axis=(1, 2)) + 1e-12) / scale
    return 1.0 - after / before


def channel_statistics(activations: Float[Array, "b h w c"]) -> Float[Array, "b 2 c"]:
    """Returns mean and deviation of each channel over positions."""
    x = _wide(activations)
    return jnp.stack([jnp.mean(x, axis=(1, 2)), jnp.std(x, axis=(1, 2))], axis=1)


@base.register(
    name="repetition",
    better="lower",
    range=(0.0, 1.0),
    definition="highest autocorrelation of luma, 6 to 40 px off, in the flattest windows of the source; 0 is none",
    smallest=2 * _STAMP_FARTHEST + _STAMP_NEAREST,
)
def repetition(output: Float[Array, "b h w 3"], reference: Float[Array, "b h w 3"]) -> Float[Array, "b"]:
    """How much the texture that a generator puts where its source is flat repeats itself.

    In each of the source's three flattest windows of 96 px (or the shorter side, if that is less), the luma of the
    output, less its mean over 17 px, is compared with itself at all distances from 6 to 40 px; the highest normalised
    correlation counts. Brushwork stays near 0.25, as paintings themselves do; a stamp comes near 1.

    Args:
      output: Pictures in [0, 1].
      reference: Their sources, in [0, 1], of the same size.

    Returns:
      Values in [0, 1], the mean over the windows; it has no useful gradient.
    """
    fine = jax.vmap(_fine)(color.luma(output)[..., 0])
    side = min(_STAMP_WINDOW, *output.shape[1:3])
    corners = [
        (y, x)
        for y in range(0, output.shape[1] - side + 1, side // 2)
        for x in range(0, output.shape[2] - side + 1, side // 2)
    ]
    rows, columns = (jnp.asarray(axis) for axis in zip(*corners, strict=True))
    luma = color.luma(reference)[..., 0]

    def window(picture: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(picture, (y, x), (side, side))

    def of_picture(fine: jax.Array, luma: jax.Array) -> jax.Array:
        spreads = jax.vmap(lambda y, x: jnp.std(window(luma, y, x)))(rows, columns)
        _, flattest = jax.lax.top_k(-spreads, min(3, len(corners)))
        return jnp.mean(jax.vmap(lambda i: _highest(window(fine, rows[i], columns[i])))(flattest))

    return jax.vmap(of_picture)(fine, luma)


def _fine(luma: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """Luma less its local mean, which a flat window's gradient is part of."""
    box = jnp.ones((_STAMP_BLUR,)) / _STAMP_BLUR
    padded = jnp.pad(luma, _STAMP_BLUR // 2, mode="edge")
    smooth = jax.vmap(lambda line: jnp.convolve(line, box, "valid"))(padded)
    smooth = jax.vmap(lambda line: jnp.convolve(line, box, "valid"))(smooth.T).T
    return luma - smooth


def _highest(window: Float[Array, "n n"]) -> Float[Array, ""]:
    """Highest normalised correlation of a window with itself, over the distances that stamps have."""
    side = window.shape[0]
    size = (2 * side, 2 * side)
    spectrum, energy, ones = (jnp.fft.rfft2(x, size) for x in (window, window**2, jnp.ones_like(window)))
    product = jnp.fft.irfft2(spectrum * jnp.conj(spectrum), size)
    # The energies of the two parts that overlap at each distance.
    first, second = (jnp.fft.irfft2(x, size) for x in (energy * jnp.conj(ones), ones * jnp.conj(energy)))
    floor = _STAMP_FAINTEST * side**2
    correlation = product / jnp.sqrt(jnp.maximum(first, floor) * jnp.maximum(second, floor))
    offsets = jnp.fft.fftfreq(2 * side, 1.0 / (2 * side))
    far = jnp.sqrt(offsets[:, None] ** 2 + offsets[None] ** 2)
    wanted = (far >= _STAMP_NEAREST) & (far <= _STAMP_FARTHEST)
    return jnp.max(jnp.where(wanted, correlation, 0.0))


base.register(
    base.Metric(
        name="ssim_cycled",
        function=ssim,
        better="higher",
        range=(-1.0, 1.0),
        definition="SSIM of sources and what both generators make of them, one after the other; 1 is equal",
        output="cycled",
        smallest=WINDOW,
        always=True,
        aim=base.Aim(metric="ssim"),
    )
)


def _unit(x: jax.Array) -> jax.Array:
    """Activations of unit length over the channels."""
    x = _wide(x)
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-10)


def _wide(pictures: jax.Array) -> jax.Array:
    """Pictures in float32."""
    return pictures.astype(jnp.float32)


def _ssim(output: jax.Array, reference: jax.Array, *, k1: float, each_window: bool = False) -> jax.Array:
    if min(output.shape[1:3]) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW} px a side, got {output.shape[1]}x{output.shape[2]}")
    output, reference = _wide(output), _wide(reference)
    return pix.ssim(output, reference, filter_size=WINDOW, k1=k1, filter_fn=_blur, return_map=each_window)


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
