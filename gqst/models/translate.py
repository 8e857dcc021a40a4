"""The one place that applies a trained generator."""

from typing import Any

import jax

from gqst.ops import color


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
    return color.recolor(generator.apply(variables, color.grey(pictures)), pictures)
