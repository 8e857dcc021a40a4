"""Which part of a picture goes into which array: tiles with a halo, and a few array sizes for many pictures."""

import dataclasses
from collections.abc import Mapping

import numpy as np

Size = tuple[int, int]
"""Rows and columns in pixels."""

# What a program costs to be compiled, in pixels that could be translated in the time.
_COMPILATION = 1_500_000
# Sides of arrays for pictures that were not announced are multiples of an eighth of their power of two.
_STEPS = 8
_MOST_CANDIDATES = 256


@dataclasses.dataclass(frozen=True)
class Grid:
    """What a network demands of tiles.

    Attributes:
      multiple: Number of pixels that positions and sizes are multiples of.
      halo: Number of pixels beyond its own position that an output looks at.
      most: Largest number of pixels of an array.
    """

    multiple: int
    halo: int
    most: int

    @property
    def margin(self) -> int:
        """The halo, rounded up to a multiple."""
        return up(self.halo, self.multiple)

    def spans(self, length: int, array: int) -> list[tuple[int, int, int]]:
        """Returns the tiles along one side of a picture: start in the picture, and first and last pixel of the core.

        The cores cover the picture without overlap. An array that the picture fits into holds all of it.

        Args:
          length: Length of the side, a multiple of `multiple`.
          array: Length of the arrays' side.

        Raises:
          ValueError: The array is shorter than the picture and has no room between two halos.
        """
        if length <= array:
            return [(0, 0, length)]
        if array <= 2 * self.margin:
            raise ValueError(f"tiles of {array} px have no room between halos of {self.margin} px")
        spans, begin = [], 0
        while begin < length:
            start = max(0, begin - self.margin)
            end = start + array - self.margin
            end = length if start + array >= length else end
            spans.append((start, begin, end))
            begin = end
        return spans

    def cost(self, size: Size, canvas: Size) -> float:
        """Returns the number of pixels that a picture takes in arrays of a size; infinite if it cannot be tiled."""
        total = 1.0
        for length, array in zip(size, canvas, strict=True):
            try:
                total *= len(self.spans(length, array)) * array
            except ValueError:
                return float("inf")
        return total

    def padded(self, size: Size) -> Size:
        """Returns the size of a picture inside the network: multiples of `multiple`."""
        return up(size[0], self.multiple), up(size[1], self.multiple)


def up(length: int, multiple: int) -> int:
    """Returns the smallest multiple that is at least `length`."""
    return -(-length // multiple) * multiple


def canvases(sizes: Mapping[Size, int], grid: Grid, *, most: int) -> list[Size]:
    """Returns at most `most` array sizes for pictures of these sizes, so that little time goes into filling.

    Starts with an array size for each picture size and unites the two whose union costs least, until there are few
    enough and uniting saves no time.

    Args:
      sizes: Numbers of pictures by their size.
      grid: What the network demands.
      most: Largest number of array sizes.
    """
    chosen: dict[Size, dict[Size, int]] = {}
    for size, count in _candidates(sizes, grid).items():
        # What does not fit is done in tiles, for which a square has the least halo.
        chosen.setdefault(size if _fits(size, grid) else _tile(size, grid), {})[size] = count
    groups = list(chosen.items())
    losses = np.full((len(groups), len(groups)), np.inf)
    for row in range(len(groups)):
        for column in range(row):
            losses[row, column] = _loss(groups[row], groups[column], grid)
    while len(groups) > 1:
        row, column = (int(i) for i in np.unravel_index(np.argmin(losses), losses.shape))
        if len(groups) <= most and losses[row, column] >= _COMPILATION:
            break
        (a, of_a), (b, of_b) = groups[row], groups[column]
        groups[column] = _union(a, b, grid), of_a | of_b
        del groups[row]
        losses = np.delete(np.delete(losses, row, 0), row, 1)
        for other in range(len(groups)):
            if other != column:
                first, second = max(other, column), min(other, column)
                losses[first, second] = _loss(groups[first], groups[second], grid)
    return [canvas for canvas, _ in groups]


def fitting(size: Size, grid: Grid) -> Size:
    """Returns the array size for a picture that was not announced: somewhat larger, so that others may share it."""
    rounded = (_rounded(size[0], grid.multiple), _rounded(size[1], grid.multiple))
    return rounded if _fits(rounded, grid) else _tile(size, grid)


def _rounded(length: int, multiple: int) -> int:
    step = max(multiple, 2 ** max(0, (length - 1).bit_length() - 1) // _STEPS)
    return up(length, up(step, multiple))


def _candidates(sizes: Mapping[Size, int], grid: Grid) -> dict[Size, int]:
    """Numbers of pictures by size, rounded up until there are not too many sizes."""
    step = grid.multiple
    while True:
        rounded: dict[Size, int] = {}
        for size, count in sizes.items():
            key = (up(size[0], step), up(size[1], step))
            rounded[key] = rounded.get(key, 0) + count
        if len(rounded) <= _MOST_CANDIDATES:
            return rounded
        step *= 2


def _tile(size: Size, grid: Grid) -> Size:
    """The array size with which a picture that is too large for one takes the fewest pixels."""
    best: tuple[int, Size] | None = None
    for tall in range(1, size[0]):
        height = _side(size[0], tall, grid)
        if tall > 1 and height <= 2 * grid.margin:
            break
        widest = grid.most // height
        # With less room than two halos there is no number of tiles.
        room = max(widest - 2 * grid.margin, 0)
        if widest >= size[1]:
            wide = 1
        elif room < grid.multiple:
            continue
        else:
            wide = max(2, -(-(size[1] - 2 * grid.margin) // room))
        while _side(size[1], wide, grid) > widest:
            wide += 1
        canvas = height, _side(size[1], wide, grid)
        cost = tall * wide * canvas[0] * canvas[1]
        if best is None or cost < best[0]:
            best = cost, canvas
    if best is None:
        raise MemoryError(
            f"tiles of the least size, {2 * grid.margin + grid.multiple} px a side, do not fit into the memory allowed"
        )
    return best[1]


def _side(length: int, tiles: int, grid: Grid) -> int:
    """The shortest arrays of which so many cover a side."""
    return up(-(-(length + 2 * grid.margin * (tiles - 1)) // tiles), grid.multiple)


def _union(a: Size, b: Size, grid: Grid) -> Size:
    size = max(a[0], b[0]), max(a[1], b[1])
    return size if _fits(size, grid) else _tile(size, grid)


def _fits(size: Size, grid: Grid) -> bool:
    return size[0] * size[1] <= grid.most


_Group = tuple[Size, dict[Size, int]]


def _loss(a: _Group, b: _Group, grid: Grid) -> float:
    """What uniting two groups costs, in pixels."""
    union = _union(a[0], b[0], grid)
    return _spent((union, a[1] | b[1]), grid) - _spent(a, grid) - _spent(b, grid)


def _spent(group: _Group, grid: Grid) -> float:
    canvas, sizes = group
    return sum(count * grid.cost(size, canvas) for size, count in sizes.items())
