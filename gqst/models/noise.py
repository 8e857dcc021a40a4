"""Noise inputs of a generator: random numbers that belong to places of a picture (Karras et al. 2019, section 3.2).

A convolution gives the same where a picture is the same, so that flat skies get one colour or one stamp again and
again; noise makes places differ. It is counted from a picture's end, so that tiles of a picture get the noise of the
whole, and depends on a seed for each picture, so that one photograph has many variants.
"""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend import random
from jaxtyping import Array, Float, UInt32

from gqst.models import frames

COLLECTION = "noise"
"""Collection of a generator's variables that holds seeds, uint32[b] or uint32[1], as `seeds`; 0 without one."""


def seeded(variables: Mapping[str, Any], seeds: UInt32[Any, "b"]) -> dict[str, Any]:
    """Returns a generator's variables with the seeds of its noise, for `apply`."""
    return {**variables, COLLECTION: {"seeds": seeds}}


def seeds_of(module: nn.Module) -> UInt32[Array, "b"]:
    """Returns the seeds that a generator was given among its variables; 0 if it was given none."""
    if module.has_variable(COLLECTION, "seeds"):
        return module.get_variable(COLLECTION, "seeds")
    return jnp.zeros(1, jnp.uint32)


class Noise(nn.Module, kw_only=True):
    """Adds a map of noise to activations, with a learnt weight for each channel; every layer has a map of its own.

    Attributes:
      weight_init: Initialiser of the weights.
    """

    weight_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], seeds: UInt32[Array, "b2"]) -> Float[Array, "b h w c"]:
        """Returns the activations with the noise of these seeds, one or one for each picture."""
        weight = self.param("weight", self.weight_init, (x.shape[-1],))
        number = zlib.crc32("/".join(self.path).encode())
        field = _field(x.shape, jnp.broadcast_to(seeds, x.shape[:1]), number)
        return x + (field[..., None] * weight[None, None, None]).astype(x.dtype)


def _field(shape: tuple[int, ...], seeds: jax.Array, number: int) -> Float[Array, "b h w"]:
    """Uniform noise of mean 0 and variance 1, a function of seed, number, and distances from the picture's end."""
    frame = frames.current()

    def one(seed: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
        places = jnp.broadcast_arrays(rows[:, None], columns[None])
        key = jnp.stack([seed, jnp.uint32(number)])
        bits = random.threefry_2x32(key, jnp.concatenate([x.ravel() for x in places]))
        unit = bits[: bits.size // 2].astype(jnp.float32) * 2.0**-32
        return math.sqrt(12) * (unit.reshape(places[0].shape) - 0.5)

    rows, columns = (
        jnp.broadcast_to(jnp.arange(shape[axis], 0, -1), (shape[0], shape[axis]))
        if frame is None
        else frame.from_end(shape[axis], axis)
        for axis in (1, 2)
    )
    return jax.vmap(one)(seeds, rows.astype(jnp.uint32), columns.astype(jnp.uint32))
