"""Two-dimensional convolutions that are as fast on CPU as elsewhere.

On CPU, XLA's convolutions of many channels, and those to a few channels, are slower than matrix products over
patches; the others are as fast, and compile three times faster. So the large and the narrow ones are matrix
products there, as long as the patches are small beside the memory; all else, and every other platform, has XLA's
convolution. The platform is known when lowering, so ahead-of-time compilation gets the form of its target.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Patches hold kh * kw copies of their array: with this many times fewer channels on the output side, take them there.
_NARROW = 8
# Weights of a kernel from which on matrix products pay: 3x3 with 256 channels in and out has 590,000.
_LARGE = 2**19
_PATCH_BYTES = 2**27


def conv2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c d"], *, stride: int = 1
) -> Float[Array, "b i j d"]:
    """Returns the convolution of x with the kernel, without padding (VALID): the caller pads.

    Both arguments have one dtype, float32 or bfloat16, which the result keeps. Derivatives of every order are there
    in reverse mode; large and narrow kernels have none in forward mode (jax.jvp).

    Raises:
      ValueError: a stride other than 1 or 2, or sizes that do not fit.
    """
    if stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2, got {stride}")
    if x.shape[-1] != kernel.shape[2]:
        raise ValueError(f"kernel {kernel.shape} does not take the channels of {x.shape}")
    if x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]:
        raise ValueError(f"kernel {kernel.shape} is larger than the image {x.shape}")
    if stride == 1 and _pays(x, kernel):
        return _product(x, kernel)
    return _lax_product(x, kernel, stride=stride)


def upsample_conv2d(x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"]) -> Float[Array, "b 2*h 2*w d"]:
    """Returns x enlarged twice by nearest neighbour, edge-padded, and convolved with the 3x3 kernel.

    The enlarged image is never made: each of the four output phases sees 2x2 source pixels, so the taps that fall on
    one pixel are summed first. That is 4 taps an output instead of 9 (sub-pixel convolution, Shi et al. 2016).

    Raises:
      ValueError: the kernel is not 3x3.
    """
    if kernel.shape[:2] != (3, 3):
        raise ValueError(f"kernel must be 3x3, got {kernel.shape}")
    b, h, w, c = x.shape
    rows = jnp.stack([jnp.stack(phase) for phase in _phases(kernel)])  # p kh kw c d
    both = jnp.stack([jnp.stack(phase) for phase in _phases(rows.transpose(2, 0, 1, 3, 4))])  # q kw p kh c d
    folded = both.transpose(3, 1, 4, 2, 0, 5).reshape(2, 2, c, -1)
    y = conv2d(_edge(_edge(x, 1), 2), folded).reshape(b, h + 1, w + 1, 2, 2, -1)
    # Phase p of row r is window r + p of the padded image, and so along the columns.
    y = jnp.stack([y[:, p : p + h, :, p] for p in (0, 1)], 2)
    y = jnp.stack([y[:, :, :, q : q + w, q] for q in (0, 1)], 4)
    return y.reshape(b, 2 * h, 2 * w, -1)


def _phases(taps: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """The two taps of an even and of an odd output: those of three that fall on one source pixel summed."""
    return (taps[0], taps[1] + taps[2]), (taps[0] + taps[1], taps[2])


def _edge(x: jax.Array, axis: int) -> jax.Array:
    # Not jnp.pad: the gradient of its edge mode moves batches between devices.
    first, last = (lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, x.shape[axis] - 1))
    return jnp.concatenate([first, x, last], axis)


def _pays(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether the products of this convolution are matrix products on CPU."""
    kh, kw, c, d = kernel.shape
    patches = x.size // c * kh * kw * min(c, d) * 4
    return patches <= _PATCH_BYTES and (kernel.size >= _LARGE or d * _NARROW <= c)


# The three products of a convolution are each other's derivatives: nothing differentiates through the platform.


@jax.custom_vjp
def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.platform_dependent(x, kernel, cpu=_cpu_product, default=_lax_product)


@jax.custom_vjp
def _input_gradient(g: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.platform_dependent(g, kernel, cpu=_cpu_input_gradient, default=_lax_input_gradient)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _kernel_gradient(size: tuple[int, int], x: jax.Array, g: jax.Array) -> jax.Array:
    return lax.platform_dependent(
        x,
        g,
        cpu=functools.partial(_cpu_kernel_gradient, size),
        default=functools.partial(_lax_kernel_gradient, size),
    )


_product.defvjp(
    lambda x, kernel: (_product(x, kernel), (x, kernel)),
    lambda held, g: (_input_gradient(g, held[1]), _kernel_gradient(held[1].shape[:2], held[0], g)),
)
_input_gradient.defvjp(
    lambda g, kernel: (_input_gradient(g, kernel), (g, kernel)),
    lambda held, u: (_product(u, held[1]), _kernel_gradient(held[1].shape[:2], u, held[0])),
)
_kernel_gradient.defvjp(
    lambda size, x, g: (_kernel_gradient(size, x, g), (x, g)),
    lambda size, held, u: (_input_gradient(held[1], u), _product(held[0], u)),
)


def _lax_product(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=dimensions)


def _lax_input_gradient(g: jax.Array, kernel: jax.Array) -> jax.Array:
    kh, kw, c, _ = kernel.shape
    x = jax.ShapeDtypeStruct((g.shape[0], g.shape[1] + kh - 1, g.shape[2] + kw - 1, c), g.dtype)
    return jax.linear_transpose(lambda x: _lax_product(x, kernel), x)(g)[0]


def _lax_kernel_gradient(size: tuple[int, int], x: jax.Array, g: jax.Array) -> jax.Array:
    kernel = jax.ShapeDtypeStruct((*size, x.shape[-1], g.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: _lax_product(x, kernel), kernel)(g)[0]


def _cpu_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    kh, kw, c, d = kernel.shape
    if d * _NARROW > c:
        return _patches(x, (kh, kw)) @ kernel.reshape(-1, d)
    taps = jnp.einsum("bhwc,klcd->bhwkld", x, kernel)
    h, w = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    taps = sum((taps[:, :, j : j + w, :, j] for j in range(1, kw)), taps[:, :, :w, :, 0])
    return sum((taps[:, i : i + h, :, i] for i in range(1, kh)), taps[:, :h, :, 0])


def _cpu_input_gradient(g: jax.Array, kernel: jax.Array) -> jax.Array:
    kh, kw, c, d = kernel.shape
    if d * _NARROW <= c:
        flipped = kernel[::-1, ::-1].swapaxes(2, 3)
        return _patches(_surround(g, (kh, kw)), (kh, kw)) @ flipped.reshape(-1, c)
    taps = jnp.einsum("bhwd,klcd->bhwklc", g, kernel)
    columns = [_pad(taps[:, :, :, :, j], 2, j, kw - 1 - j) for j in range(kw)]
    taps = sum(columns[1:], columns[0])
    rows = [_pad(taps[:, :, :, i], 1, i, kh - 1 - i) for i in range(kh)]
    return sum(rows[1:], rows[0])


def _cpu_kernel_gradient(size: tuple[int, int], x: jax.Array, g: jax.Array) -> jax.Array:
    c, d = x.shape[-1], g.shape[-1]
    if d * _NARROW > c:
        return jnp.einsum("bhwp,bhwd->pd", _patches(x, size), g).reshape(*size, c, d)
    kernel = jnp.einsum("bhwc,bhwp->cp", x, _patches(_surround(g, size), size)).reshape(c, *size, d)
    return kernel.transpose(1, 2, 0, 3)[::-1, ::-1]


def _patches(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The window at each place, [b, i, j, kh * kw * c]."""
    # Columns first, then rows: that compiles faster than all places at once.
    h, w = x.shape[1] - size[0] + 1, x.shape[2] - size[1] + 1
    x = jnp.concatenate([x[:, :, j : j + w] for j in range(size[1])], -1)
    return jnp.concatenate([x[:, i : i + h] for i in range(size[0])], -1)


def _surround(g: jax.Array, size: tuple[int, int]) -> jax.Array:
    return _pad(_pad(g, 1, size[0] - 1, size[0] - 1), 2, size[1] - 1, size[1] - 1)


def _pad(x: jax.Array, axis: int, low: int, high: int) -> jax.Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (low, high)
    return jnp.pad(x, widths)
