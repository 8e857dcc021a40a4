"""Pictures in arrays of another size: the layers of a network told where the picture ends and what it is a part of.

Inference runs every picture, or tile of a picture, in an array of one of a few sizes, so that few programs are compiled
and memory does not depend on the picture. Within `framed(frame)` the layers of `blocks` give, inside the frame, what
they would give for the whole picture:

- borders are padded where the picture ends, not where the array does;
- norms of a picture's own moments take those of the whole picture.

What lies outside the picture, and within a generator's halo of an edge that is not the picture's, is arbitrary.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int


class Moments(struct.PyTreeNode):
    """Moments of each channel over a number of pixels.

    Attributes:
      count: Number of pixels.
      mean: Mean of each channel.
      variance: Mean squared deviation of each channel.
    """

    count: Float[Any, "*b 1"]
    mean: Float[Any, "*b c"]
    variance: Float[Any, "*b c"]


class Layout(struct.PyTreeNode):
    """Where the pictures of a batch lie in arrays of `canvas` rows and columns, all in pixels of the input.

    Sizes and cores are multiples of the network's `multiple`.

    Attributes:
      size: Rows and columns from the array's first ones to the picture's end, which may lie beyond the array.
      core: First and last row, first and last column (the last ones excluded) whose moments count for this array, so
        that every pixel of a picture counts once.
      given: Moments of the whole picture at every norm, in the order of the calls.
      known: Number of norms, the first ones, that take the given moments; the others take their array's own.
    """

    size: Int[Any, "b 2"]
    core: Int[Any, "b 4"]
    given: tuple[Moments, ...] = ()
    known: Int[Any, ""] | int = 0


class Frame:
    """A layout during one application of a network, and the moments that its norms have seen.

    Attributes:
      seen: Moments over the core of each array, in the order of the norms.
      largest: Number of bytes of the largest activations, of one picture.
    """

    def __init__(self, canvas: tuple[int, int], layout: Layout, *, record: bool = False):
        """Frames a network's application.

        Args:
          canvas: Rows and columns of the input arrays.
          layout: Where the pictures lie.
          record: Whether `layout.given` is unknown yet, so that every array's own moments are taken.
        """
        self.seen: list[Moments] = []
        self.largest = 0
        self._canvas = canvas
        self._layout = layout
        self._record = record

    def mended(self, padded: Float[Array, "b h w c"], pad: int, padding: str) -> Float[Array, "b h w c"]:
        """Returns padded activations whose rows and columns behind the picture's end are its padding.

        Args:
          padded: Activations with `pad` more pixels on every side.
          pad: Width of the border.
          padding: "zero", or "reflect", for which pictures need more than `pad` pixels.
        """
        self._watch(padded)
        for axis in (1, 2):
            ends = self._ends(padded.shape[axis] - 2 * pad, axis)
            padded = jax.vmap(_mend, (0, 0, None, None, None))(padded, ends, pad, padding, axis - 1)
        return padded

    def extended(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns activations with the picture's last row and column repeated once behind its end."""
        self._watch(x)
        for axis in (1, 2):
            x = jax.vmap(_extend, (0, 0, None))(x, self._ends(x.shape[axis], axis), axis - 1)
        return x

    def cleared(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns activations with zeros behind the picture's end."""
        self._watch(x)
        rows, columns = (_within(n, 0, self._ends(n, axis)) for axis, n in ((1, x.shape[1]), (2, x.shape[2])))
        return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], x, 0)

    def moments(self, x: Float[Array, "b h w c"]) -> tuple[Float[Array, "b 1 1 c"], Float[Array, "b 1 1 c"]]:
        """Returns mean and variance of each channel over the whole picture, and remembers those of the core."""
        own = self._own_moments(x.astype(jnp.float32))
        index = len(self.seen)
        self.seen.append(own)
        mean, variance = own.mean, own.variance
        if not self._record:
            given = self._layout.given[index]
            known = index < self._layout.known
            mean = jnp.where(known, given.mean[None], mean)
            variance = jnp.where(known, given.variance[None], variance)
        return mean[:, None, None], variance[:, None, None]

    def _own_moments(self, x: jax.Array) -> Moments:
        core = self._layout.core // self._scale(x.shape[1], 1)
        rows = _within(x.shape[1], core[:, 0], core[:, 1])
        columns = _within(x.shape[2], core[:, 2], core[:, 3])
        weights = (rows[:, :, None] & columns[:, None, :]).astype(jnp.float32).reshape(x.shape[0], -1)
        count = weights.sum(1, keepdims=True)
        weights = weights / jnp.maximum(count, 1.0)
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        # As matrix products, because XLA's sums take ten times as long on CPU.
        mean = jnp.einsum("bp,bpc->bc", weights, flat, precision="highest")
        variance = jnp.einsum("bp,bpc->bc", weights, (flat - mean[:, None]) ** 2, precision="highest")
        return Moments(count=count, mean=mean, variance=variance)

    def _watch(self, x: jax.Array) -> None:
        self.largest = max(self.largest, x[0].size * x.dtype.itemsize)

    def _scale(self, length: int, axis: int) -> int:
        return self._canvas[axis - 1] // length

    def _ends(self, length: int, axis: int) -> Int[Array, "b"]:
        """The picture's end along an axis of activations; the array's if that comes first."""
        return jnp.minimum(self._layout.size[:, axis - 1] // self._scale(length, axis), length)


_current: contextvars.ContextVar[Frame | None] = contextvars.ContextVar("frame", default=None)


@contextlib.contextmanager
def framed(frame: Frame) -> Iterator[Frame]:
    """Context manager within which layers follow a frame; for the time in which a network is traced."""
    token = _current.set(frame)
    try:
        yield frame
    finally:
        _current.reset(token)


def current() -> Frame | None:
    """Returns the frame to follow; None where arrays hold whole pictures."""
    return _current.get()


def cleared(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Returns activations with zeros behind the picture's end, unchanged without a frame.

    A layer that pads with zeros by itself calls this on its input.
    """
    frame = current()
    return x if frame is None else frame.cleared(x)


def _within(length: int, first: Any, last: jax.Array) -> Bool[Array, "b length"]:
    """Whether each position lies between the first and the last of each example."""
    positions = jnp.arange(length)[None]
    return (positions >= jnp.reshape(first, (-1, 1))) & (positions < last[:, None])


def _mend(padded: jax.Array, end: jax.Array, pad: int, padding: str, axis: int) -> jax.Array:
    # In `padded`, the picture ends at pad + end.
    if padding == "zero":
        shape = list(padded.shape)
        shape[axis] = pad
        border: Any = jnp.zeros(shape, padded.dtype)
    else:
        border = jax.lax.rev(jax.lax.dynamic_slice_in_dim(padded, end - 1, pad, axis), (axis,))
    return jax.lax.dynamic_update_slice_in_dim(padded, border, pad + end, axis)


def _extend(x: jax.Array, end: jax.Array, axis: int) -> jax.Array:
    last = jax.lax.dynamic_slice_in_dim(x, end - 1, 1, axis)
    # At the array's own end this writes the last row over itself.
    return jax.lax.dynamic_update_slice_in_dim(x, last, end, axis)
