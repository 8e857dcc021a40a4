"""3x3 convolutions of stride 1 with 16 multiplications for four outputs instead of 36 (Lavin and Gray 2016).

F(2x2, 3x3) of their section 4.1: a 2x2 patch of the outputs is A' [(G k G') * (B' d B)] A, where k is the kernel, d a
4x4 patch of the input and * the product of entries. Over all patches and channels, each of the 16 products of entries
is a matrix product. Gradients are the transposes of these operations and need equally few multiplications. In float32
the rounding error is about that of the direct sum.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Tile = list[list[jax.Array]]
"""A small matrix, by rows, whose entries are arrays over all patches and channels."""


def product(x: Float[Array, "b h+2 w+2 c"], kernel: Float[Array, "3 3 c d"]) -> Float[Array, "b h w d"]:
    """Returns the convolution of x with the kernel, without padding."""
    height, width = (side - 2 for side in x.shape[1:3])
    products = _multiply(jnp.matmul, _input_tile(x), _kernel_tile(kernel))
    y = jnp.stack([jnp.stack(row, 3) for row in _transform(_a_transposed, products)], 2)
    b, h, _, w, _, d = y.shape
    return y.reshape(b, 2 * h, 2 * w, d)[:, :height, :width]


def input_gradient(g: Float[Array, "b h w d"], kernel: Float[Array, "3 3 c d"]) -> Float[Array, "b h+2 w+2 c"]:
    """Returns the gradient with respect to x, given the gradient g with respect to the outputs."""
    height, width = (side + 2 for side in g.shape[1:3])
    patches = _transform(_b, _multiply(lambda m, u: m @ u.T, _output_tile(g), _kernel_tile(kernel)))
    return _overlap_add([_overlap_add(row, 2) for row in patches], 1)[:, :height, :width]


def kernel_gradient(x: Float[Array, "b h+2 w+2 c"], g: Float[Array, "b h w d"]) -> Float[Array, "3 3 c d"]:
    """Returns the gradient with respect to the kernel, given the gradient g with respect to the outputs."""
    products = _multiply(_sum_over_pixels, _input_tile(x), _output_tile(g))
    return jnp.stack([jnp.stack(row) for row in _transform(_g_transposed, products)])


def _input_tile(x: jax.Array) -> Tile:
    """B' d B for every 4x4 patch d of the input."""
    x = _pad_to_even(x)
    return [_b_transposed(row, 2) for row in _b_transposed(x, 1)]


def _kernel_tile(kernel: jax.Array) -> Tile:
    """G k G'."""
    return [_g(row, 0) for row in _g(kernel, 0)]


def _output_tile(g: jax.Array) -> Tile:
    """A g A' for every 2x2 patch of the gradient."""
    g = _pad_to_even(g)
    b, h, w, d = g.shape
    return [_a(row, 3) for row in _a(g.reshape(b, h // 2, 2, w // 2, 2, d), 2)]


def _multiply(multiply: Callable[[jax.Array, jax.Array], jax.Array], left: Tile, right: Tile) -> Tile:
    return [[multiply(*pair) for pair in zip(*rows, strict=True)] for rows in zip(left, right, strict=True)]


def _sum_over_pixels(v: jax.Array, m: jax.Array) -> jax.Array:
    return v.reshape(-1, v.shape[-1]).T @ m.reshape(-1, m.shape[-1])


def _transform(matrix: Callable[[Sequence[jax.Array]], list[jax.Array]], tile: Tile) -> Tile:
    """Returns M t M' for a tile t, where `matrix` multiplies a vector by M."""
    columns = zip(*[matrix(row) for row in tile], strict=True)
    return [list(row) for row in zip(*map(matrix, columns), strict=True)]


# Products with the matrices of F(2, 3), along one axis.


def _b_transposed(x: jax.Array, axis: int) -> list[jax.Array]:
    count = x.shape[axis] // 2 - 1  # patches of four, two apart
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


def _pad_to_even(x: jax.Array) -> jax.Array:
    """Returns x with a row or column of zeros added where a side is odd."""
    return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))


def _overlap_add(d: Sequence[jax.Array], axis: int) -> jax.Array:
    """Returns patches of four, two apart, as one axis, summed where they overlap."""

    def pair(first: jax.Array, second: jax.Array) -> jax.Array:
        zeros = jnp.zeros_like(lax.slice_in_dim(first, 0, 1, axis=axis))
        return jnp.concatenate([first, zeros], axis) + jnp.concatenate([zeros, second], axis)

    x = jnp.stack([pair(d[0], d[2]), pair(d[1], d[3])], axis + 1)
    shape = list(x.shape)
    shape[axis : axis + 2] = [-1]
    return x.reshape(shape)
