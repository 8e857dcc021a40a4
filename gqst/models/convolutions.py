"""Two-dimensional convolutions that are as fast on CPU as elsewhere.

XLA's own convolutions reach half the speed of its matrix products on CPU, and far less for filter
gradients and for few channels. There, each of the three products of a convolution is one matrix
product over patches; on other platforms it is XLA's convolution. The choice is made when lowering,
so ahead-of-time compilation gets the form of its target.

The three products are each other's derivatives, so derivatives of every order in reverse mode stay
inside this file, and nothing differentiates through the choice of platform. Forward mode (jax.jvp)
is not available.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

# Patches hold kh * kw copies of their array: with this many times fewer channels on the output
# side, take them there.
_NARROW = 8

# [phase, source pixel, tap]: which of three taps fall on each of the two pixels a phase sees.
_FOLD = np.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], np.float32)


def conv2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c d"], *, stride: int = 1
) -> Float[Array, "b i j d"]:
    """Returns the convolution of x with the kernel, without padding (VALID): the caller pads.

    Both arguments have one dtype, float32 or bfloat16, which the result keeps.
    """
    if stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2, got {stride}")
    if x.shape[-1] != kernel.shape[2]:
        raise ValueError(f"kernel {kernel.shape} does not take the channels of {x.shape}")
    if x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]:
        raise ValueError(f"kernel {kernel.shape} is larger than the image {x.shape}")
    return _product(stride, x, kernel)


def upsample_conv2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"]
) -> Float[Array, "b 2*h 2*w d"]:
    """Returns x enlarged twice by nearest neighbour, edge-padded, and convolved with the 3x3 kernel.

    The enlarged image is never made: each of the four output phases sees 2x2 source pixels, so the
    taps that fall on one pixel are summed first. That is 4 taps an output instead of 9
    (sub-pixel convolution, arXiv:1609.05158).
    """
    if kernel.shape[:2] != (3, 3):
        raise ValueError(f"kernel must be 3x3, got {kernel.shape}")
    b, h, w, c = x.shape
    folded = jnp.einsum(
        "pai,qbj,ijcd->abcpqd", _FOLD, _FOLD, kernel.astype(jnp.float32), precision="highest"
    ).reshape(2, 2, c, -1)
    # Not jnp.pad: the gradient of its edge mode pads every dimension, and along a sharded batch
    # that crosses devices.
    x = jnp.concatenate([x[:, :1], x, x[:, -1:]], 1)
    x = jnp.concatenate([x[:, :, :1], x, x[:, :, -1:]], 2)
    y = conv2d(x, folded.astype(kernel.dtype)).reshape(b, h + 1, w + 1, 2, 2, -1)
    # Phase p of row r is window r + p of the padded image, and so along the columns.
    y = jnp.stack([y[:, p : p + h, :, p] for p in (0, 1)], 2)
    y = jnp.stack([y[:, :, :, q : q + w, q] for q in (0, 1)], 4)
    return y.reshape(b, 2 * h, 2 * w, -1)


# The three bilinear products. Static arguments come first: the stride, then the height and width of
# the result where the arrays do not tell.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(stride, x, kernel):
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_cpu_product, stride),
        default=functools.partial(_lax_product, stride),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _input_gradient(stride, size, g, kernel):
    return lax.platform_dependent(
        g,
        kernel,
        cpu=functools.partial(_cpu_input_gradient, stride, size),
        default=functools.partial(_lax_input_gradient, stride, size),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _kernel_gradient(stride, size, x, g):
    return lax.platform_dependent(
        x,
        g,
        cpu=functools.partial(_cpu_kernel_gradient, stride, size),
        default=functools.partial(_lax_kernel_gradient, stride, size),
    )


def _product_pullback(stride, residuals, g):
    x, kernel = residuals
    return (
        _input_gradient(stride, x.shape[1:3], g, kernel),
        _kernel_gradient(stride, kernel.shape[:2], x, g),
    )


def _input_gradient_pullback(stride, size, residuals, u):
    g, kernel = residuals
    return _product(stride, u, kernel), _kernel_gradient(stride, kernel.shape[:2], u, g)


def _kernel_gradient_pullback(stride, size, residuals, u):
    x, g = residuals
    return _input_gradient(stride, x.shape[1:3], g, u), _product(stride, x, u)


_product.defvjp(lambda s, x, k: (_product(s, x, k), (x, k)), _product_pullback)
_input_gradient.defvjp(lambda s, n, g, k: (_input_gradient(s, n, g, k), (g, k)), _input_gradient_pullback)
_kernel_gradient.defvjp(lambda s, n, x, g: (_kernel_gradient(s, n, x, g), (x, g)), _kernel_gradient_pullback)


def _lax_product(stride, x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _lax_input_gradient(stride, size, g, kernel):
    x = jax.ShapeDtypeStruct((g.shape[0], *size, kernel.shape[2]), g.dtype)
    return jax.linear_transpose(lambda x: _lax_product(stride, x, kernel), x)(g)[0]


def _lax_kernel_gradient(stride, size, x, g):
    kernel = jax.ShapeDtypeStruct((*size, x.shape[-1], g.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: _lax_product(stride, x, kernel), kernel)(g)[0]


def _patches(x, size, stride=1):
    """Returns [b, i, j, kh * kw * c]: the window at each place.

    Concatenation copies runs of channels, which XLA does fast. Columns first, then rows: that
    compiles faster than all places at once.
    """
    h, w = x.shape[1] - size[0] + 1, x.shape[2] - size[1] + 1
    x = jnp.concatenate([x[:, :, j : j + w : stride] for j in range(size[1])], -1)
    return jnp.concatenate([x[:, i : i + h : stride] for i in range(size[0])], -1)


def _pad(x, axis, low, high):
    widths = [(0, 0, 0)] * x.ndim
    widths[axis] = (low, high, 0)  # Negative widths crop.
    return lax.pad(x, jnp.zeros((), x.dtype), widths)


def _surround(g, size):
    return _pad(_pad(g, 1, size[0] - 1, size[0] - 1), 2, size[1] - 1, size[1] - 1)


def _cpu_product(stride, x, kernel):
    kh, kw, c, d = kernel.shape
    if stride == 1 and d * _NARROW <= c:
        taps = jnp.einsum("bhwc,klcd->bhwkld", x, kernel)
        h, w = x.shape[1] - kh + 1, x.shape[2] - kw + 1
        taps = sum(taps[:, :, j : j + w, :, j] for j in range(kw))
        return sum(taps[:, i : i + h, :, i] for i in range(kh))
    return _patches(x, (kh, kw), stride) @ kernel.reshape(-1, d)


def _cpu_input_gradient(stride, size, g, kernel):
    kh, kw, c, d = kernel.shape
    if stride == 2:
        # Space-to-depth: at half the resolution this is a convolution of stride 1 over 4c channels.
        h, w = g.shape[1] + (kh - 1) // 2, g.shape[2] + (kw - 1) // 2
        kernel = jnp.pad(kernel, ((0, kh % 2), (0, kw % 2), (0, 0), (0, 0)))
        kernel = kernel.reshape((kh + 1) // 2, 2, (kw + 1) // 2, 2, c, d)
        kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(*kernel.shape[0:4:2], 4 * c, d)
        x = _cpu_input_gradient(1, (h, w), g, kernel).reshape(-1, h, w, 2, 2, c)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, 2 * h, 2 * w, c)
        # Pixels past the last window have no gradient; those that only the padded kernel reaches
        # do not exist.
        return _pad(_pad(x, 1, 0, size[0] - 2 * h), 2, 0, size[1] - 2 * w)
    if d * _NARROW <= c:
        flipped = kernel[::-1, ::-1].swapaxes(2, 3)
        return _patches(_surround(g, (kh, kw)), (kh, kw)) @ flipped.reshape(-1, c)
    taps = jnp.einsum("bhwd,klcd->bhwklc", g, kernel)
    taps = sum(_pad(taps[:, :, :, :, j], 2, j, kw - 1 - j) for j in range(kw))
    return sum(_pad(taps[:, :, :, i], 1, i, kh - 1 - i) for i in range(kh))


def _cpu_kernel_gradient(stride, size, x, g):
    c, d = x.shape[-1], g.shape[-1]
    if stride == 1 and d * _NARROW <= c:
        patches = _patches(_surround(g, size), size)
        kernel = jnp.einsum("bhwc,bhwp->cp", x, patches).reshape(c, *size, d)
        return kernel.transpose(1, 2, 0, 3)[::-1, ::-1]
    h, w = (g.shape[1] - 1) * stride + size[0], (g.shape[2] - 1) * stride + size[1]
    patches = _patches(x[:, :h, :w], size, stride)
    return jnp.einsum("bhwp,bhwd->pd", patches, g).reshape(*size, c, d)
