"""A generator compiled for arrays of a few sizes, and applied to pictures of any size, whole or in tiles."""

import collections
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gqst.inference import pixels, streams, tiles
from gqst.models import frames
from gqst.runtime import devices

MOST_PROGRAMS = 4
"""Largest number of array sizes for pictures that are announced."""

# Small pictures share a call of about this many pixels, so that its fixed cost is spread.
_PIXELS_PER_CALL = {"cpu": 2**17, "gpu": 2**22, "tpu": 2**21}
_MOST_PER_CALL = 32
# An array that takes less than this many times a picture's pixels is not worth another program.
_WASTE = 1.5
# A program takes about this many times its largest activations, as the compiler says for all generators here.
_COPIES = 4
_PICTURE_BYTES = 36
_CPU_MEMORY = 2**30 * 3 // 2

Apply = Callable[[Any, jax.Array, jax.Array], jax.Array]
"""A function of variables, pictures f32[b h w 3] in [0, 1] and a strength f32[b] to pictures."""


@dataclasses.dataclass(frozen=True)
class _Tile:
    """A part of a picture, in pixels of the picture: its position, and the core's first and last rows and columns."""

    top: int
    left: int
    core: tuple[int, int, int, int]


class Programs:
    """The compiled forms of a generator on one device.

    Attributes:
      grid: What the generator demands of tiles; None if it takes whole pictures only.
      compiled: Number of programs compiled so far.
      device: The device.
      canvases: Sizes of the arrays that pictures are done in.
      demands: Number of pixels beyond its own position that an output looks at (`reach`), bytes of memory that a pixel
        takes (`bytes`), and pixels of the shortest side that fits into larger arrays (`least`); empty for generators
        that take whole pictures only.
    """

    def __init__(
        self,
        apply: Apply,
        module: nn.Module,
        variables: Any,
        device: jax.Device,
        *,
        memory: int | None = None,
        demands: Mapping[str, float] | None = None,
    ):
        """Compiles nothing yet.

        Args:
          apply: The generator as a function.
          module: The generator, for what it demands of tiles.
          variables: Its variables.
          device: Device to run on.
          memory: Number of bytes that a program may take beside the pictures; None depends on the device.
          demands: What another one found the network to demand; None finds it out.
        """
        self.compiled = 0
        self._apply = apply
        self._variables = jax.device_put(variables, device)
        self.device = device
        self._memory = _memory(device) if memory is None else memory
        self._programs: dict[Any, Any] = {}
        self._counts: dict[tiles.Size, int] = {}  # pictures a call, by array size
        self.canvases: list[tiles.Size] = []
        self.grid: tiles.Grid | None = None
        self.demands: dict[str, float] = {}
        multiple = getattr(module, "multiple", None)
        if multiple is not None:
            self.demands = self._traced_demands(multiple) if demands is None else dict(demands)
            most = int(self._memory // self.demands["bytes"])
            self.grid = tiles.Grid(multiple, int(self.demands["reach"]), most)

    def announce(self, sizes: Iterable[tiles.Size]) -> None:
        """Chooses the array sizes for pictures of these sizes."""
        if self.grid is None:
            return
        counts = collections.Counter(self.grid.padded(size) for size in sizes if self._is_framed(size))
        # Those that do not fit into the memory, even in tiles, fail when their turn comes.
        possible = {size: count for size, count in counts.items() if _is_possible(size, self.grid)}
        self.canvases = tiles.canvases(possible, self.grid, most=MOST_PROGRAMS)

    def per_call(self, size: tiles.Size) -> int:
        """Returns how many pictures of a size one call takes."""
        if self.grid is None or not self._is_framed(size):
            return 1
        canvas = self._canvas(size)
        return 1 if self._is_tiled(size, canvas) else self._counts.setdefault(canvas, self._batch(canvas))

    def key(self, size: tiles.Size) -> object:
        """Returns a value that is equal for pictures that can share a call.

        Raises:
          MemoryError: The memory allowed does not suffice for a picture of this size.
        """
        if self.grid is None or not self._is_framed(size):
            return size
        canvas = self._canvas(size)
        return (canvas, size) if self._is_tiled(size, canvas) else canvas

    def __call__(self, pictures: Sequence[np.ndarray], strength: float) -> list[np.ndarray]:
        """Returns translated pictures of the sizes and types given: 8 or 16 bits, or floats in [0, 1].

        Raises:
          ValueError: A picture is smaller than the generator takes.
          MemoryError: The memory allowed does not suffice.
        """
        if self.grid is None:
            return [self._whole(picture, strength) for picture in pictures]
        results: list[np.ndarray | None] = [None] * len(pictures)
        shared: dict[tiles.Size, list[int]] = {}
        for index, picture in enumerate(pictures):
            size = picture.shape[:2]
            if not self._is_framed(size):
                results[index] = self._whole(picture, strength)
                continue
            canvas = self._canvas(size)
            if self._is_tiled(size, canvas):
                results[index] = self._in_tiles(picture, canvas, strength)
            else:
                shared.setdefault(canvas, []).append(index)
        for canvas, indices in shared.items():
            # Of pictures that nobody announced, a call takes as many as came first, not all that it could.
            count = self._counts.setdefault(canvas, min(self._batch(canvas), 2 ** (len(indices) - 1).bit_length()))
            for first in range(0, len(indices), count):
                some = indices[first : first + count]
                fakes = self._together([pictures[index] for index in some], canvas, count, strength)
                for index, fake in zip(some, fakes, strict=True):
                    results[index] = fake
        return [result for result in results if result is not None]

    def _whole(self, picture: np.ndarray, strength: float) -> np.ndarray:
        """A picture by a program of its own."""
        arguments = self._variables, pixels.to_unit(picture)[None], np.full(1, strength, np.float32)
        if picture.shape not in self._programs:
            self._check_memory(arguments)
        fake = self._run(picture.shape, self._apply, arguments)
        return pixels.from_unit(np.asarray(fake)[0], picture.dtype)

    def _check_memory(self, arguments: tuple[Any, ...]) -> None:
        """Raises MemoryError before the compiler's own allocation would end the process."""
        equations = jax.make_jaxpr(self._apply)(*jax.tree.map(lambda x: _spec(x.shape, x.dtype), arguments)).jaxpr.eqns
        sizes = [v.aval.size * v.aval.dtype.itemsize for e in equations for v in e.outvars if hasattr(v.aval, "size")]
        needed, free = _COPIES * max(sizes, default=0), max(self._memory, _free_memory(self.device) // 2)
        if needed > free:
            raise MemoryError(f"it takes about {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are allowed")

    def _together(
        self, pictures: Sequence[np.ndarray], canvas: tiles.Size, count: int, strength: float
    ) -> list[np.ndarray]:
        """At most `count` pictures that fit into the arrays."""
        # The first picture fills up the arrays that are left.
        filled = [*pictures, *[pictures[0]] * (count - len(pictures))]
        arrays = np.zeros((count, *canvas, 3), np.float32)
        size = np.zeros((count, 2), np.int32)
        core = np.zeros((count, 4), np.int32)
        for index, picture in enumerate(filled):
            whole = self._padded(picture)
            size[index] = whole.shape[:2]
            core[index] = (0, whole.shape[0], 0, whole.shape[1])
            arrays[index, : whole.shape[0], : whole.shape[1]] = pixels.to_unit(whole)
        layout = frames.Layout(size=size, core=core)
        arguments = self._variables, arrays, layout, np.full(count, strength, np.float32)
        fakes = np.asarray(self._run((canvas, count), self._framed, arguments))
        return [
            pixels.from_unit(fake[: picture.shape[0], : picture.shape[1]], picture.dtype)
            for fake, picture in zip(fakes, pictures, strict=False)
        ]

    def _framed(self, variables: Any, pictures: jax.Array, layout: frames.Layout, strength: jax.Array) -> jax.Array:
        with frames.framed(frames.Frame((pictures.shape[1], pictures.shape[2]), layout)):
            return self._apply(variables, pictures, strength)

    def _in_tiles(self, picture: np.ndarray, canvas: tiles.Size, strength: float) -> np.ndarray:
        """A picture that is larger than the arrays."""
        whole = self._padded(picture)
        result = np.empty_like(picture)
        moments: list[frames.Moments] = []
        network = self._network
        size = whole.shape[0], whole.shape[1]
        with streams.Planes.opened(network.points, size, self._memory) as planes:
            for stretch in network.stretches(pixels=size[0] * size[1], memory=self._memory):
                last = stretch.until == len(network.cuts)
                gathered = self._pass(whole, canvas, stretch, planes, moments, strength, result if last else None)
                if gathered is not None:
                    moments.append(gathered)
                planes.keep(stretch.kept)
        return result

    def _pass(
        self,
        whole: np.ndarray,
        canvas: tiles.Size,
        stretch: streams.Stretch,
        planes: streams.Planes,
        moments: Sequence[frames.Moments],
        strength: float,
        result: np.ndarray | None,
    ) -> frames.Moments | None:
        """Runs a stretch over all tiles: writes the picture, or new planes and returns the moments at its end."""
        assert self.grid is not None
        grid = dataclasses.replace(self.grid, halo=stretch.halo)
        rows, columns = (grid.spans(n, c) for n, c in zip(whole.shape[:2], canvas, strict=True))
        places = [_Tile(r[0], c[0], (r[1], r[2], c[1], c[2])) for r in rows for c in columns]
        new = tuple(number for number in stretch.kept if number not in planes)
        opened = [planes.open(number) for number in new]
        count = self._batch(canvas)
        total: frames.Moments | None = None
        for first in range(0, len(places), count):
            some = places[first : first + count]
            arrays = np.zeros((count, *canvas, 3), np.float32)
            stored = {number: self._empty(number, count, canvas) for number in stretch.stored}
            size = np.zeros((count, 2), np.int32)
            core = np.zeros((count, 4), np.int32)
            # The first tile fills up the arrays that are left.
            for index, tile in enumerate([*some, *[some[0]] * (count - len(some))]):
                part = whole[tile.top : tile.top + canvas[0], tile.left : tile.left + canvas[1]]
                arrays[index, : part.shape[0], : part.shape[1]] = pixels.to_unit(part)
                for number, array in stored.items():
                    planes[number].read(tile.top, tile.left, array[index])
                size[index] = (whole.shape[0] - tile.top, whole.shape[1] - tile.left)
                core[index] = np.subtract(tile.core, (tile.top, tile.top, tile.left, tile.left))
            layout = frames.Layout(size=size, core=core, given=tuple(jax.tree.map(np.float32, m) for m in moments))
            arguments = self._variables, arrays, stored, layout, np.full(count, strength, np.float32)
            function = functools.partial(self._stretch, stretch.until, new)
            key = (canvas, count, stretch.stored, stretch.until, new)
            outcome, values = self._run(key, function, arguments)
            for index, tile in enumerate(some):
                top, bottom, left, right = tile.core
                for plane, value in zip(opened, values, strict=True):
                    inside = _cut(value[index], tile, plane.scale)
                    plane.write(top, left, inside)
                if result is None:
                    total = streams.merged(total, jax.tree.map(lambda x, index=index: np.asarray(x[index]), outcome))
                else:
                    kept = result[top:bottom, left:right]
                    inside = _cut(outcome[index], tile, 1)
                    kept[...] = pixels.from_unit(inside[: kept.shape[0], : kept.shape[1]], result.dtype)
        return total

    def _stretch(
        self,
        until: int,
        kept: Sequence[int],
        variables: Any,
        pictures: jax.Array,
        stored: Mapping[int, jax.Array],
        layout: frames.Layout,
        strength: jax.Array,
    ) -> tuple[Any, list[jax.Array]]:
        """The moments at a norm, or the pictures, and the activations to be kept."""
        frame = frames.Frame((pictures.shape[1], pictures.shape[2]), layout, stored=stored, until=until)
        outcome: Any
        with frames.framed(frame):
            try:
                outcome = self._apply(variables, pictures, strength)
            except frames.Reached:
                outcome = frame.seen[-1]
        return outcome, [frame.values[number] for number in kept]

    def _empty(self, number: int, count: int, canvas: tiles.Size) -> np.ndarray:
        point = self._network.points[number]
        return np.zeros((count, canvas[0] // point.scale, canvas[1] // point.scale, point.channels), point.dtype)

    @functools.cached_property
    def _network(self) -> streams.Network:
        assert self.grid is not None
        side = 4 * self.grid.multiple
        return streams.network(lambda mark: self._traced(side, mark))

    def _traced_demands(self, multiple: int) -> dict[str, float]:
        side = 4 * multiple
        frame = self._traced(side)[1]
        per_pixel = _COPIES * frame.largest / side**2 + _PICTURE_BYTES
        return {"reach": frame.reach, "bytes": per_pixel, "least": max(frame.least, multiple)}

    def _traced(self, side: int, mark: str | None = None) -> tuple[Any, frames.Frame]:
        """The generator's jaxpr as a function of a small picture, and what a frame has seen."""
        layout = frames.Layout(size=np.full((1, 2), side, np.int32), core=np.array([[0, side, 0, side]], np.int32))
        seen: list[frames.Frame] = []

        def framed(pictures: jax.Array, variables: Any) -> jax.Array:
            seen.append(frames.Frame((side, side), layout, mark=mark))
            with frames.framed(seen[-1]):
                return self._apply(variables, pictures, jnp.ones(1))

        return jax.make_jaxpr(framed)(_spec((1, side, side, 3)), self._variables), seen[-1]

    def _run(self, key: Any, function: Callable, arguments: tuple[Any, ...]) -> Any:
        """Calls the program of a key, compiled for arguments of these shapes."""
        if key not in self._programs:
            shapes = jax.tree.map(lambda x: _spec(x.shape, x.dtype), arguments)
            self._programs[key] = self._compile(function, shapes)
        return self._programs[key](*arguments)

    def _compile(self, function: Callable, arguments: tuple[Any, ...]) -> Any:
        self.compiled += 1
        sharding = jax.sharding.SingleDeviceSharding(self.device)
        jitted = jax.jit(
            function,
            in_shardings=sharding,
            out_shardings=sharding,
            compiler_options=devices.compile_options(1, [self.device]),
        )
        return jitted.lower(*arguments).compile()

    def _canvas(self, size: tiles.Size) -> tiles.Size:
        grid = self.grid
        assert grid is not None
        padded = grid.padded(size)
        most = float("inf") if len(self.canvases) >= MOST_PROGRAMS else _WASTE * padded[0] * padded[1]
        known = min(self.canvases, key=lambda canvas: grid.cost(padded, canvas), default=None)
        if known is not None and grid.cost(padded, known) < most:
            return known
        self.canvases.append(tiles.fitting(padded, grid))
        return self.canvases[-1]

    def _batch(self, canvas: tiles.Size) -> int:
        assert self.grid is not None
        pixels = canvas[0] * canvas[1]
        wanted = _PIXELS_PER_CALL.get(self.device.platform, 2**20) // pixels
        return max(1, min(wanted, _MOST_PER_CALL, self.grid.most // pixels))

    def _is_framed(self, size: tiles.Size) -> bool:
        """Whether a picture is large enough that borders are reflected once at most."""
        return min(size) >= self.demands["least"]

    def _is_tiled(self, size: tiles.Size, canvas: tiles.Size) -> bool:
        assert self.grid is not None
        padded = self.grid.padded(size)
        return padded[0] > canvas[0] or padded[1] > canvas[1]

    def _padded(self, picture: np.ndarray) -> np.ndarray:
        """The picture with rows and columns reflected at the end, as the generator would do by itself."""
        assert self.grid is not None
        rows, columns = self.grid.padded(picture.shape[:2])
        extra = ((0, rows - picture.shape[0]), (0, columns - picture.shape[1]), (0, 0))
        return picture if rows + columns == sum(picture.shape[:2]) else np.pad(picture, extra, mode="reflect")


def _is_possible(size: tiles.Size, grid: tiles.Grid) -> bool:
    try:
        tiles.fitting(size, grid)
    except MemoryError:
        return False
    return True


def _cut(values: Any, tile: _Tile, scale: int) -> np.ndarray:
    """The core of a tile's activations."""
    top, bottom, left, right = tile.core
    rows = slice((top - tile.top) // scale, (bottom - tile.top) // scale)
    columns = slice((left - tile.left) // scale, (right - tile.left) // scale)
    return np.asarray(values)[rows, columns]


def _spec(shape: tuple[int, ...], dtype: Any = np.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _memory(device: jax.Device) -> int:
    """Bytes that a program may take: half of what an accelerator has; on CPU 1.5 GiB, or half of what is free."""
    free = _free_memory(device) // 2
    return free if device.platform != "cpu" else min(_CPU_MEMORY, free)


def _free_memory(device: jax.Device) -> int:
    """Bytes of an accelerator's memory, or of what is free on CPU."""
    if device.platform != "cpu":
        return int((device.memory_stats() or {}).get("bytes_limit", 2**33))
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not on this system
        return 2 * _CPU_MEMORY
