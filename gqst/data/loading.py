"""Pictures by index, decoded and ready to be cropped, with a cache and substitutes for unreadable ones."""

import threading
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import UInt8

from gqst import config
from gqst.data import transforms
from gqst.data.sources import base
from gqst.pictures import decode

Prepared = tuple[UInt8[np.ndarray, "h w 3"], ...]
"""One picture, or the two of a pair at the same size, as returned by `transforms.prepare`."""


class Cache:
    """Prepared pictures by key, up to a budget of memory; threads may share it.

    It changes no result: pictures beyond the budget are prepared anew every time.
    """

    def __init__(self, budget: int):
        """Starts empty, with a budget in bytes of pixels."""
        self._left = budget
        self._entries: dict[Hashable, Prepared] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._entries)

    def get(self, key: Hashable, prepare: Callable[[], Prepared]) -> Prepared:
        """Returns the entry of a key, or what `prepare()` returns for it."""
        if (entry := self._entries.get(key)) is not None:
            return entry
        # Outside the lock: preparing a picture twice is better than letting threads wait for each other.
        entry = prepare()
        size = sum(pixels.nbytes for pixels in entry)
        with self._lock:
            if size <= self._left and key not in self._entries:
                self._left -= size
                self._entries[key] = entry
        return entry


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
        """Stores the domains and how to prepare their pictures.

        Args:
          domains: Domains of equal length, whose pictures belong together.
          preprocess: Resize mode and load size.
          image_size: Side of the crops in pixels.
          scale: Largest random scale that will be drawn.
          cache: Cache of prepared pictures; none by default.
        """
        self.domains = tuple(domains)
        self._preprocess = preprocess
        self._image_size = image_size
        self._scale = scale
        self._cache = Cache(0) if cache is None else cache

    def __len__(self) -> int:
        """Number of pictures or pairs, readable or not."""
        return len(self.domains[0])

    def load(self, index: int) -> Prepared:
        """Returns the picture or pair at `index`; UnreadableError if a picture cannot be read."""
        return self._cache.get((id(self), index), lambda: self._prepare(index))

    def nearest(self, index: int) -> Prepared:
        """Returns the first readable picture or pair from `index` on, cyclically; InputError if there is none."""
        for step in range(len(self)):
            try:
                return self.load((index + step) % len(self))
            except decode.UnreadableError:
                continue
        raise base.none_readable(*self.domains)

    def spread(self, count: int) -> dict[str, Prepared]:
        """Returns up to `count` pictures or pairs by name, evenly spaced; others replace unreadable ones.

        Raises:
          InputError: No picture can be read.
        """
        preferred = base.evenly_spaced(len(self), count)
        substitutes = [i for i in range(len(self)) if i not in set(preferred)]
        loaded: dict[int, Prepared] = {}
        for index in (*preferred, *substitutes):
            if len(loaded) == min(count, len(self)):
                break
            try:
                loaded[index] = self.load(index)
            except decode.UnreadableError:
                continue
        if not loaded:
            raise base.none_readable(*self.domains)
        return {self.domains[0].name(index): loaded[index] for index in sorted(loaded)}

    def _prepare(self, index: int) -> Prepared:
        shorter = transforms.shorter_side(self._preprocess, self._image_size, scale=self._scale)
        pictures = [domain.load(index, shorter=shorter) for domain in self.domains]
        return transforms.prepare(pictures, self._preprocess, self._image_size, scale=self._scale)
