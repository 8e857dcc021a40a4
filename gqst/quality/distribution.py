"""Distances between sets of pictures."""

import math
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
