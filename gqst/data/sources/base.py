"""The contract of a data source: pictures by index, two domains a split, up to three splits a dataset."""

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
"""Functions of keyword options that return a `Dataset`; those of paired pictures register with `paired=True`."""

LOGGER = logging.getLogger("gqst")


class Pictures(Protocol):
    """Pictures of one domain by index, always in the same order."""

    @property
    def origin(self) -> str:
        """Name of the domain in messages: its folder, or its dataset and split."""
        ...

    def __len__(self) -> int:
        """Number of pictures, readable or not."""
        ...

    def name(self, index: int) -> str:
        """Returns a name that is unique in the domain, as in `coast/stack.jpg`."""
        ...

    def load(self, index: int, *, shorter: int | None = None) -> Image.Image:
        """Returns the picture in RGB, upright, without alpha.

        Args:
          index: Index below the length.
          shorter: Size that the caller will shrink the shorter side to; see `decode.decode`.

        Raises:
          UnreadableError: The picture cannot be decoded.
        """
        ...


Degradation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Split:
    """Two domains; if `paired`, index i of one belongs to index i of the other.

    Attributes:
      source: Pictures to translate.
      target: Pictures of the style domain, or the truths.
      paired: Whether source and target belong together one to one.
      degrade: Random damage that turns the crop of a training example into its source; None leaves it.
    """

    source: Pictures
    target: Pictures
    paired: bool = False
    degrade: Degradation | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of source and target pictures."""
        return len(self.source), len(self.target)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The splits of a data source.

    Attributes:
      train: Pictures that training draws from.
      validation: Pictures held out of training for the rounds; None if the config asks for none.
      test: Pictures that are never trained on, tuned on or selected by; None if the source has none.
      unreadable: Pictures that turned out to be unreadable so far.
    """

    train: Split
    validation: Split | None = None
    test: Split | None = None
    unreadable: "Unreadable" = dataclasses.field(default_factory=lambda: Unreadable())

    @property
    def paired(self) -> bool:
        """True if source and target pictures belong together one to one."""
        return self.train.paired

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that exist, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


class Unreadable:
    """The pictures that could not be read, each logged once; threads may share it."""

    def __init__(self) -> None:
        """Starts empty."""
        self._reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._reasons)

    def add(self, error: decode.UnreadableError) -> None:
        """Records a picture and logs a line the first time."""
        with self._lock:
            seen = error.name in self._reasons
            self._reasons[error.name] = error.reason
        if not seen:
            LOGGER.warning("skipping a picture that cannot be read: %s", error)


@dataclasses.dataclass(frozen=True)
class Wrapped:
    """Pictures that pass on to others all but what a subclass overrides."""

    pictures: Pictures

    @property
    def origin(self) -> str:
        """See `Pictures.origin`."""
        return self.pictures.origin

    def __len__(self) -> int:
        """Number of pictures, readable or not."""
        return len(self.pictures)

    def name(self, index: int) -> str:
        """See `Pictures.name`."""
        return self.pictures.name(index)

    def load(self, index: int, *, shorter: int | None = None) -> Image.Image:
        """See `Pictures.load`."""
        return self.pictures.load(index, shorter=shorter)


@dataclasses.dataclass(frozen=True)
class Watched(Wrapped):
    """Pictures whose failures are recorded and not tried again."""

    unreadable: Unreadable
    _errors: dict[int, decode.UnreadableError] = dataclasses.field(default_factory=dict)

    def load(self, index: int, *, shorter: int | None = None) -> Image.Image:
        """See `Pictures.load`."""
        if earlier := self._errors.get(index):
            raise decode.UnreadableError(earlier.name, earlier.reason)
        try:
            return self.pictures.load(index, shorter=shorter)
        except decode.UnreadableError as error:
            self._errors[index] = error
            self.unreadable.add(error)
            raise


@dataclasses.dataclass(frozen=True)
class Subset(Wrapped):
    """Some of the pictures, in the order of `indices`."""

    indices: Sequence[int]

    def __len__(self) -> int:
        """Number of pictures, readable or not."""
        return len(self.indices)

    def name(self, index: int) -> str:
        """See `Pictures.name`."""
        return self.pictures.name(self.indices[index])

    def load(self, index: int, *, shorter: int | None = None) -> Image.Image:
        """See `Pictures.load`."""
        return self.pictures.load(self.indices[index], shorter=shorter)


def evenly_spaced(total: int, count: int) -> list[int]:
    """Returns `count` indices spread evenly over range(total), ascending; all of them if there are fewer."""
    count = min(count, total)
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def none_readable(*domains: Pictures) -> types.InputError:
    """Returns the error for a domain, or the two of paired data, without a readable picture."""
    origins = " with its counterpart in ".join(dict.fromkeys(domain.origin for domain in domains))
    return types.InputError(f"none of the {len(domains[0])} pictures in {origins} can be read")
