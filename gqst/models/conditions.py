"""What a generator is asked for besides a picture: a style, as statistics of its own activations, and a structure.

Such a generator has a property `structures`, the lowest and highest contrast_structure that it can be asked for, a
method `style_of(pictures) -> f32[b n]`, and takes its conditions among its variables (`conditioned`).
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

COLLECTION = "conditions"


class Conditions(struct.PyTreeNode):
    """What is asked for each picture of a batch.

    Attributes:
      style: Style to paint in, from `style_of`.
      structure: contrast_structure of the result to its source, in [0, 1].
    """

    style: Float[Any, "b n"]
    structure: Float[Any, "b"]


def conditioned(variables: Mapping[str, Any], conditions: Conditions) -> dict[str, Any]:
    """Returns a generator's variables with its conditions, for `apply`."""
    return {**variables, COLLECTION: {"style": conditions.style, "structure": conditions.structure}}


def of(module: nn.Module, count: int, size: int) -> Conditions:
    """Returns the conditions that a generator was given among its variables.

    Args:
      module: The generator, within `apply` or `init`.
      count: Number of pictures.
      size: Number of entries of a style.

    Returns:
      The conditions: a row for each picture, or one for all. Within `init`, zeros if it was given none.

    Raises:
      ValueError: It was given none.
    """
    if module.has_variable(COLLECTION, "style"):
        return Conditions(module.get_variable(COLLECTION, "style"), module.get_variable(COLLECTION, "structure"))
    if not module.is_initializing():
        raise ValueError("this generator takes a style and a structure among its variables: see conditions.conditioned")
    return Conditions(jnp.zeros((count, size)), jnp.zeros(count))


def style_of(generator: Any, variables: Mapping[str, Any], pictures: Float[Array, "b h w 3"]) -> Float[Array, "b n"]:
    """Returns the style of pictures in [0, 1] as a generator with these variables is told it."""
    return generator.apply(variables, pictures, method="style_of")
