"""Brightness and colour of pictures."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness of a picture (ITU-R BT.601)."""


def luma(pictures: Float[Array, "b h w 3"]) -> Float[Array, "b h w 1"]:
    """The brightness of RGB pictures as ITU-R BT.601 weighs it, in [0, 1]."""
    weights = jnp.asarray(LUMA, jnp.float32)[None, None, None]
    return jnp.sum(pictures.astype(jnp.float32) * weights, axis=-1, keepdims=True)


def luma_of_arrays(pictures: Float[np.ndarray, "*s 3"]) -> Float[np.ndarray, "*s"]:
    """The same of NumPy arrays, without JAX."""
    return pictures @ np.asarray(LUMA, np.float32)


def grey(pictures: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """The luma of pictures in [0, 1] in all three channels."""
    return jnp.broadcast_to(luma(pictures), pictures.shape)


def recolor(styled: Float[Array, "b h w 3"], source: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """The luma of the styled pictures with the colour differences (Cb, Cr) of the source, in [0, 1].

    Gatys et al. 2017, section 5.3, luminance-only transfer.
    """
    return jnp.clip(source + luma(styled) - luma(source), 0.0, 1.0)
