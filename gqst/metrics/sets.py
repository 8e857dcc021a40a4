"""Distances between sets of pictures, or of their features."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from gqst.metrics import base

_DIRECTIONS = 32
_QUANTILES = 256


@base.register(
    name="palette_distance",
    better="lower",
    range=(0.0, math.sqrt(3.0) / 2.0),
    definition="sliced Wasserstein distance of the colours in RGB; 0 is the same palette",
    reference="style",
    always=True,
)
def palette_distance(output: Float[np.ndarray, "n h w 3"], reference: Float[np.ndarray, "m h2 w2 3"]) -> float:
    """Sliced Wasserstein-1 distance in RGB between the colours of two sets.

    The pixels of each set are one cloud of colours; their positions do not count. The distance is the mean over 32
    fixed directions, spread over the sphere, of the mean difference of 256 quantiles of the projections (Rabin et al.
    2011).

    Args:
      output: Pictures in [0, 1].
      reference: Pictures in [0, 1], of any size and number.

    Returns:
      A distance of at least 0: 0 for the same palette, 0.87 for black against white.
    """
    a, b = (_quantiles(pictures.reshape(-1, 3).astype(np.float32)) for pictures in (output, reference))
    return float(np.mean(np.abs(a - b)))


class Moments:
    """Mean and covariance of features, gathered piece by piece: a set of any size takes the same memory.

    Rows wait until there are more of them than dimensions, and are then joined by the update of Chan, Golub and
    LeVeque (1983), in float64.

    Attributes:
      count: Number of rows added so far.
    """

    def __init__(self) -> None:
        """Starts with no features."""
        self.count = 0
        self._waiting: list[np.ndarray] = []
        self._joined = 0
        self._mean: np.ndarray = np.zeros(())
        self._spread: np.ndarray = np.zeros(())

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"]) -> "Moments":
        """Returns the moments of these rows."""
        moments = cls()
        moments.add(features)
        return moments

    def add(self, features: Float[np.ndarray, "n d"]) -> None:
        """Adds rows."""
        if not len(features):
            return
        self._waiting.append(features.astype(np.float64))
        self.count += len(features)
        if self.count - self._joined > features.shape[1]:
            self._mean, self._spread = self.mean, self._total_spread()
            self._waiting, self._joined = [], self.count

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns everything that `from_arrays` needs."""
        return {"count": np.asarray(self.count), "mean": self.mean, "spread": self._total_spread()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Moments":
        """Returns the moments that `to_arrays` wrote; KeyError if a part is missing."""
        moments = cls()
        moments.count, moments._mean, moments._spread = int(arrays["count"]), arrays["mean"], arrays["spread"]
        moments._joined = moments.count
        return moments

    @property
    def mean(self) -> Float[np.ndarray, "d"]:
        """Mean of the rows."""
        if not self._waiting:
            return self._mean
        x = np.concatenate(self._waiting)
        return self._mean + (x.mean(0) - self._mean) * (len(x) / self.count)

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Unbiased covariance of the rows; ValueError for fewer than 2."""
        self._check()
        return self._total_spread() / (self.count - 1)

    @property
    def factor(self) -> Float[np.ndarray, "r d"]:
        """A matrix F with F.T @ F = covariance, of few rows if there are few features; ValueError for fewer than 2."""
        self._check()
        if not self._joined:
            rows = np.concatenate(self._waiting)
            return (rows - rows.mean(0)) / math.sqrt(self.count - 1)
        # Eigenvalues that are negative by rounding count as 0.
        values, vectors = np.linalg.eigh(self.covariance)
        return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T

    def _total_spread(self) -> np.ndarray:
        """Sum of the outer products of the distances of all rows from their mean."""
        if not self._waiting:
            return self._spread
        x = np.concatenate(self._waiting)
        mean = x.mean(0)
        gap, centred = mean - self._mean, x - mean
        return self._spread + centred.T @ centred + np.outer(gap, gap) * (self._joined * len(x) / self.count)

    def _check(self) -> None:
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 rows, got {self.count}")


@base.register(
    name="kid",
    better="lower",
    unit="x1000",
    definition="kernel distance, unbiased, x1000, features of {network}, cubic kernel",
    reference="style",
    network="efficientnet_lite0",
)
def kid(
    output: Float[np.ndarray, "n d"],
    reference: Float[np.ndarray, "m d"],
    *,
    size: int = 50,
    subsets: int = 100,
    seed: int = 0,
) -> base.Estimate:
    """Kernel distance between two sets of features (Binkowski et al. 2018, section 4), with a cubic kernel.

    Always name the feature network beside it: distances on two networks cannot be compared.

    Args:
      output: Features, one row a picture.
      reference: Features of the other set.
      size: Number of rows drawn for a subset; sets with no more are taken whole, once.
      subsets: Number of subsets that are averaged.
      seed: Seed of the draws.

    Returns:
      The squared maximum mean discrepancy times 1000, with its standard error over the subsets. It is unbiased, so it
      may fall below 0 by chance.

    Raises:
      ValueError: A set has fewer than 2 rows.
    """
    if min(len(output), len(reference)) < 2:
        raise ValueError(f"a kernel distance needs at least 2 rows a set, got {len(output)} and {len(reference)}")
    if min(len(output), len(reference)) <= size:
        whole = 1000.0 * _squared_mmd(output.astype(np.float64), reference.astype(np.float64))
        return base.Estimate(whole, math.nan, 1, min(len(output), len(reference)))
    draw = np.random.default_rng(seed)
    values = [
        _squared_mmd(*(x[draw.choice(len(x), size, replace=False)].astype(np.float64) for x in (output, reference)))
        for _ in range(subsets)
    ]
    error = 1000.0 * float(np.std(values) / math.sqrt(subsets))
    return base.Estimate(1000.0 * float(np.mean(values)), error, subsets, size)


@base.register(
    name="frechet",
    better="lower",
    range=(0.0, math.inf),
    definition="Frechet distance of features of {network}",
    reference="style",
    network="efficientnet_lite0",
    moments=True,
)
def frechet(output: Moments, reference: Moments) -> float:
    """Fréchet distance between two Gaussians with these moments (Heusel et al. 2017, equation 6).

    The trace of the root of the product of two covariances is the sum of the singular values of the product of their
    factors, which needs no root of an unsymmetric matrix, and of few rows only a small matrix. The distance is biased
    upwards if there are fewer rows than dimensions; KID is not.

    Args:
      output: Moments of a set of features.
      reference: Moments of the other set.

    Returns:
      A distance of at least 0.

    Raises:
      ValueError: A set has fewer than 2 rows.
    """
    gap = output.mean - reference.mean
    one, other = output.factor, reference.factor
    shared = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    distance = gap @ gap + np.square(one).sum() + np.square(other).sum() - 2.0 * shared
    return max(float(distance), 0.0)


@base.register(
    name="art_fid",
    better="lower",
    range=(1.0, math.inf),
    definition="(1 + lpips to the sources)(1 + frechet)",
    reference="style",
    combines=("lpips", "frechet"),
)
def art_fid(lpips: float, frechet: float) -> float:
    """ArtFID: (1 + LPIPS to the sources)(1 + Fréchet distance to the style) (Wright and Ommer 2022).

    Args:
      lpips: Mean LPIPS between fakes and their sources.
      frechet: Fréchet distance between fakes and style pictures.

    Returns:
      A value of at least 1.
    """
    return (1.0 + lpips) * (1.0 + frechet)


def _squared_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased estimate (Gretton et al. 2012, lemma 6) with the kernel (x.y / d + 1)^3."""

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1.0) ** 3

    def within(x: np.ndarray) -> float:
        k = kernel(x, x)
        return (k.sum() - np.trace(k)) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2.0 * kernel(a, b).mean())


def _quantiles(colors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "d q"]:
    """Quantiles of the projections of colours on each direction, between the two nearest values.

    One row of float32 is sorted at a time: a tenth of the time of `np.quantile`, and little memory.
    """
    places = (np.arange(_QUANTILES) + 0.5) / _QUANTILES * (len(colors) - 1)
    below = places.astype(np.int64)
    above = np.minimum(below + 1, len(colors) - 1)
    rows = (np.sort(colors @ direction) for direction in _sphere(_DIRECTIONS).astype(np.float32))
    return np.stack([row[below] + (row[above] - row[below]) * (places - below) for row in rows])


def _sphere(count: int) -> np.ndarray:
    """Directions of a Fibonacci lattice on the half sphere, f64[count, 3]."""
    index = np.arange(count) + 0.5
    height = index / count
    turn = math.pi * (1.0 + math.sqrt(5.0)) * index
    ring = np.sqrt(1.0 - height**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1)
