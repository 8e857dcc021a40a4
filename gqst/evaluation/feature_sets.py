"""The features of a set of pictures, in bounded memory, and as a file."""

import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from gqst import types
from gqst.metrics import sets
from gqst.pictures import files

SUFFIX = ".npz"
MOST_FEATURES = 5_000
"""Features of a set that are kept for the kernel distance, chosen at random where there are more."""


class Statistics:
    """The moments of a set's features, and a bounded random choice of its rows (Vitter 1985, algorithm R).

    Attributes:
      moments: of all rows.
    """

    def __init__(self) -> None:
        """Starts with no features."""
        self.moments = sets.Moments()
        self._kept: list[np.ndarray] = []
        self._draw = np.random.default_rng(0)

    @property
    def rows(self) -> Float[np.ndarray, "n d"]:
        """The chosen ones."""
        return np.stack(self._kept)

    def add(self, features: Float[np.ndarray, "n d"]) -> None:
        """Takes rows in."""
        for seen, row in enumerate(features, self.moments.count + 1):
            if len(self._kept) < MOST_FEATURES:
                self._kept.append(row)
            elif (place := int(self._draw.integers(seen))) < MOST_FEATURES:
                self._kept[place] = row
        self.moments.add(features)


def save(path: pathlib.Path, of: Statistics, about: Mapping[str, str]) -> None:
    """Writes statistics as .npz, whole or not at all.

    Args:
      path: of the file.
      of: to be written.
      about: what they hold for, such as the network and the size of the pictures.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"rows": of.rows, **of.moments.to_arrays(), **{key: np.asarray(value) for key, value in about.items()}}
    with files.atomic(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load(path: pathlib.Path, about: Mapping[str, str]) -> Statistics:
    """What `save` wrote.

    Args:
      path: of the file.
      about: what they have to hold for.

    Raises:
      InputError: there is no such file, it holds something else, or is about something else.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = dict(held)
        there = {key: str(arrays[key]) for key in about}
        made = Statistics()
        made._kept = list(arrays["rows"])
        made.moments = sets.Moments.from_arrays(arrays)
    except FileNotFoundError:
        raise types.InputError(f"there is no file {path}") from None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        raise types.InputError(f"{path} holds no statistics: write them with --save-statistics") from None
    for key, wanted in about.items():
        if there[key] != wanted:
            raise types.InputError(f"{path} holds statistics for {key} {there[key]}, not {wanted}")
    return made
