"""The strength at which a picture keeps its structure: a floor that holds for every picture."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gqst.inference import pixels
from gqst.metrics import pictures as metrics
from gqst.ops import color
from gqst.runtime import devices

STEPS = 256
"""Strengths are multiples of 1 / STEPS below the one asked for."""

# Windows a side that are measured at once, and tiles a call.
_SIDE = 128
_TILES = {"cpu": 8}
_MOST_TILES = 64
_OVERLAP = metrics.WINDOW - 1


class Floor:
    """Measures contrast_structure between a picture and its blends, tile by tile, on one device."""

    def __init__(self, device: jax.Device):
        """Compiles nothing yet."""
        self._device = device
        self._count = _TILES.get(device.platform, _MOST_TILES)

    def structure(self, source: np.ndarray, styled: np.ndarray, strength: float) -> float:
        """Returns contrast_structure of a blend to its source, as if both were measured whole.

        Args:
          source: Picture [h w 3] of 8 or 16 bits, or floats in [0, 1].
          styled: Its translation at full strength, of the same type.
          strength: Strength of the blend in [0, 1]; the blend is rounded to the type's values.

        Raises:
          ValueError: A side is shorter than the window of 11 px.
        """
        rows, columns = (n - _OVERLAP for n in source.shape[:2])
        if min(rows, columns) < 1:
            raise ValueError(
                f"structure needs pictures of at least {metrics.WINDOW} px a side, "
                f"got {source.shape[0]}x{source.shape[1]}"
            )
        places = [(top, left) for top in range(0, rows, _SIDE) for left in range(0, columns, _SIDE)]
        white = 0 if source.dtype == np.float32 else np.iinfo(source.dtype).max
        total = 0.0
        for first in range(0, len(places), self._count):
            pair = np.zeros((2, self._count, _SIDE + _OVERLAP, _SIDE + _OVERLAP, 3), np.float32)
            counts = np.zeros((self._count, 2), np.int32)
            for index, (top, left) in enumerate(places[first : first + self._count]):
                for array, picture in zip(pair, (source, styled), strict=True):
                    part = picture[top : top + _SIDE + _OVERLAP, left : left + _SIDE + _OVERLAP]
                    array[index, : part.shape[0], : part.shape[1]] = pixels.to_unit(part)
                counts[index] = min(_SIDE, rows - top), min(_SIDE, columns - left)
            total += float(self._measure(pair, counts, np.float32(strength), np.float32(white)))
        return total / (rows * columns)

    def strongest(
        self, source: np.ndarray, styled: np.ndarray, floor: float, *, most: float = 1.0
    ) -> tuple[np.ndarray, float, float]:
        """Returns the blend of the highest strength whose structure holds a floor, that strength and its structure.

        Bisects between strengths that are multiples of 1/256, on the assumption that structure falls as strength
        rises; the result holds the floor whether or not it does. Strength 0 is the source itself, of structure 1.

        Args:
          source: Picture [h w 3] of 8 or 16 bits, or floats in [0, 1].
          styled: Its translation at full strength, of the same type.
          floor: Least contrast_structure to the source.
          most: Highest strength.

        Raises:
          ValueError: A side is shorter than the window of 11 px.
        """
        structure = self.structure(source, styled, most)
        if structure >= floor:
            return blend(source, styled, most), most, structure
        low, high = 0, int(np.ceil(most * STEPS))
        held = 1.0
        while high - low > 1:
            middle = (low + high) // 2
            structure = self.structure(source, styled, middle / STEPS)
            if structure >= floor:
                low, held = middle, structure
            else:
                high = middle
        return blend(source, styled, low / STEPS), low / STEPS, held

    @functools.cached_property
    def _measure(self) -> Any:
        sharding = jax.sharding.SingleDeviceSharding(self._device)

        def measure(pair: jax.Array, counts: jax.Array, strength: jax.Array, white: jax.Array) -> jax.Array:
            source, styled = pair
            blended = color.blend(source, styled, strength)
            rounded = jnp.round(jnp.clip(blended, 0, 1) * white) / jnp.maximum(white, 1)
            windows = metrics.contrast_structure_map(jnp.where(white > 0, rounded, blended), source)
            rows, columns = (jnp.arange(_SIDE)[None] < counts[:, axis, None] for axis in (0, 1))
            return jnp.sum(jnp.where(rows[:, :, None] & columns[:, None, :], windows, 0))

        return jax.jit(
            measure,
            in_shardings=sharding,
            out_shardings=sharding,
            compiler_options=devices.compile_options(1, [self._device]),
        )


# Rows that are blended at once, so that floats of a large picture never lie in memory whole.
_BAND = 256


def blend(source: np.ndarray, styled: np.ndarray, strength: float) -> np.ndarray:
    """Returns a picture between two, in their type; see `color.blend`."""
    if strength >= 1:
        return styled
    result = np.empty_like(source)
    for top in range(0, len(source), _BAND):
        band = slice(top, top + _BAND)
        mixed = color.blend(pixels.to_unit(source[band]), pixels.to_unit(styled[band]), np.float32(strength), xp=np)
        result[band] = pixels.from_unit(mixed, source.dtype)
    return result
