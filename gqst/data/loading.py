"""Decoded pictures by index, ready to be cropped: a cache, and substitutes for unreadable ones."""

import threading
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import UInt8

from gqst import config
from gqst.data import transforms
from gqst.data.sources import base
from gqst.pictures import decode

Prepared = tuple[UInt8[np.ndarray, "h w 3"], ...]
"""One picture, or the two of a pair at the same size, as `transforms.prepare` makes them."""


class Cache:
    """Prepared pictures by key, kept until a budget is used up; threads may share it.

    It changes no result: what does not fit is made anew every time.
    """

    def __init__(self, budget: int):
        """Starts empty; `budget` is in bytes of pixels."""
        self._left = budget
        self._kept: dict[Hashable, Prepared] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many entries it holds."""
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], Prepared]) -> Prepared:
        """What `make()` returned for the key, from memory where it is there."""
        if (kept := self._kept.get(key)) is not None:
            return kept
        # Made outside the lock: two threads may make the same, they do not wait for each other.
        made = make()
        size = sum(pixels.nbytes for pixels in made)
        with self._lock:
            if size <= self._left and key not in self._kept:
                self._left -= size
                self._kept[key] = made
        return made


class Loader:
    """Prepared pictures of one domain, or of the two of paired data, by index."""

    def __init__(
        self,
        domains: Sequence[base.Pictures],
        preprocess: config.Preprocess,
        image_size: int,
        *,
        scale: float = 1.0,
        cache: Cache | None = None,
    ):
        """Keeps what it loads from and how.

        Args:
          domains: domains of one length, whose pictures belong together.
          preprocess: the resize mode and load size.
          image_size: side of the crops that will be cut, in pixels.
          scale: the largest random scale that will be drawn.
          cache: where prepared pictures are kept; nowhere by default.
        """
        self.domains = tuple(domains)
        self._preprocess = preprocess
        self._image_size = image_size
        self._scale = scale
        self._cache = Cache(0) if cache is None else cache

    def __len__(self) -> int:
        """How many pictures or pairs there are, readable or not."""
        return len(self.domains[0])

    def load(self, index: int) -> Prepared:
        """The picture or pair at `index`; UnreadableError if it, or one of two, cannot be read."""
        return self._cache.get((id(self), index), lambda: self._make(index))

    def nearest(self, index: int) -> Prepared:
        """The first that can be read from `index` on, round the end; InputError if none can."""
        for step in range(len(self)):
            try:
                return self.load((index + step) % len(self))
            except decode.UnreadableError:
                continue
        raise base.none_left(*self.domains)

    def spread(self, count: int) -> dict[str, Prepared]:
        """Up to `count` pictures by name, evenly spaced; others in place of unreadable ones.

        Raises:
          InputError: none can be read.
        """
        first = base.evenly_spaced(len(self), count)
        others = [i for i in range(len(self)) if i not in set(first)]
        found: dict[int, Prepared] = {}
        for index in (*first, *others):
            if len(found) == min(count, len(self)):
                break
            try:
                found[index] = self.load(index)
            except decode.UnreadableError:
                continue
        if not found:
            raise base.none_left(*self.domains)
        return {self.domains[0].name(index): found[index] for index in sorted(found)}

    def _make(self, index: int) -> Prepared:
        shorter = transforms.shorter_side(self._preprocess, self._image_size, scale=self._scale)
        pictures = [domain.load(index, shorter=shorter) for domain in self.domains]
        return transforms.prepare(pictures, self._preprocess, self._image_size, scale=self._scale)
