"""Style on brightness alone: the colours stay those of the source."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gqst.quality import metrics


def grey(pictures: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """The luma of pictures in [0, 1] in all three channels."""
    return jnp.broadcast_to(metrics.luma(pictures), pictures.shape)


def recolor(styled: Float[Array, "b h w 3"], source: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """The luma of the styled pictures with the colour differences (Cb, Cr) of the source, in [0, 1].

    Gatys et al. 2017, section 5.3, luminance-only transfer.
    """
    return jnp.clip(source + metrics.luma(styled) - metrics.luma(source), 0.0, 1.0)


def translate(generator: Any, variables: Any, pictures: jax.Array, *, keep_colors: bool) -> jax.Array:
    """What a trained generator makes of pictures in [0, 1].

    Args:
      generator: linen module.
      variables: of it.
      pictures: f32[b h w 3].
      keep_colors: whether it was trained on brightness alone; the colours are then those of `pictures`.
    """
    if not keep_colors:
        return generator.apply(variables, pictures)
    return recolor(generator.apply(variables, grey(pictures)), pictures)
