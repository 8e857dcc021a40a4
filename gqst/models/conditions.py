"""What a generator is asked for besides a picture: a style, as statistics of a frozen network, and a structure.

Such a generator has a property `structures`, the lowest and highest contrast_structure that it can be asked for, and
takes its conditions among its variables (`conditioned`).
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from gqst.models import blocks
from gqst.models.features import base as features

COLLECTION = "conditions"
NETWORK = "vgg16"
LAYERS = {0: ("relu1_1", "relu2_1"), 1: ("relu3_1", "relu4_1")}
"""Layers by the number of times that pictures are halved before: deep ones see as much on half of the size."""

COLORS = 6
"""Number of the first entries of a style: mean and deviation of each opponent colour."""

COUNT = COLORS + 2 * (64 + 128 + 256 + 512)
"""Number of entries of a style."""

_LARGEST = 4.0


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


def of(module: nn.Module, count: int) -> Conditions:
    """Returns the conditions that a generator was given among its variables; zeros if it was given none."""
    if module.has_variable(COLLECTION, "style"):
        return Conditions(module.get_variable(COLLECTION, "style"), module.get_variable(COLLECTION, "structure"))
    return Conditions(jnp.zeros((count, COUNT)), jnp.zeros(count))


def style_of(params: Any, pictures: Float[Array, "b h w 3"]) -> Float[Array, "b n"]:
    """Returns the style of pictures: their colours, and the statistics of their activations over those of paintings.

    Args:
      params: Parameters of `NETWORK`, from `features.load`.
      pictures: Pictures in [0, 1], of at least 32 px a side.

    Returns:
      Mean and deviation of each opponent colour; then the logarithms of `statistics`, standardised by their mean and
      deviation over some hundred paintings, at most 4 in size.
    """
    mean, deviation = (jnp.asarray(x)[None] for x in paintings())
    colors = _moments(blocks.to_opponent(pictures))
    standard = (logarithms(statistics(params, pictures)) - mean) / deviation
    return jnp.concatenate([colors, jnp.clip(standard, -_LARGEST, _LARGEST)], axis=-1)


def statistics(params: Any, pictures: Float[Array, "b h w 3"]) -> Float[Array, "b n"]:
    """Returns mean and deviation of each channel of `LAYERS` (Huang and Belongie 2017, equation 13)."""
    network, parts = features.FEATURES[NETWORK](), []
    for halvings, layers in LAYERS.items():
        seen = network.apply({"params": params}, features.halved(pictures, halvings), layers=layers)
        parts += [_moments(seen[layer]) for layer in layers]
    return jnp.concatenate(parts, axis=-1)


def logarithms(statistics: Float[Array, "b n"]) -> Float[Array, "b n"]:
    """Returns statistics in a form in which styles differ by amounts, not by factors."""
    return jnp.log(statistics + 0.05)


@functools.cache
def paintings() -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Returns mean and deviation of `logarithms` over paintings (docs/make_any_style.py)."""
    tensors = features.bundled("paintings")
    return tensors["mean"].astype(np.float32), tensors["deviation"].astype(np.float32)


def _moments(x: jax.Array) -> Float[Array, "b n"]:
    x = x.astype(jnp.float32)
    return jnp.concatenate([jnp.mean(x, axis=(1, 2)), jnp.std(x, axis=(1, 2))], axis=-1)
