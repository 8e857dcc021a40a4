"""Two-dimensional convolutions that are as fast on CPU as elsewhere.

XLA's convolutions reach a CPU's speed but in some shapes: with few channels on one side of a large kernel, as in the
stem and the output of a generator; in the gradients of inputs, where they multiply the border's zeros; and in the
gradients of stride 2. There these have other forms on CPU, made of other convolutions. 3x3 kernels with many channels
have fewer products than a convolution's own there (`winograd`). All else, and every other platform, has XLA's
convolutions. The platform is known when lowering, so ahead-of-time compilation gets the form of its target.
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

# A kernel is narrow with this many times fewer channels on one side than on the other.
_NARROW = 8
# So many taps of one pixel are cheaper to lay side by side than to convolve with.
_FEW = 32
# From so many channels on both sides and pixels in all on, Winograd's sums cost less than the products that they save.
_FORWARD = (64, 4096)
_BACKWARD = (128, 1024)


def conv2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c d"], *, stride: int = 1
) -> Float[Array, "b i j d"]:
    """Returns the convolution of x with the kernel, without padding (VALID): the caller pads.

    Both arguments have one dtype, float32 or bfloat16, which the result keeps. Derivatives of every order are there
    in reverse mode, none in forward mode (jax.jvp).

    Raises:
      ValueError: a stride other than 1 or 2, or sizes that do not fit.
    """
    if stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2, got {stride}")
    if x.shape[-1] != kernel.shape[2]:
        raise ValueError(f"kernel {kernel.shape} does not take the channels of {x.shape}")
    if x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]:
        raise ValueError(f"kernel {kernel.shape} is larger than the image {x.shape}")
    return _product(stride, x, kernel)


def upsample_conv2d(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"]) -> Float[Array, "b 2*h 2*w d"]:
    """Returns x enlarged twice by nearest neighbour, edge-padded, and convolved with the 3x3 kernel.

    The enlarged image is never made. Each of the four output phases sees 2x2 source pixels, so the taps that fall on
    one pixel are summed first: 4 products an output instead of 9 (sub-pixel convolution, Shi et al. 2016). On CPU each
    source pixel is multiplied by the 9 taps once and these products are summed, 9 for four outputs instead of 16;
    elsewhere their traffic would cost more than the arithmetic saved.

    Raises:
      ValueError: the kernel is not 3x3.
    """
    if kernel.shape[:2] != (3, 3):
        raise ValueError(f"kernel must be 3x3, got {kernel.shape}")
    return _upsampled(x, kernel)


@jax.custom_vjp
def _upsampled(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _on_platform(_cpu_upsampled, _folded)(x, kernel)


def _upsampled_gradients(held: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    def default(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(_folded, x, kernel)[1](g)

    return lax.platform_dependent(*held, g, cpu=_cpu_upsampled_gradients, default=default)


_upsampled.defvjp(lambda x, kernel: (_upsampled(x, kernel), (x, kernel)), _upsampled_gradients)


def _folded(x: jax.Array, kernel: jax.Array) -> jax.Array:
    b, h, w, c = x.shape
    rows = jnp.stack([jnp.stack(phase) for phase in _phases(kernel)])  # p kh kw c d
    both = jnp.stack([jnp.stack(phase) for phase in _phases(rows.transpose(2, 0, 1, 3, 4))])  # q kw p kh c d
    folded = both.transpose(3, 1, 4, 2, 0, 5).reshape(2, 2, c, -1)
    y = _lax_product(1, _edge(_edge(x, 1), 2), folded).reshape(b, h + 1, w + 1, 2, 2, -1)
    # Phase p of row r is window r + p of the padded image, and so along the columns.
    y = jnp.stack([y[:, p : p + h, :, p] for p in (0, 1)], 2)
    y = jnp.stack([y[:, :, :, q : q + w, q] for q in (0, 1)], 4)
    return y.reshape(b, 2 * h, 2 * w, -1)


def _cpu_upsampled(x: jax.Array, kernel: jax.Array) -> jax.Array:
    b, h, w, _ = x.shape
    taps = (x @ _side_by_side(kernel)).reshape(b, h, w, 3, 3, -1)
    rows = _interleave(taps, tap=3, axis=1)  # b h 2 w kw d
    return _interleave(rows, tap=4, axis=3).reshape(b, 2 * h, 2 * w, -1)


def _cpu_upsampled_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    b, h, w, c = x.shape
    columns = _part(g.reshape(b, h, 2, w, 2, -1), phase=4, tap=4, axis=3)
    taps = _part(columns, phase=2, tap=3, axis=1).reshape(b, h, w, -1)  # b h w (kh kw d)
    products = jnp.einsum("bhwc,bhwn->cn", x, taps).reshape(c, 3, 3, -1)
    return taps @ _side_by_side(kernel).T, products.transpose(1, 2, 0, 3)


def _side_by_side(kernel: jax.Array) -> jax.Array:
    return kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)


def _interleave(taps: jax.Array, *, tap: int, axis: int) -> jax.Array:
    """Even and odd outputs along an axis, stacked behind it, from the products of the three taps of an axis."""
    before, here, after = (lax.index_in_dim(taps, i, tap, keepdims=False) for i in range(3))
    at = functools.partial(lax.slice_in_dim, axis=axis)
    last = before.shape[axis] - 1
    even = jnp.concatenate([at(before, 0, 1), at(before, 0, last)], axis) + here + after
    odd = before + here + jnp.concatenate([at(after, 1, last + 1), at(after, last, last + 1)], axis)
    return jnp.stack([even, odd], axis + 1)


def _part(outputs: jax.Array, *, phase: int, tap: int, axis: int) -> jax.Array:
    """The transpose of _interleave: what each product of a tap has of the outputs' gradients, taps at `tap`."""
    even, odd = (lax.index_in_dim(outputs, i, phase, keepdims=False) for i in range(2))
    at = functools.partial(lax.slice_in_dim, axis=axis)
    n = even.shape[axis]
    before = odd + jnp.concatenate([at(even, 1, n), jnp.zeros_like(at(even, 0, 1))], axis)
    before = jnp.concatenate([at(before, 0, 1) + at(even, 0, 1), at(before, 1, n)], axis)
    after = even + jnp.concatenate([jnp.zeros_like(at(odd, 0, 1)), at(odd, 0, n - 1)], axis)
    after = jnp.concatenate([at(after, 0, n - 1), at(after, n - 1, n) + at(odd, n - 1, n)], axis)
    return jnp.stack([before, even + odd, after], tap)


def _phases(taps: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """The two taps of an even and of an odd output: those of three that fall on one source pixel summed."""
    return (taps[0], taps[1] + taps[2]), (taps[0] + taps[1], taps[2])


def _edge(x: jax.Array, axis: int) -> jax.Array:
    # Not jnp.pad: the gradient of its edge mode moves batches between devices.
    first, last = (lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, x.shape[axis] - 1))
    return jnp.concatenate([first, x, last], axis)


# The three products of a convolution are each other's derivatives: nothing differentiates through the platform.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(stride: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _on_platform(_cpu_product, _lax_product, stride)(x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _input_gradient(stride: int, sides: tuple[int, int], g: jax.Array, kernel: jax.Array) -> jax.Array:
    return _on_platform(_cpu_input_gradient, _lax_input_gradient, stride, sides)(g, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _kernel_gradient(stride: int, size: tuple[int, int], x: jax.Array, g: jax.Array) -> jax.Array:
    return _on_platform(_cpu_kernel_gradient, _lax_kernel_gradient, stride, size)(x, g)


_product.defvjp(
    lambda stride, x, kernel: (_product(stride, x, kernel), (x, kernel)),
    lambda stride, held, g: (
        _input_gradient(stride, held[0].shape[1:3], g, held[1]),
        _kernel_gradient(stride, held[1].shape[:2], held[0], g),
    ),
)
_input_gradient.defvjp(
    lambda stride, sides, g, kernel: (_input_gradient(stride, sides, g, kernel), (g, kernel)),
    lambda stride, sides, held, u: (
        _product(stride, u, held[1]),
        _kernel_gradient(stride, held[1].shape[:2], u, held[0]),
    ),
)
_kernel_gradient.defvjp(
    lambda stride, size, x, g: (_kernel_gradient(stride, size, x, g), (x, g)),
    lambda stride, size, held, u: (
        _input_gradient(stride, held[0].shape[1:3], held[1], u),
        _product(stride, held[0], u),
    ),
)


def _on_platform(cpu: Callable, default: Callable, *static: Any) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return functools.partial(
        lax.platform_dependent, cpu=functools.partial(cpu, *static), default=functools.partial(default, *static)
    )


def _lax_product(stride: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=dimensions)


def _lax_input_gradient(stride: int, sides: tuple[int, int], g: jax.Array, kernel: jax.Array) -> jax.Array:
    x = jax.ShapeDtypeStruct((g.shape[0], *sides, kernel.shape[2]), g.dtype)
    return jax.linear_transpose(lambda x: _lax_product(stride, x, kernel), x)(g)[0]


def _lax_kernel_gradient(stride: int, size: tuple[int, int], x: jax.Array, g: jax.Array) -> jax.Array:
    kernel = jax.ShapeDtypeStruct((*size, x.shape[-1], g.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: _lax_product(stride, x, kernel), kernel)(g)[0]


def _suits_winograd(pictures: jax.Array, kernel: tuple[int, ...], enough: tuple[int, int]) -> bool:
    channels, pixels = enough
    # Its sums would lose what bfloat16 has.
    exact = kernel[:2] == (3, 3) and pictures.dtype == jnp.float32
    return exact and min(kernel[2:]) >= channels and math.prod(pictures.shape[:3]) >= pixels


def _cpu_product(stride: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    kh, kw, c, d = kernel.shape
    if stride == 1 and _suits_winograd(x, kernel.shape, _FORWARD):
        return winograd.product(x, kernel)
    if stride > 1 or d * _NARROW > c:
        return _lax_product(stride, x, kernel)
    # Each row of the kernel for itself: kh * d channels, of which those of one output lie in kh rows.
    rows = _lax_product(1, x, kernel.transpose(1, 2, 0, 3).reshape(1, kw, c, kh * d))
    rows = rows.reshape(*rows.shape[:3], kh, d)
    h = x.shape[1] - kh + 1
    return sum((rows[:, i : i + h, :, i] for i in range(1, kh)), rows[:, :h, :, 0])


def _cpu_input_gradient(stride: int, sides: tuple[int, int], g: jax.Array, kernel: jax.Array) -> jax.Array:
    kh, kw, c, d = kernel.shape
    h = g.shape[1]
    if stride == 1 and _suits_winograd(g, kernel.shape, _BACKWARD):
        return winograd.input_gradient(g, kernel)
    if stride > 1 and min(kh, kw) > 1:
        return _strided_input_gradient(sides, g, kernel)
    if stride > 1 or d * _NARROW <= c or h < kh:
        return _lax_input_gradient(stride, sides, g, kernel)
    # Row by row again: no row of zeros around g is multiplied.
    turned = kernel[:, ::-1].transpose(1, 3, 0, 2).reshape(1, kw, d, kh * c)
    rows = _lax_product(1, _pad(g, 2, kw - 1, kw - 1), turned)
    rows = rows.reshape(*rows.shape[:3], kh, c)

    def between(first: int, last: int) -> jax.Array:  # rows of the result that the same taps see
        seen = range(max(0, last - h), min(kh, first + 1))
        return sum(
            (rows[:, first - i : last - i, :, i] for i in seen[1:]),
            rows[:, first - seen[0] : last - seen[0], :, seen[0]],
        )

    edges = [*range(kh), *range(h, h + kh)]
    return jnp.concatenate([between(*pair) for pair in itertools.pairwise(edges)], 1)


def _strided_input_gradient(sides: tuple[int, int], g: jax.Array, kernel: jax.Array) -> jax.Array:
    """The gradients of even and of odd rows and columns, each from the taps that meet it: four of stride 1."""
    kh, kw, c, d = kernel.shape
    h, w = g.shape[1:3]
    rows, columns = (-(-side // 2) for side in sides)

    def product(taps: jax.Array) -> jax.Array:
        i, j = taps.shape[:2]
        around = _pad(_pad(g, 1, i - 1, rows - h), 2, j - 1, columns - w)
        return _lax_product(1, around, taps[::-1, ::-1].swapaxes(2, 3))

    if kh % 2 or kw % 2:
        parts = [[product(kernel[p::2, q::2]) for q in (0, 1)] for p in (0, 1)]
        phases = jnp.stack([jnp.stack(part, 3) for part in parts], 2)
    else:  # as many taps for each: one product for all four
        taps = kernel.reshape(kh // 2, 2, kw // 2, 2, c, d).transpose(0, 2, 1, 3, 4, 5)
        phases = product(taps.reshape(kh // 2, kw // 2, 4 * c, d)).reshape(-1, rows, columns, 2, 2, c)
        phases = phases.swapaxes(2, 3)
    return phases.reshape(-1, 2 * rows, 2 * columns, c)[:, : sides[0], : sides[1]]


def _cpu_kernel_gradient(stride: int, size: tuple[int, int], x: jax.Array, g: jax.Array) -> jax.Array:
    if stride == 1:
        if _suits_winograd(g, (*size, x.shape[-1], g.shape[-1]), _BACKWARD):
            return winograd.kernel_gradient(x, g)
        if g.shape[-1] * _NARROW > x.shape[-1]:
            return _lax_kernel_gradient(1, size, x, g)
        # The wide side as outputs.
        around = _pad(_pad(g, 1, size[0] - 1, size[0] - 1), 2, size[1] - 1, size[1] - 1)
        if size[0] * size[1] * g.shape[-1] <= _FEW:
            return _shifted_products(size, x, around)
        return _lax_kernel_gradient(1, size, around, x)[::-1, ::-1].swapaxes(2, 3)
    # The taps of even and of odd rows and columns see every other pixel: four kernels of stride 1.
    (kh, kw), (h, w) = size, g.shape[1:3]
    parts = []
    for i, j in itertools.product(range(min(2, kh)), range(min(2, kw))):
        rows, columns = (kh - i + 1) // 2, (kw - j + 1) // 2
        seen = x[:, i::2, j::2][:, : h + rows - 1, : w + columns - 1]
        part = _lax_kernel_gradient(1, (rows, columns), seen, g)
        apart = [(i, kh - i - 2 * rows + 1, 1), (j, kw - j - 2 * columns + 1, 1), (0, 0, 0), (0, 0, 0)]
        parts.append(lax.pad(part, jnp.zeros((), part.dtype), apart))
    return sum(parts[1:], parts[0])


def _shifted_products(size: tuple[int, int], x: jax.Array, around: jax.Array) -> jax.Array:
    """The gradient of a narrow kernel from the padded gradient of its outputs, shifted to each tap: one product."""
    (kh, kw), (h, w), d = size, x.shape[1:3], around.shape[-1]
    taps = [
        around[:, kh - 1 - i : kh - 1 - i + h, kw - 1 - j : kw - 1 - j + w, k]
        for i, j, k in itertools.product(range(kh), range(kw), range(d))
    ]
    products = jnp.stack(taps, -1).reshape(-1, kh * kw * d).T @ x.reshape(-1, x.shape[-1])
    return products.reshape(kh, kw, d, -1).swapaxes(2, 3)


def _pad(x: jax.Array, axis: int, low: int, high: int) -> jax.Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (low, high)
    return jnp.pad(x, widths)
