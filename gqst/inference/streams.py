"""Networks that divide by moments of the whole picture, run over its tiles from norm to norm.

Moments of a norm are known only when all tiles have come so far. The network is therefore cut at its norms: the
activations there are kept for the whole picture, and every stretch between two cuts is one pass over the tiles, with a
halo of its own few convolutions. Each convolution is computed once, except where keeping its result would take more
memory than it saves: at full size, for networks of many channels.
"""

import contextlib
import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import jax
import numpy as np

from gqst.inference import tiles
from gqst.models import frames

SOURCE = -1
"""Stands for the picture among the numbers of points."""

PICTURE = 0
"""Position of the picture among the arguments that a network is traced with."""

_MARK = "gqst point "


@dataclasses.dataclass(frozen=True)
class Stretch:
    """A part of a network that is run over all tiles before the next.

    Attributes:
      stored: Numbers of the points whose activations it starts from, beside the picture.
      until: Number of the norm that it ends before; the number of norms for the last stretch, which gives the picture.
      halo: Number of pixels that it looks beyond its own position.
      kept: Numbers of the points whose activations are kept from here on, by this stretch or an earlier one.
    """

    stored: tuple[int, ...]
    until: int
    halo: int
    kept: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Network:
    """Where a network can be cut, and what is computed from what.

    Attributes:
      points: Places where it can be cut.
      reach: Number of pixels beyond its own position that the output looks at.
      origins: Points that the activations at each point are computed from directly; `SOURCE` stands for the picture.
      end: Points that the output is computed from directly.
    """

    points: Sequence[frames.Point]
    reach: int
    origins: Mapping[int, frozenset[int]]
    end: frozenset[int]

    @functools.cached_property
    def cuts(self) -> list[int]:
        """Numbers of the points before norms."""
        return [number for number, point in enumerate(self.points) if point.norm is not None]

    def needed(self, cut: int) -> tuple[int, ...]:
        """Returns the points up to a cut that the rest of the network is computed from directly."""
        later = frozenset().union(self.end, *(self.origins[p] for p in self.origins if p > cut))
        return tuple(sorted(later & set(range(cut + 1))))

    def stretches(self, *, pixels: int, memory: int) -> Iterator[Stretch]:
        """Yields the parts of the network in their order.

        Args:
          pixels: Number of pixels of the picture.
          memory: Number of bytes that activations at full size may take.
        """
        stored: tuple[int, ...] = ()
        for norm, cut in enumerate(self.cuts):
            after = self.needed(cut)
            size = sum(_bytes(self.points[p], pixels) for p in {*stored, *after})
            kept = after if self.points[cut].scale > 1 or size <= memory else stored
            halo = max(self._halo(target, stored) for target in {cut, *kept} - set(stored))
            yield Stretch(stored=stored, until=norm, halo=halo, kept=kept)
            stored = kept
        yield Stretch(stored=stored, until=len(self.cuts), halo=self._halo(None, stored), kept=())

    def _halo(self, target: int | None, stored: Sequence[int]) -> int:
        """How far a point, or the output (None), looks if it is computed from stored points.

        At most the convolutions that were called between the earliest origin and the point lie on the way.
        """
        open_points, origins = set(self.end if target is None else self.origins[target]), set()
        while open_points:
            number = open_points.pop()
            if number == SOURCE or number in stored:
                origins.add(number)
            else:
                open_points |= self.origins[number]
        reach = self.reach if target is None else self.points[target].reach
        return reach - min((0 if n == SOURCE else self.points[n].reach for n in origins), default=0)


def network(trace: Callable[[str | None], tuple[Any, frames.Frame]]) -> Network:
    """Returns where a network can be cut.

    Args:
      trace: Function of a mark that returns the network's jaxpr, whose argument number `PICTURE` is the picture, and
        the frame that it was traced in, with that mark.
    """
    closed, frame = trace(_MARK)
    jaxpr = closed.jaxpr
    direct: dict[Any, frozenset[int]] = {jaxpr.invars[PICTURE]: frozenset({SOURCE})}

    def sources(variables: Sequence[Any]) -> frozenset[int]:
        # Literals have a value and no origin.
        return frozenset().union(*(direct.get(v, frozenset()) for v in variables if not hasattr(v, "val")))

    origins: dict[int, frozenset[int]] = {}
    for equation in jaxpr.eqns:
        given = sources(equation.invars)
        name = str(equation.params.get("name", ""))
        if equation.primitive.name == "name" and name.startswith(_MARK):
            number = int(name.removeprefix(_MARK))
            origins[number], given = given, frozenset({number})
        direct.update(dict.fromkeys(equation.outvars, given))
    return Network(frame.points, frame.reach, origins, sources(jaxpr.outvars))


def _bytes(point: frames.Point, pixels: int) -> int:
    return pixels // point.scale**2 * point.channels * np.dtype(point.dtype).itemsize


class Plane:
    """Activations at a point for the whole picture, in memory or in a temporary file."""

    def __init__(self, point: frames.Point, size: tiles.Size, file: IO[bytes] | None):
        """Reserves the space.

        Args:
          point: The point.
          size: Rows and columns of the picture.
          file: Temporary file to keep the activations in; None keeps them in memory.
        """
        self.scale = point.scale
        self._shape = (size[0] // point.scale, size[1] // point.scale, point.channels)
        self._dtype = np.dtype(point.dtype)
        self._file = file
        self._array = np.empty(self._shape, self._dtype) if file is None else None
        if file is not None:
            file.truncate(math.prod(self._shape) * self._dtype.itemsize)

    def read(self, top: int, left: int, into: np.ndarray) -> None:
        """Copies activations from a position, in pixels of the picture, into the first rows and columns of an array."""
        top, left = top // self.scale, left // self.scale
        rows = min(into.shape[0], self._shape[0] - top)
        columns = min(into.shape[1], self._shape[1] - left)
        if self._array is not None:
            into[:rows, :columns] = self._array[top : top + rows, left : left + columns]
            return
        for row in range(rows):
            line = np.empty((columns, self._shape[2]), self._dtype)
            self._seek(top + row, left).readinto(line.view(np.uint8).reshape(-1).data)
            into[row, :columns] = line

    def write(self, top: int, left: int, values: np.ndarray) -> None:
        """Writes activations at a position in pixels of the picture."""
        top, left = top // self.scale, left // self.scale
        if self._array is not None:
            self._array[top : top + values.shape[0], left : left + values.shape[1]] = values
            return
        for row, line in enumerate(values):
            self._seek(top + row, left).write(np.ascontiguousarray(line).tobytes())

    def close(self) -> None:
        """Gives the space back."""
        if self._file is not None:
            self._file.close()

    def _seek(self, row: int, column: int) -> Any:
        assert self._file is not None
        self._file.seek((row * self._shape[1] + column) * self._shape[2] * self._dtype.itemsize)
        return self._file


class Planes:
    """The activations that are kept between stretches, in memory as far as it allows."""

    def __init__(self, points: Sequence[frames.Point], size: tiles.Size, memory: int):
        """Keeps nothing yet.

        Args:
          points: Points of the network.
          size: Rows and columns of the picture.
          memory: Number of bytes in memory; what exceeds it goes into temporary files.
        """
        self._points = points
        self._size = size
        self._free = memory
        self._planes: dict[int, tuple[Plane, int]] = {}

    def __getitem__(self, number: int) -> Plane:
        """Returns the plane of a point."""
        return self._planes[number][0]

    def __contains__(self, number: int) -> bool:
        """Whether a point is kept."""
        return number in self._planes

    def open(self, number: int) -> Plane:
        """Makes room for the activations at a point."""
        point = self._points[number]
        size = _bytes(point, math.prod(self._size))
        in_memory = size <= self._free
        # Unbuffered: lines are large, and a buffer would be read anew at every position.
        file = None if in_memory else tempfile.TemporaryFile(buffering=0, prefix="gqst-")  # noqa: SIM115
        self._free -= size if in_memory else 0
        self._planes[number] = Plane(point, self._size, file), size if in_memory else 0
        return self._planes[number][0]

    def keep(self, numbers: Sequence[int]) -> None:
        """Gives up all points but these."""
        for number in self._planes.keys() - set(numbers):
            plane, size = self._planes.pop(number)
            plane.close()
            self._free += size

    @classmethod
    @contextlib.contextmanager
    def opened(cls, points: Sequence[frames.Point], size: tiles.Size, memory: int) -> Iterator["Planes"]:
        """Context manager that gives everything up at the end."""
        planes = cls(points, size, memory)
        try:
            yield planes
        finally:
            planes.keep(())


def merged(a: frames.Moments | None, b: frames.Moments) -> frames.Moments:
    """Returns the moments of two sets of pixels together (Chan et al. 1982), in float64."""
    b = jax.tree.map(np.float64, b)
    if a is None:
        return b
    count = a.count + b.count
    share = b.count / np.maximum(count, 1.0)
    shift = b.mean - a.mean
    variance = a.variance * (1 - share) + b.variance * share + shift**2 * share * (1 - share)
    return frames.Moments(count=count, mean=a.mean + shift * share, variance=variance)
