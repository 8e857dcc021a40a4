"""Luma and colour of pictures."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luma (ITU-R BT.601)."""

# The logits of black and white are infinite; this is a quarter of a step of 8 bits.
_BLACK = 1 / 1024


def luma(pictures: Float[Array, "b h w 3"]) -> Float[Array, "b h w 1"]:
    """Returns the luma (ITU-R BT.601) of RGB pictures in [0, 1], also in [0, 1], as float32."""
    weights = jnp.asarray(LUMA, jnp.float32)[None, None, None]
    return jnp.sum(pictures.astype(jnp.float32) * weights, axis=-1, keepdims=True)


def luma_of_arrays(pictures: Float[np.ndarray, "*s 3"]) -> Float[np.ndarray, "*s"]:
    """Returns the luma of NumPy pictures, computed on the host and without a channel axis.

    Equal to `luma` up to rounding.
    """
    return pictures @ np.asarray(LUMA, np.float32)


def grey(pictures: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Returns grey RGB pictures: the luma of pictures in [0, 1], in all three channels."""
    return jnp.broadcast_to(luma(pictures), pictures.shape)


def recolor(styled: Float[Array, "b h w 3"], source: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Returns pictures in [0, 1] with the luma of `styled` and the colour differences (Cb, Cr) of `source`.

    Luminance-only transfer of Gatys et al. 2017, section 5.3.
    """
    return jnp.clip(source + luma(styled) - luma(source), 0.0, 1.0)


def blend(source: Any, styled: Any, strength: Any, *, xp: Any = jnp) -> Any:
    """Returns pictures in [0, 1] between `source` (strength 0) and `styled` (strength 1), blended in logits.

    Values that both agree on stay as they are, and black and white give way as readily as grey does.

    Args:
      source: Pictures in [0, 1], float32.
      styled: Pictures of the same shape.
      strength: Strength in [0, 1], one for all or of a shape that broadcasts.
      xp: Module of the arrays, jax.numpy or numpy.
    """
    logits = []
    for pictures in (source, styled):
        inside = xp.clip(pictures, _BLACK, 1 - _BLACK)
        logits.append(xp.log(inside) - xp.log1p(-inside))
    blended = 1 / (1 + xp.exp(-(logits[0] + strength * (logits[1] - logits[0]))))
    return xp.where(strength >= 1, styled, xp.where(strength <= 0, source, blended))
