"""Features of a set of pictures, in bounded memory, and as a file."""

import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from gqst import types
from gqst.metrics import sets
from gqst.pictures import files

SUFFIX = ".npz"
MAX_ROWS = 5_000
"""Largest number of features of a set that are kept as rows; of more, a random choice."""


class FeatureSet:
    """Moments of all features of a set, and a bounded random choice of its rows (Vitter 1985, algorithm R).

    Attributes:
      moments: Moments of all rows.
    """

    def __init__(self) -> None:
        """Starts with no features."""
        self.moments = sets.Moments()
        self._rows: list[np.ndarray] = []
        self._random = np.random.default_rng(0)

    @property
    def rows(self) -> Float[np.ndarray, "n d"]:
        """Rows that are kept."""
        return np.stack(self._rows)

    def add(self, features: Float[np.ndarray, "n d"]) -> None:
        """Adds rows."""
        for count, row in enumerate(features, self.moments.count + 1):
            if len(self._rows) < MAX_ROWS:
                self._rows.append(row)
            elif (index := int(self._random.integers(count))) < MAX_ROWS:
                self._rows[index] = row
        self.moments.add(features)

    def save(self, path: pathlib.Path, about: Mapping[str, str]) -> None:
        """Writes the features as .npz, whole or not at all.

        Args:
          path: Path of the file.
          about: Conditions under which they were computed, such as the network and the size of the pictures.
        """
        files.make_folder(path)
        labels = {key: np.asarray(value) for key, value in about.items()}
        arrays = {"rows": self.rows, **self.moments.to_arrays(), **labels}
        with files.atomic(path) as part, part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: pathlib.Path, about: Mapping[str, str]) -> "FeatureSet":
        """Reads what `save` wrote.

        Args:
          path: Path of the file.
          about: Conditions under which the features must have been computed.

        Raises:
          InputError: The file does not exist, holds something else, or holds features under other conditions.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = dict(archive)
            stored = {key: str(arrays[key]) for key in about}
            features = cls()
            features._rows = list(arrays["rows"])
            features.moments = sets.Moments.from_arrays(arrays)
            if features.moments.count == len(features._rows) <= arrays["rows"].shape[1]:
                # Of so few rows, the rows themselves make a smaller factor.
                features.moments = sets.Moments.of(arrays["rows"])
        except FileNotFoundError:
            raise types.InputError(f"there is no file {path}") from None
        except (OSError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile):
            raise types.InputError(f"{path} holds no statistics: write them with --save-statistics") from None
        for key, value in about.items():
            if stored[key] != value:
                raise types.InputError(f"{path} holds statistics for {key} {stored[key]}, not {value}")
        return features
