"""Paired pictures: two side by side in one file, or two folders matched by name."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any, Literal

from PIL import Image

from gqst import types
from gqst.data.sources import base
from gqst.pictures import decode, folders

_SHOWN = 3
# The two halves of a file are loaded one after the other, by a few threads.
_REMEMBERED = 8
# Heads of files that are read at the start.
_MOST_SIZES = 200
# Two pictures side by side are at least this many times wider than high, unless each is narrower than 3 to 5.
_LEAST_RATIO = 1.2
_SAME_SHAPE = 0.03


@base.SOURCES.register("pairs", paired=True)
def pairs(*, root: str, direction: Literal["AtoB", "BtoA"] = "AtoB") -> base.Dataset:
    """Pairs in the layout of pix2pix: each file holds two pictures side by side, A left, B right.

    Args:
      root: Folder with train and, optionally, val and test.
      direction: `AtoB` takes the left picture as source, `BtoA` the right one.
    """

    def split(name: str) -> base.Split | None:
        folder = os.path.join(root, name)
        if name != "train" and not folders.resolve(folder).exists():
            return None
        both = folders.listing(folder, option="root")
        _warn_of_single_pictures(both, folder)
        # Decoded at full size: a reduced one could shift the border between the two.
        decode = functools.lru_cache(_REMEMBERED)(both.load)
        left, right = Half(both, decode, 0), Half(both, decode, 1)
        ordered = (left, right) if direction == "AtoB" else (right, left)
        return base.Split(*ordered, paired=True)

    train = split("train")
    assert train is not None
    return base.Dataset(train=train, validation=split("val"), test=split("test"))


def _warn_of_single_pictures(files: folders.Files, folder: str) -> None:
    """Names pictures that are not wider than high, as two pictures side by side are unless they are very narrow."""
    sizes = _sizes(files)
    single = [name for name, (width, height) in sizes.items() if width < _LEAST_RATIO * height]
    if single:
        width, height = sizes[single[0]]
        base.LOGGER.warning(
            f"{len(single)} of {len(sizes)} pictures in {folder} do not look like two side by side: {single[0]}, for "
            f"one, is {width}x{height}, and its halves are {width // 2}x{height}; data=matched takes two folders"
        )


def _warn_of_other_shapes(first: folders.Files, second: folders.Files) -> None:
    """Names pairs whose second picture would be squashed to the shape of the first."""
    shapes = _sizes(first), _sizes(second)
    different = [
        (a, b)
        for a, b in zip(*(sizes.items() for sizes in shapes), strict=False)
        if abs(a[1][0] * b[1][1] / (a[1][1] * b[1][0]) - 1) > _SAME_SHAPE
    ]
    if different:
        (a, (width, height)), (b, (other_width, other_height)) = different[0]
        base.LOGGER.warning(
            f"{len(different)} of {len(shapes[0])} pairs in {first.root} and {second.root} differ in shape, and the "
            f"second is stretched to the first: {a} is {width}x{height}, {b} {other_width}x{other_height}"
        )


def _sizes(files: folders.Files) -> dict[str, tuple[int, int]]:
    """Width and height of some pictures, evenly spaced, by name, from the heads of their files."""
    sizes = {}
    for index in base.evenly_spaced(len(files), _MOST_SIZES):
        try:
            sizes[files.name(index)] = decode.size(files.paths[index])
        except decode.UnreadableError:
            sizes[files.name(index)] = (2, 1)  # named when it is loaded
    return sizes


@dataclasses.dataclass(frozen=True)
class Half(base.Wrapped):
    """The left (0) or right (1) half of every picture."""

    pictures: folders.Files
    decode: Callable[[int], Image.Image]
    side: int

    def load(self, index: int, *, shorter: int | None = None) -> Image.Image:
        """See `Pictures.load`."""
        del shorter
        both = self.decode(index)
        half = both.width // 2
        if not half:
            path = str(self.pictures.paths[index])
            raise decode.UnreadableError(path, "it does not hold two pictures side by side")
        # If the width is odd, the middle column belongs to neither.
        left = self.side * (both.width - half)
        return both.crop((left, 0, left + half, both.height))


@base.SOURCES.register("matched", paired=True)
def matched(
    *,
    source: str,
    target: str,
    test_source: str | None = None,
    test_target: str | None = None,
) -> base.Dataset:
    """Pairs in two folders: files whose relative paths agree except for the suffix belong together.

    Args:
      source: Folder of source pictures.
      target: Folder of target pictures.
      test_source: Folder of source pictures for the test split.
      test_target: Folder of target pictures for the test split.
    """
    if (test_source is None) != (test_target is None):
        raise types.InputError("data source 'matched' takes test_source and test_target together")
    test = None
    if test_source is not None:
        test = _matched(test_source=test_source, test_target=test_target)
    return base.Dataset(train=_matched(source=source, target=target), test=test)


def _matched(**options: Any) -> base.Split:
    (first, source), (second, target) = (
        (path, _by_stem(folders.listing(path, option=option), path)) for option, path in options.items()
    )
    if source.keys() != target.keys():
        unmatched = [
            f"{_some(stems)} only in {path}"
            for stems, path in ((source.keys() - target.keys(), first), (target.keys() - source.keys(), second))
            if stems
        ]
        raise types.InputError(
            f"{first} has {len(source)} pictures and {second} has {len(target)}, "
            f"and their names do not match: {'; '.join(unmatched)}"
        )
    files = _ordered(first, source), _ordered(second, target)
    _warn_of_other_shapes(*files)
    return base.Split(*files, paired=True)


def _ordered(folder: str, by_stem: dict[str, pathlib.Path]) -> folders.Files:
    """Returns files in an order that does not depend on their suffixes."""
    return folders.Files(folders.resolve(folder), [by_stem[stem] for stem in sorted(by_stem)])


def _by_stem(files: folders.Files, folder: str) -> dict[str, pathlib.Path]:
    by_stem: dict[str, pathlib.Path] = {}
    for path in files.paths:
        stem = path.relative_to(files.root).with_suffix("").as_posix()
        if stem in by_stem:
            raise types.InputError(f"{folder} has two pictures called {stem}: {by_stem[stem].name} and {path.name}")
        by_stem[stem] = path
    return by_stem


def _some(stems: set[str]) -> str:
    shown = ", ".join(sorted(stems)[:_SHOWN])
    more = len(stems) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
