"""Luma and colour of pictures."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luma (ITU-R BT.601)."""


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
