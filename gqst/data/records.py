"""Packed pictures: shards of ArrayRecord files with an index, which open at once whatever their number."""

import dataclasses
import io
import json
import pathlib
from typing import Any

import numpy as np
from array_record.python import array_record_data_source
from PIL import Image

from gqst import storage, types
from gqst.pictures import decode, folders
from gqst.runtime import caches

INDEX = "index.json"
"""File that says what a folder of packed pictures holds; it is written last."""

FORMAT = 1
NAMES, ENDS = "names.npy", "ends.npy"
SIZES, HASHES = "sizes.npy", "hashes.npy"
"""Arrays by picture: UTF-8 of all names, the end of each in it, width and height, SHA-256 of the encoded bytes."""


class Records:
    """Packed pictures, read at random; threads may share it. See `data.sources.base.Pictures`.

    Names alone are kept in memory, some 30 MB for a million pictures, which open in the time of a few.
    """

    def __init__(self, root: str | pathlib.Path, *, option: str):
        """Opens the index; shards are opened when they are first read, and copied from a bucket then.

        Args:
          root: Folder that `python -m gqst.pack` wrote, on disk or in a bucket.
          option: Name of the data option that it comes from, for messages.

        Raises:
          InputError: It holds no packed pictures, or packing has not ended.
        """
        self._root = folders.resolve(root)
        self._copy: storage.Cached | None = None
        if storage.is_remote(self._root):
            # Shards are read at random, which array_record does on disk alone.
            self._copy = storage.Cached(self._root, caches.folder("records"))
            self._copy.fetch((INDEX, NAMES, ENDS))
            self._root = self._copy.local
        try:
            index: Any = json.loads((self._root / INDEX).read_text(encoding="utf-8"))
            version, counts = index["format"], [int(count) for count in index["shards"]]
            self._names = np.load(self._root / NAMES, allow_pickle=False).tobytes()
            self._ends = np.load(self._root / ENDS, allow_pickle=False)
        except FileNotFoundError:
            raise types.InputError(
                f"{root} holds no packed pictures, or packing has not ended (data option {option!r}): "
                f"run python -m gqst.pack FOLDER {root}"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise types.InputError(f"the index of {root} is damaged (data option {option!r}): pack it anew") from error
        if version != FORMAT:
            raise types.InputError(f"{root} was packed by a newer gqst (data option {option!r})")
        if not counts or len(self._ends) != sum(counts):
            raise types.InputError(f"the index of {root} is damaged (data option {option!r}): pack it anew")
        shards = [
            _Shard(str(self._root / shard_name(number)), 0, count, count)
            for number, count in enumerate(counts)
            if count
        ]
        self._records = array_record_data_source.ArrayRecordDataSource(shards)
        self._shard_ends = np.cumsum(counts)

    @property
    def origin(self) -> str:
        """See `Pictures.origin`: the folder."""
        return str(self._root)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._ends)

    def name(self, index: int) -> str:
        """See `Pictures.name`: that of the file that was packed."""
        first = int(self._ends[index - 1]) if index else 0
        return self._names[first : int(self._ends[index])].decode("utf-8", "surrogateescape")

    def load(self, index: int, *, shorter: int | None = None) -> Image.Image:
        """See `Pictures.load`."""
        name = f"{self._root}/{self.name(index)}"
        if self._copy is not None:
            # A bucket that does not answer ends a run, which then resumes: its pictures are not damaged.
            self._copy.fetch([shard_name(int(np.searchsorted(self._shard_ends, index, side="right")))])
        # The shard is missing, cut off or damaged.
        with decode.explained(name):
            content = self._records[index]
        return decode.decode(io.BytesIO(content), shorter=shorter, name=name)


@dataclasses.dataclass(frozen=True)
class _Shard:
    """A shard as ArrayRecordDataSource takes it: with its number of records, it need not be opened to be counted."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


def shard_name(number: int) -> str:
    """Returns the file name of a shard."""
    return f"pictures-{number:05d}.array_record"
