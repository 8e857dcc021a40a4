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
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import ad_checkpoint
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
      given: Moments of the whole picture at the first norms, in the order of the calls, if arrays hold parts of it.
    """

    size: Int[Any, "b 2"]
    core: Int[Any, "b 4"]
    given: tuple[Moments, ...] = ()


class Point(NamedTuple):
    """A place in a network where it can be cut: before a norm, or between blocks.

    Attributes:
      norm: Number of the norm among those of a picture's own moments; None between blocks.
      reach: Number of pixels beyond its own position that the activations look at.
      scale: Pixels of the input for one of the activations.
      channels: Number of channels.
      dtype: Type of the activations.
    """

    norm: int | None
    reach: int
    scale: int
    channels: int
    dtype: Any


class Reached(Exception):  # noqa: N818 - no error, but the end of what was asked for
    """Raised in a network at the norm that it was to run to."""


class Frame:
    """A layout during one application of a network, and what it has seen.

    Attributes:
      seen: Moments over the core of each array, in the order of the norms.
      points: Places where the network can be cut, in the order of the calls.
      values: Activations at those points, less those that were given.
      reach: Number of pixels beyond its own position that the output looks at.
      largest: Number of bytes of the largest activations, of one picture.
      least: Number of pixels of the shortest side whose borders are reflected once at most.
    """

    def __init__(
        self,
        canvas: tuple[int, int],
        layout: Layout,
        *,
        stored: Mapping[int, jax.Array] | None = None,
        until: int | None = None,
        mark: str | None = None,
    ):
        """Frames a network's application.

        Args:
          canvas: Rows and columns of the input arrays.
          layout: Where the pictures lie.
          stored: Activations that take the place of those computed, by the number of the point; moments of earlier
            norms are given with them.
          until: Number of the norm to stop at, with `Reached`; None runs to the end.
          mark: Prefix of the names that activations at points get in the traced program, before the point's number.
        """
        self.seen: list[Moments] = []
        self.points: list[Point] = []
        self.values: dict[int, jax.Array] = {}
        self.reach = 0
        self.largest = 0
        self.least = 1
        self._canvas = canvas
        self._layout = layout
        self._stored = {} if stored is None else stored
        self._until = until
        self._mark = mark
        self._norms = 0

    def point(self, x: Float[Array, "b h w c"], *, norm: int | None = None) -> Float[Array, "b h w c"]:
        """Returns the activations at a place where the network can be cut."""
        number = len(self.points)
        self.points.append(Point(norm, self.reach, self._scale(x.shape[1], 1), x.shape[-1], x.dtype))
        if number in self._stored:
            return self._stored[number]
        if self._mark is not None:
            x = ad_checkpoint.checkpoint_name(x, f"{self._mark}{number}")
        self.values[number] = x
        return x

    def mended(self, padded: Float[Array, "b h w c"], pad: int, padding: str) -> Float[Array, "b h w c"]:
        """Returns padded activations whose rows and columns behind the picture's end are its padding.

        Args:
          padded: Activations with `pad` more pixels on every side.
          pad: Width of the border.
          padding: "zero", or "reflect", for which pictures need more than `pad` pixels.
        """
        rows = padded.shape[1] - 2 * pad
        self._watch(padded, pad, rows)
        if padding == "reflect":
            self.least = max(self.least, (pad + 1) * self._scale(rows, 1))
        for axis in (1, 2):
            ends = self._ends(padded.shape[axis] - 2 * pad, axis)
            padded = jax.vmap(_mend, (0, 0, None, None, None))(padded, ends, pad, padding, axis - 1)
        return padded

    def extended(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns activations with the picture's last row and column repeated once behind its end."""
        self._watch(x, 1, x.shape[1])
        for axis in (1, 2):
            x = jax.vmap(_extend, (0, 0, None))(x, self._ends(x.shape[axis], axis), axis - 1)
        return x

    def cleared(self, x: Float[Array, "b h w c"], pad: int) -> Float[Array, "b h w c"]:
        """Returns activations with zeros behind the picture's end, for a layer that pads by `pad` itself."""
        self._watch(x, pad, x.shape[1])
        rows, columns = (_within(n, 0, self._ends(n, axis)) for axis, n in ((1, x.shape[1]), (2, x.shape[2])))
        return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], x, 0)

    def from_end(self, length: int, axis: int) -> Int[Array, "b length"]:
        """Returns how far each position along an axis of activations is from the picture's end, 1 for its last."""
        return self._picture_ends(length, axis)[:, None] - jnp.arange(length)[None]

    def moments(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b h w c"], tuple[Float[Array, "b 1 1 c"], Float[Array, "b 1 1 c"]]]:
        """Returns the activations at a norm, and mean and variance of each channel over the whole picture.

        Raises:
          Reached: The network was to run to this norm; its moments over the core are the last seen.
        """
        number, self._norms = self._norms, self._norms + 1
        x = self.point(x, norm=number)
        given = self._layout.given
        if self._until is not None and number < self._until:
            return x, self._spread(given[number].mean[None], given[number].variance[None], len(x))
        own = self._own_moments(x.astype(jnp.float32))
        self.seen.append(own)
        if number == self._until:
            raise Reached
        return x, self._spread(own.mean, own.variance, len(x))

    def _spread(self, mean: jax.Array, variance: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
        shape = (count, 1, 1, mean.shape[-1])
        return jnp.broadcast_to(mean[:, None, None], shape), jnp.broadcast_to(variance[:, None, None], shape)

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

    def _watch(self, x: jax.Array, pad: int, rows: int) -> None:
        self.reach += pad * self._scale(rows, 1)
        self.largest = max(self.largest, x[0].size * x.dtype.itemsize)

    def _scale(self, length: int, axis: int) -> int:
        return self._canvas[axis - 1] // length

    def _ends(self, length: int, axis: int) -> Int[Array, "b"]:
        """The picture's end along an axis of activations; the array's if that comes first."""
        return jnp.minimum(self._picture_ends(length, axis), length)

    def _picture_ends(self, length: int, axis: int) -> Int[Array, "b"]:
        """The picture's end along an axis of activations, which may lie beyond the array."""
        return self._layout.size[:, axis - 1] // self._scale(length, axis)


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


def cleared(x: Float[Array, "b h w c"], pad: int) -> Float[Array, "b h w c"]:
    """Returns activations with zeros behind the picture's end, unchanged without a frame.

    A layer that pads with `pad` zeros on every side by itself calls this on its input.
    """
    frame = current()
    return x if frame is None else frame.cleared(x, pad)


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
