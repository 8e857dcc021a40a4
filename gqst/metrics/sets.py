"""Distances between sets of pictures."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_DIRECTIONS = 32
_QUANTILES = 256


def palette_distance(one: Float[np.ndarray, "n h w 3"], other: Float[np.ndarray, "m h2 w2 3"]) -> float:
    """How far the colours of two sets lie apart: sliced Wasserstein-1 distance in RGB, at least 0.

    The pixels of each set are one cloud of colours; their positions do not count. The distance is the mean,
    over 32 fixed directions spread over the sphere, of the mean difference of 256 quantiles of the
    projections (Rabin et al. 2011). 0 is the same palette; black against white is 0.87.

    Args:
      one: pictures in [0, 1].
      other: pictures in [0, 1], of any size and number.
    """
    directions = _sphere(_DIRECTIONS)
    first, second = (_quantiles(pictures.reshape(-1, 3) @ directions.T) for pictures in (one, other))
    return float(np.mean(np.abs(first - second)))


class Moments:
    """Mean and covariance of features, gathered piece by piece: a set of any size takes the same memory.

    Pieces are joined by the update of Chan, Golub and LeVeque (1983), in float64.
    """

    def __init__(self) -> None:
        """Starts with no features."""
        self.count = 0
        self._mean: np.ndarray = np.zeros(())
        self._spread: np.ndarray = np.zeros(())

    def add(self, features: Float[np.ndarray, "n d"]) -> None:
        """Takes rows in."""
        x = features.astype(np.float64)
        if not len(x):
            return
        mean = x.mean(0)
        centred = x - mean
        gap = mean - self._mean
        total = self.count + len(x)
        self._spread = self._spread + centred.T @ centred + np.outer(gap, gap) * (self.count * len(x) / total)
        self._mean = self._mean + gap * (len(x) / total)
        self.count = total

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All that there is to it, for a file."""
        return {"count": np.asarray(self.count), "mean": self._mean, "spread": self._spread}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Moments":
        """What `to_arrays` gave; KeyError if a part is missing."""
        made = cls()
        made.count, made._mean, made._spread = int(arrays["count"]), arrays["mean"], arrays["spread"]
        return made

    @property
    def mean(self) -> Float[np.ndarray, "d"]:
        """Of the rows taken in."""
        return self._mean

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Unbiased; ValueError for fewer than 2 rows."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 rows, got {self.count}")
        return self._spread / (self.count - 1)


def frechet(one: Moments, other: Moments) -> float:
    """The Fréchet distance of two Gaussians with these moments, at least 0 (Heusel et al. 2017, equation 6).

    The trace of the root of the product of covariances is the sum of the singular values of the product of
    their roots, which needs no root of an unsymmetric matrix. With fewer rows than dimensions the figure is biased
    upwards; KID is not.

    Raises:
      ValueError: a set has fewer than 2 rows.
    """
    gap = one.mean - other.mean
    roots = [_root(m.covariance) for m in (one, other)]
    shared = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    distance = gap @ gap + np.trace(one.covariance) + np.trace(other.covariance) - 2.0 * shared
    return max(float(distance), 0.0)


def art_fid(lpips: float, distance: float) -> float:
    """(1 + LPIPS to the sources)(1 + Fréchet distance to the style), at least 1 (Wright and Ommer 2022).

    Args:
      lpips: mean LPIPS of fakes and their sources.
      distance: `frechet` of fakes and style pictures.
    """
    return (1.0 + lpips) * (1.0 + distance)


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric root of a covariance; what rounding has made negative counts as 0."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


class Kid(NamedTuple):
    """A kernel distance.

    Attributes:
      value: the squared maximum mean discrepancy, times 1000; unbiased, so it may be below 0 by chance.
      error: its standard error over the subsets, times 1000; NaN for a single one.
      subsets: how many were averaged.
      size: features in each.
    """

    value: float
    error: float
    subsets: int
    size: int


def kid(
    one: Float[np.ndarray, "n d"],
    other: Float[np.ndarray, "m d"],
    *,
    size: int = 50,
    subsets: int = 100,
    seed: int = 0,
) -> Kid:
    """Kernel distance of two sets of features (Binkowski et al. 2018, section 4), with a cubic kernel.

    The name of the feature network belongs beside every figure: figures of two networks do not compare.

    Args:
      one: features, a row each.
      other: features of the other set.
      size: rows drawn for a subset; where a set has no more, the whole sets are taken once.
      subsets: how many are averaged.
      seed: of the drawing.

    Raises:
      ValueError: a set has fewer than 2 rows.
    """
    if min(len(one), len(other)) < 2:
        raise ValueError(f"a kernel distance needs at least 2 rows a set, got {len(one)} and {len(other)}")
    if min(len(one), len(other)) <= size:
        whole = 1000.0 * _squared_mmd(one.astype(np.float64), other.astype(np.float64))
        return Kid(whole, math.nan, 1, min(len(one), len(other)))
    draw = np.random.default_rng(seed)
    values = [
        _squared_mmd(*(rows[draw.choice(len(rows), size, replace=False)].astype(np.float64) for rows in (one, other)))
        for _ in range(subsets)
    ]
    return Kid(1000.0 * float(np.mean(values)), 1000.0 * float(np.std(values) / math.sqrt(subsets)), subsets, size)


def _squared_mmd(one: np.ndarray, other: np.ndarray) -> float:
    """The unbiased estimate (Gretton et al. 2012, lemma 6) with the kernel (x.y / d + 1)^3."""

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1.0) ** 3

    def within(x: np.ndarray) -> float:
        k = kernel(x, x)
        return (k.sum() - np.trace(k)) / (len(x) * (len(x) - 1))

    return float(within(one) + within(other) - 2.0 * kernel(one, other).mean())


def _quantiles(projections: np.ndarray) -> np.ndarray:
    shares = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    return np.quantile(projections, shares, axis=0)


def _sphere(count: int) -> np.ndarray:
    """Directions of a Fibonacci lattice on the half sphere: f64[count, 3]."""
    index = np.arange(count) + 0.5
    height = index / count
    turn = math.pi * (1.0 + math.sqrt(5.0)) * index
    ring = np.sqrt(1.0 - height**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1)
