"""Pixels of 8 or 16 bits, or floats, as the values in [0, 1] that networks take. Never imports JAX."""

from typing import Any

import numpy as np
from jaxtyping import Float


def to_unit(pixels: np.ndarray) -> Float[np.ndarray, "*s"]:
    """Returns pixels of 8 or 16 bits, or floats in [0, 1], as float32 in [0, 1]."""
    if pixels.dtype == np.float32:
        return pixels
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def from_unit(values: Float[np.ndarray, "*s"], kind: Any) -> np.ndarray:
    """Returns values in [0, 1] in the type of pixels given, rounded to the nearest.

    Raises:
      FloatingPointError: A value is not finite.
    """
    # A sum is finite only if all of its terms are, and takes no second array.
    if not np.isfinite(values.sum()):
        raise FloatingPointError("the generator's output is not finite")
    if kind == np.float32:
        return values
    white = np.iinfo(kind).max
    scaled = values * np.float32(white)
    np.rint(scaled, out=scaled)
    return np.clip(scaled, 0, white, out=scaled).astype(kind)
