"""Application of a trained generator to pictures, with the colour handling that its config asks for."""

from typing import Any

import jax

from gqst.ops import color


def translate(generator: Any, variables: Any, pictures: jax.Array, *, keep_colors: bool = False) -> jax.Array:
    """Returns pictures as a trained generator translates them, f32[b h w 3] in [0, 1].

    Args:
      generator: Generator, a linen module.
      variables: Its trained variables.
      pictures: Pictures to translate, f32[b h w 3] in [0, 1].
      keep_colors: Whether the generator was trained on luma alone; the result then has the colours of `pictures`.
    """
    if not keep_colors:
        return generator.apply(variables, pictures)
    return color.recolor(generator.apply(variables, color.grey(pictures)), pictures)
