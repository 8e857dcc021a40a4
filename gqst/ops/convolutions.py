"""Two-dimensional convolutions that are also fast on CPU.

On CPU, XLA's convolutions run near the speed of the hardware except in three cases: few channels on one side of a large
kernel, as in the first and last layers of a generator; gradients with respect to the input, which multiply the zeros of
the padded border; and both gradients at stride 2. These cases are rewritten here as other convolutions or as matrix
products, and 3x3 kernels with many channels use Winograd's algorithm (`winograd`), which needs fewer multiplications.
Everything else, and every other platform, uses XLA's convolutions. The form is chosen when the program is lowered, so
ahead-of-time compilation gets the one that suits its target.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from gqst.ops import winograd

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# A kernel is narrow if one side has at least this many times fewer channels than the other.
_NARROW_RATIO = 8
# Up to this many taps, stacking shifted copies for one matrix product is cheaper than a convolution.
_FEW_TAPS = 32
# Fewest channels on either side, and fewest pixels in all, for which the products that Winograd's algorithm saves
# outweigh its additional sums.
_WINOGRAD_FORWARD = (64, 4096)
_WINOGRAD_BACKWARD = (128, 1024)


def conv2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c d"], *, stride: int = 1
) -> Float[Array, "b i j d"]:
    """Returns the convolution of x with the kernel, without padding (VALID); the caller pads.

    Both arguments share one dtype, float32 or bfloat16, which is also that of the result. Differentiable to any order
    in reverse mode, not at all in forward mode (jax.jvp).

    Raises:
      ValueError: The stride is neither 1 nor 2, or the shapes do not match.
    """
    if stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2, got {stride}")
    if x.shape[-1] != kernel.shape[2]:
        raise ValueError(f"kernel {kernel.shape} does not take the channels of {x.shape}")
    if x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]:
        raise ValueError(f"kernel {kernel.shape} is larger than the image {x.shape}")
    return _product(stride, x, kernel)


def upsample_conv2d(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"]) -> Float[Array, "b 2*h 2*w d"]:
    """Returns x doubled in size by nearest neighbour, edge-padded and convolved with the 3x3 kernel.

    The enlarged image is never materialised. Each of the four output phases sees 2x2 source pixels, so taps that fall
    on the same pixel are summed first: 4 products per output instead of 9 (sub-pixel convolution, Shi et al. 2016). On
    CPU each source pixel is multiplied by the 9 taps once and the products are summed, which takes 9 products for four
    outputs instead of 16; on other platforms the memory traffic would cost more than the arithmetic saved.

    Raises:
      ValueError: The kernel is not 3x3.
    """
    if kernel.shape[:2] != (3, 3):
        raise ValueError(f"kernel must be 3x3, got {kernel.shape}")
    return _upsampled(x, kernel)


@jax.custom_vjp
def _upsampled(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _on_platform(_cpu_upsampled, _subpixel_upsampled, (), x, kernel)


def _upsampled_gradients(residuals: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _on_platform(_cpu_upsampled_gradients, _subpixel_upsampled_gradients, (), *residuals, g)


_upsampled.defvjp(lambda x, kernel: (_upsampled(x, kernel), (x, kernel)), _upsampled_gradients)


def _subpixel_upsampled(x: jax.Array, kernel: jax.Array) -> jax.Array:
    b, h, w, c = x.shape
    row_phases = jnp.stack([jnp.stack(phase) for phase in _phases(kernel)])  # p kh kw c d
    phases = jnp.stack([jnp.stack(phase) for phase in _phases(row_phases.transpose(2, 0, 1, 3, 4))])  # q kw p kh c d
    merged = phases.transpose(3, 1, 4, 2, 0, 5).reshape(2, 2, c, -1)
    y = _lax_product(1, _pad_edge(_pad_edge(x, 1), 2), merged).reshape(b, h + 1, w + 1, 2, 2, -1)
    # Phase p of row r comes from window r + p of the padded image, and the same holds for columns.
    y = jnp.stack([y[:, p : p + h, :, p] for p in (0, 1)], 2)
    y = jnp.stack([y[:, :, :, q : q + w, q] for q in (0, 1)], 4)
    return y.reshape(b, 2 * h, 2 * w, -1)


def _subpixel_upsampled_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vjp(_subpixel_upsampled, x, kernel)[1](g)


def _cpu_upsampled(x: jax.Array, kernel: jax.Array) -> jax.Array:
    b, h, w, _ = x.shape
    taps = (x @ _taps_as_columns(kernel)).reshape(b, h, w, 3, 3, -1)
    rows = _interleave(taps, tap=3, axis=1)  # b h 2 w kw d
    return _interleave(rows, tap=4, axis=3).reshape(b, 2 * h, 2 * w, -1)


def _cpu_upsampled_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    b, h, w, c = x.shape
    columns = _interleave_transpose(g.reshape(b, h, 2, w, 2, -1), phase=4, tap=4, axis=3)
    taps = _interleave_transpose(columns, phase=2, tap=3, axis=1).reshape(b, h, w, -1)  # b h w (kh kw d)
    products = jnp.einsum("bhwc,bhwn->cn", x, taps).reshape(c, 3, 3, -1)
    return taps @ _taps_as_columns(kernel).T, products.transpose(1, 2, 0, 3)


def _taps_as_columns(kernel: jax.Array) -> jax.Array:
    """The kernel as one matrix, f[c (kh kw d)]."""
    return kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)


def _interleave(taps: jax.Array, *, tap: int, axis: int) -> jax.Array:
    """Returns the even and odd outputs along an axis, stacked behind it, from the products with its three taps."""
    before, here, after = (lax.index_in_dim(taps, i, tap, keepdims=False) for i in range(3))
    at = functools.partial(lax.slice_in_dim, axis=axis)
    last = before.shape[axis] - 1
    even = jnp.concatenate([at(before, 0, 1), at(before, 0, last)], axis) + here + after
    odd = before + here + jnp.concatenate([at(after, 1, last + 1), at(after, last, last + 1)], axis)
    return jnp.stack([even, odd], axis + 1)


def _interleave_transpose(outputs: jax.Array, *, phase: int, tap: int, axis: int) -> jax.Array:
    """Returns the gradient for each tap's product from that of the outputs: `_interleave` transposed.

    Even and odd outputs lie along the axis `phase`, the taps of the result along `tap`.
    """
    even, odd = (lax.index_in_dim(outputs, i, phase, keepdims=False) for i in range(2))
    at = functools.partial(lax.slice_in_dim, axis=axis)
    n = even.shape[axis]
    before = odd + jnp.concatenate([at(even, 1, n), jnp.zeros_like(at(even, 0, 1))], axis)
    before = jnp.concatenate([at(before, 0, 1) + at(even, 0, 1), at(before, 1, n)], axis)
    after = even + jnp.concatenate([jnp.zeros_like(at(odd, 0, 1)), at(odd, 0, n - 1)], axis)
    after = jnp.concatenate([at(after, 0, n - 1), at(after, n - 1, n) + at(odd, n - 1, n)], axis)
    return jnp.stack([before, even + odd, after], tap)


def _phases(taps: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Returns the two taps of an even and of an odd output; of the three, those on the same source pixel are summed."""
    return (taps[0], taps[1] + taps[2]), (taps[0] + taps[1], taps[2])


def _pad_edge(x: jax.Array, axis: int) -> jax.Array:
    # Not jnp.pad: the gradient of its edge mode moves batches across devices.
    first, last = (lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, x.shape[axis] - 1))
    return jnp.concatenate([first, x, last], axis)


# A convolution and its two gradients are each other's derivatives, so nothing is ever differentiated through
# platform_dependent.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(stride: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _on_platform(_cpu_product, _lax_product, (stride,), x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _input_gradient(stride: int, sides: tuple[int, int], g: jax.Array, kernel: jax.Array) -> jax.Array:
    return _on_platform(_cpu_input_gradient, _lax_input_gradient, (stride, sides), g, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _kernel_gradient(stride: int, size: tuple[int, int], x: jax.Array, g: jax.Array) -> jax.Array:
    return _on_platform(_cpu_kernel_gradient, _lax_kernel_gradient, (stride, size), x, g)


_product.defvjp(
    lambda stride, x, kernel: (_product(stride, x, kernel), (x, kernel)),
    lambda stride, residuals, g: (
        _input_gradient(stride, residuals[0].shape[1:3], g, residuals[1]),
        _kernel_gradient(stride, residuals[1].shape[:2], residuals[0], g),
    ),
)
_input_gradient.defvjp(
    lambda stride, sides, g, kernel: (_input_gradient(stride, sides, g, kernel), (g, kernel)),
    lambda stride, sides, residuals, u: (
        _product(stride, u, residuals[1]),
        _kernel_gradient(stride, residuals[1].shape[:2], u, residuals[0]),
    ),
)
_kernel_gradient.defvjp(
    lambda stride, size, x, g: (_kernel_gradient(stride, size, x, g), (x, g)),
    lambda stride, size, residuals, u: (
        _input_gradient(stride, residuals[0].shape[1:3], residuals[1], u),
        _product(stride, residuals[0], u),
    ),
)


# Under jit, so that equal layers of a network are traced and lowered once.
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _on_platform(cpu: Callable, default: Callable, static: tuple, *arrays: jax.Array) -> Any:
    """The result of `cpu` or of `default` for static arguments and arrays, as the platform asks."""
    return lax.platform_dependent(
        *arrays, cpu=functools.partial(cpu, *static), default=functools.partial(default, *static)
    )


def _lax_product(stride: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=_DIMENSIONS)


def _lax_input_gradient(stride: int, sides: tuple[int, int], g: jax.Array, kernel: jax.Array) -> jax.Array:
    x = jax.ShapeDtypeStruct((g.shape[0], *sides, kernel.shape[2]), g.dtype)
    return jax.linear_transpose(lambda x: _lax_product(stride, x, kernel), x)(g)[0]


def _lax_kernel_gradient(stride: int, size: tuple[int, int], x: jax.Array, g: jax.Array) -> jax.Array:
    kernel = jax.ShapeDtypeStruct((*size, x.shape[-1], g.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: _lax_product(stride, x, kernel), kernel)(g)[0]


def _suits_winograd(x: jax.Array, kernel_shape: tuple[int, ...], fewest: tuple[int, int]) -> bool:
    fewest_channels, fewest_pixels = fewest
    # bfloat16 has too few bits for the additional sums.
    applicable = kernel_shape[:2] == (3, 3) and x.dtype == jnp.float32
    return applicable and min(kernel_shape[2:]) >= fewest_channels and math.prod(x.shape[:3]) >= fewest_pixels


def _cpu_product(stride: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    kh, kw, c, d = kernel.shape
    if stride == 1 and _suits_winograd(x, kernel.shape, _WINOGRAD_FORWARD):
        return winograd.product(x, kernel)
    if stride > 1 or d * _NARROW_RATIO > c:
        return _lax_product(stride, x, kernel)
    # A convolution with kernels of a single row, one for each row of the kernel, whose kh * d outputs are then summed.
    rows = _lax_product(1, x, kernel.transpose(1, 2, 0, 3).reshape(1, kw, c, kh * d))
    rows = rows.reshape(*rows.shape[:3], kh, d)
    h = x.shape[1] - kh + 1
    return sum((rows[:, i : i + h, :, i] for i in range(1, kh)), rows[:, :h, :, 0])


def _cpu_input_gradient(stride: int, sides: tuple[int, int], g: jax.Array, kernel: jax.Array) -> jax.Array:
    kh, kw, c, d = kernel.shape
    h = g.shape[1]
    if stride == 1 and _suits_winograd(g, kernel.shape, _WINOGRAD_BACKWARD):
        return winograd.input_gradient(g, kernel)
    if stride > 1 and min(kh, kw) > 1:
        return _strided_input_gradient(sides, g, kernel)
    if stride > 1 or d * _NARROW_RATIO <= c or h < kh:
        return _ordered_input_gradient(stride, sides, g, kernel)
    # Row by row again, so that no rows of zeros around g are multiplied.
    flipped = kernel[:, ::-1].transpose(1, 3, 0, 2).reshape(1, kw, d, kh * c)
    rows = _lax_product(1, _pad(g, 2, kw - 1, kw - 1), flipped)
    rows = rows.reshape(*rows.shape[:3], kh, c)

    def block(first: int, last: int) -> jax.Array:  # rows of the result that the same taps contribute to
        taps = range(max(0, last - h), min(kh, first + 1))
        return sum(
            (rows[:, first - i : last - i, :, i] for i in taps[1:]),
            rows[:, first - taps[0] : last - taps[0], :, taps[0]],
        )

    edges = [*range(kh), *range(h, h + kh)]
    return jnp.concatenate([block(*pair) for pair in itertools.pairwise(edges)], 1)


# On CPU, XLA brings the axes of a convolution into the order of `_lax_product` only outside of loops
# (`ConvCanonicalization` visits the entry computation), and runs any other order some twenty times slower. Gradients
# within `lax.scan`, as over the parts of a batch, thus have to be in that order from the start.


def _ordered_input_gradient(stride: int, sides: tuple[int, int], g: jax.Array, kernel: jax.Array) -> jax.Array:
    """The input gradient as a convolution of g, dilated by the stride, with the flipped kernel."""
    ends = zip(sides, g.shape[1:3], kernel.shape[:2], strict=True)
    padding = [(size - 1, side - 1 - (count - 1) * stride) for side, count, size in ends]
    flipped, dilation = kernel[::-1, ::-1].swapaxes(2, 3), (stride, stride)
    return lax.conv_general_dilated(g, flipped, (1, 1), padding, dilation, dimension_numbers=_DIMENSIONS)


def _ordered_kernel_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    """The kernel gradient at stride 1 as a convolution of x with g, in which channels and pictures change places."""
    return _lax_product(1, x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)).transpose(1, 2, 0, 3)


def _strided_input_gradient(sides: tuple[int, int], g: jax.Array, kernel: jax.Array) -> jax.Array:
    """The input gradient at stride 2: four stride-1 convolutions, one for each parity of row and column."""
    kh, kw, c, d = kernel.shape
    h, w = g.shape[1:3]
    rows, columns = (-(-side // 2) for side in sides)

    def product(taps: jax.Array) -> jax.Array:
        i, j = taps.shape[:2]
        padded = _pad(_pad(g, 1, i - 1, rows - h), 2, j - 1, columns - w)
        return _lax_product(1, padded, taps[::-1, ::-1].swapaxes(2, 3))

    if kh % 2 or kw % 2:
        row_phases = [[product(kernel[p::2, q::2]) for q in (0, 1)] for p in (0, 1)]
        phases = jnp.stack([jnp.stack(phase, 3) for phase in row_phases], 2)
    else:  # all four have equally many taps: a single convolution suffices
        taps = kernel.reshape(kh // 2, 2, kw // 2, 2, c, d).transpose(0, 2, 1, 3, 4, 5)
        phases = product(taps.reshape(kh // 2, kw // 2, 4 * c, d)).reshape(-1, rows, columns, 2, 2, c)
        phases = phases.swapaxes(2, 3)
    return phases.reshape(-1, 2 * rows, 2 * columns, c)[:, : sides[0], : sides[1]]


def _cpu_kernel_gradient(stride: int, size: tuple[int, int], x: jax.Array, g: jax.Array) -> jax.Array:
    if stride == 1:
        if _suits_winograd(g, (*size, x.shape[-1], g.shape[-1]), _WINOGRAD_BACKWARD):
            return winograd.kernel_gradient(x, g)
        if g.shape[-1] * _NARROW_RATIO > x.shape[-1]:
            return _ordered_kernel_gradient(x, g)
        # With the roles of x and g swapped, the wide side becomes the outputs.
        padded = _pad(_pad(g, 1, size[0] - 1, size[0] - 1), 2, size[1] - 1, size[1] - 1)
        if size[0] * size[1] * g.shape[-1] <= _FEW_TAPS:
            return _shifted_products(size, x, padded)
        return _ordered_kernel_gradient(padded, x)[::-1, ::-1].swapaxes(2, 3)
    # Taps in even or odd rows and columns see every other pixel: four kernel gradients at stride 1.
    (kh, kw), (h, w) = size, g.shape[1:3]
    parts = []
    for i, j in itertools.product(range(min(2, kh)), range(min(2, kw))):
        rows, columns = (kh - i + 1) // 2, (kw - j + 1) // 2
        subsampled = x[:, i::2, j::2][:, : h + rows - 1, : w + columns - 1]
        part = _ordered_kernel_gradient(subsampled, g)
        dilation = [(i, kh - i - 2 * rows + 1, 1), (j, kw - j - 2 * columns + 1, 1), (0, 0, 0), (0, 0, 0)]
        parts.append(lax.pad(part, jnp.zeros((), part.dtype), dilation))
    return sum(parts[1:], parts[0])


def _shifted_products(size: tuple[int, int], x: jax.Array, padded: jax.Array) -> jax.Array:
    """The gradient of a narrow kernel as one matrix product: x times the padded output gradient shifted to each tap."""
    (kh, kw), (h, w), d = size, x.shape[1:3], padded.shape[-1]
    taps = [
        padded[:, kh - 1 - i : kh - 1 - i + h, kw - 1 - j : kw - 1 - j + w, k]
        for i, j, k in itertools.product(range(kh), range(kw), range(d))
    ]
    products = jnp.stack(taps, -1).reshape(-1, kh * kw * d).T @ x.reshape(-1, x.shape[-1])
    return products.reshape(kh, kw, d, -1).swapaxes(2, 3)


def _pad(x: jax.Array, axis: int, low: int, high: int) -> jax.Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (low, high)
    return jnp.pad(x, widths)
