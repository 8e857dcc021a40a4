"""Distances between sets of pictures."""

import math

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
