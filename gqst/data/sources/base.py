"""What a data source is: pictures by index, two domains a split, up to three splits a dataset."""

import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from gqst import registry, types
from gqst.pictures import decode

SOURCES = registry.Registry("data source")
"""Members take options by keyword and return a `Dataset`; `sources.build` does the rest."""

LOGGER = logging.getLogger("gqst")


class Pictures(Protocol):
    """Pictures of one domain by index, always in the same order."""

    @property
    def origin(self) -> str:
        """What messages call the domain: its folder, or its dataset and split."""
        ...

    def __len__(self) -> int:
        """How many there are, readable or not."""
        ...

    def name(self, index: int) -> str:
        """A name that is unique in the domain, as in `coast/stack.jpg`."""
        ...

    def load(self, index: int, *, shorter: int | None = None) -> Image.Image:
        """The picture in RGB, upright, without alpha.

        Args:
          index: from 0 up to the length.
          shorter: a size that the caller will shrink the shorter side to; see `decode.decode`.

        Raises:
          UnreadableError: it cannot be decoded.
        """
        ...


Degradation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Split:
    """Two domains; where `paired`, index i of one belongs to index i of the other.

    Attributes:
      source: the pictures to translate.
      target: the pictures of the style domain, or the truths.
      paired: whether they belong together one to one.
      degrade: what makes the source of a training example from its crop, with random values; None leaves it.
    """

    source: Pictures
    target: Pictures
    paired: bool = False
    degrade: Degradation | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """How many source and how many target pictures there are."""
        return len(self.source), len(self.target)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The splits of a data source.

    Attributes:
      train: what training draws from.
      validation: held off training for the rounds; None if the config asks for none.
      test: never trained on, tuned on or selected by; None if the source has none.
      unreadable: the pictures met so far that cannot be read.
    """

    train: Split
    validation: Split | None = None
    test: Split | None = None
    unreadable: "Unreadable" = dataclasses.field(default_factory=lambda: Unreadable())

    @property
    def paired(self) -> bool:
        """Whether source and target pictures belong together one to one."""
        return self.train.paired

    @property
    def skipped(self) -> int:
        """How many pictures were met so far that cannot be read."""
        return len(self.unreadable)

    @property
    def splits(self) -> dict[str, Split]:
        """The splits there are, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


class Unreadable:
    """The pictures that could not be read, each logged once; threads may share it."""

    def __init__(self) -> None:
        """Starts with none."""
        self._reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._reasons)

    def add(self, error: decode.UnreadableError) -> None:
        """Notes a picture; logs one line the first time."""
        with self._lock:
            known = error.name in self._reasons
            self._reasons[error.name] = error.reason
        if not known:
            LOGGER.warning("skipping a picture that cannot be read: %s", error)


@dataclasses.dataclass(frozen=True)
class Watched:
    """Pictures whose failures are noted and not tried again."""

    pictures: Pictures
    unreadable: Unreadable
    _errors: dict[int, decode.UnreadableError] = dataclasses.field(default_factory=dict)

    @property
    def origin(self) -> str:
        """As `Pictures.origin`."""
        return self.pictures.origin

    def __len__(self) -> int:
        """As in `Pictures`."""
        return len(self.pictures)

    def name(self, index: int) -> str:
        """As `Pictures.name`."""
        return self.pictures.name(index)

    def load(self, index: int, *, shorter: int | None = None) -> Image.Image:
        """As `Pictures.load`."""
        if known := self._errors.get(index):
            raise decode.UnreadableError(known.name, known.reason)
        try:
            return self.pictures.load(index, shorter=shorter)
        except decode.UnreadableError as error:
            self._errors[index] = error
            self.unreadable.add(error)
            raise


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some of the pictures, in the order of `indices`."""

    pictures: Pictures
    indices: Sequence[int]

    @property
    def origin(self) -> str:
        """As `Pictures.origin`."""
        return self.pictures.origin

    def __len__(self) -> int:
        """As in `Pictures`."""
        return len(self.indices)

    def name(self, index: int) -> str:
        """As `Pictures.name`."""
        return self.pictures.name(self.indices[index])

    def load(self, index: int, *, shorter: int | None = None) -> Image.Image:
        """As `Pictures.load`."""
        return self.pictures.load(self.indices[index], shorter=shorter)


def evenly_spaced(total: int, count: int) -> list[int]:
    """`count` indices spread evenly over range(total), ascending; all where there are fewer."""
    count = min(count, total)
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def none_left(*domains: Pictures) -> types.InputError:
    """The error for a domain (or the two of paired data) of which no picture can be read."""
    where = " with its counterpart in ".join(dict.fromkeys(domain.origin for domain in domains))
    return types.InputError(f"none of the {len(domains[0])} pictures in {where} can be read")
