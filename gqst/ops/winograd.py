"""3x3 convolutions of stride 1 by 16 matrix products for four outputs instead of 36 (Lavin and Gray 2016).

F(2x2, 3x3) of their section 4.1: a 2x2 patch of the outputs is A' [(G k G') * (B' d B)] A, where k is the kernel and d
a 4x4 patch of the input. What is multiplied, over all patches and channels, are matrices. Gradients are the transposes
of that, and multiply as little. In float32 the error is that of the direct sum.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Places = list[list[jax.Array]]
"""An array for each row and column of a small matrix."""


def product(x: Float[Array, "b h+2 w+2 c"], kernel: Float[Array, "3 3 c d"]) -> Float[Array, "b h w d"]:
    """Returns the convolution of x with the kernel, without padding."""
    height, width = (side - 2 for side in x.shape[1:3])
    places = _multiply(jnp.matmul, _of_inputs(x), _of_kernel(kernel))
    y = jnp.stack([jnp.stack(row, 3) for row in _back(_a_transposed, places)], 2)
    b, h, _, w, _, d = y.shape
    return y.reshape(b, 2 * h, 2 * w, d)[:, :height, :width]


def input_gradient(g: Float[Array, "b h w d"], kernel: Float[Array, "3 3 c d"]) -> Float[Array, "b h+2 w+2 c"]:
    """Returns the gradient by x, where g is that by the outputs."""
    height, width = (side + 2 for side in g.shape[1:3])
    places = _back(_b, _multiply(lambda m, u: m @ u.T, _of_outputs(g), _of_kernel(kernel)))
    return _laid([_laid(row, 2) for row in places], 1)[:, :height, :width]


def kernel_gradient(x: Float[Array, "b h+2 w+2 c"], g: Float[Array, "b h w d"]) -> Float[Array, "3 3 c d"]:
    """Returns the gradient by the kernel, where g is that by the outputs."""
    places = _multiply(_over_pixels, _of_inputs(x), _of_outputs(g))
    return jnp.stack([jnp.stack(row) for row in _back(_g_transposed, places)])


def _of_inputs(x: jax.Array) -> Places:
    x = _even(x)
    return [_b_transposed(row, 2) for row in _b_transposed(x, 1)]


def _of_kernel(kernel: jax.Array) -> Places:
    return [_g(row, 0) for row in _g(kernel, 0)]


def _of_outputs(g: jax.Array) -> Places:
    g = _even(g)
    b, h, w, d = g.shape
    return [_a(row, 3) for row in _a(g.reshape(b, h // 2, 2, w // 2, 2, d), 2)]


def _multiply(times: Callable[[jax.Array, jax.Array], jax.Array], left: Places, right: Places) -> Places:
    return [[times(*pair) for pair in zip(*rows, strict=True)] for rows in zip(left, right, strict=True)]


def _over_pixels(v: jax.Array, m: jax.Array) -> jax.Array:
    return v.reshape(-1, v.shape[-1]).T @ m.reshape(-1, m.shape[-1])


def _back(transform: Callable[[Sequence[jax.Array]], list[jax.Array]], places: Places) -> Places:
    """The transform over the columns of each row, then over the rows."""
    columns = zip(*[transform(row) for row in places], strict=True)
    return [list(row) for row in zip(*map(transform, columns), strict=True)]


# The matrices of F(2, 3), along one axis.


def _b_transposed(x: jax.Array, axis: int) -> list[jax.Array]:
    count = x.shape[axis] // 2 - 1  # patches of four at steps of two
    d = [lax.slice_in_dim(x, i, i + 2 * count - 1, 2, axis) for i in range(4)]
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _b(v: Sequence[jax.Array]) -> list[jax.Array]:
    return [v[0], v[1] - v[2] + v[3], v[1] + v[2] - v[0], -v[3]]


def _g(kernel: jax.Array, axis: int) -> list[jax.Array]:
    k = [lax.index_in_dim(kernel, i, axis, keepdims=False) for i in range(3)]
    ends, middle = 0.5 * (k[0] + k[2]), 0.5 * k[1]
    return [k[0], ends + middle, ends - middle, k[2]]


def _g_transposed(u: Sequence[jax.Array]) -> list[jax.Array]:
    both = 0.5 * (u[1] + u[2])
    return [u[0] + both, 0.5 * (u[1] - u[2]), both + u[3]]


def _a(g: jax.Array, axis: int) -> list[jax.Array]:
    even, odd = (lax.index_in_dim(g, i, axis, keepdims=False) for i in range(2))
    return [even, even + odd, even - odd, -odd]


def _a_transposed(m: Sequence[jax.Array]) -> list[jax.Array]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _even(x: jax.Array) -> jax.Array:
    """With a row and a column of zeros more where the sides are odd."""
    return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))


def _laid(d: Sequence[jax.Array], axis: int) -> jax.Array:
    """Patches of four at steps of two, summed where they overlap."""

    def pair(first: jax.Array, second: jax.Array) -> jax.Array:
        zeros = jnp.zeros_like(lax.slice_in_dim(first, 0, 1, axis=axis))
        return jnp.concatenate([first, zeros], axis) + jnp.concatenate([zeros, second], axis)

    x = jnp.stack([pair(d[0], d[2]), pair(d[1], d[3])], axis + 1)
    shape = list(x.shape)
    shape[axis : axis + 2] = [-1]
    return x.reshape(shape)
