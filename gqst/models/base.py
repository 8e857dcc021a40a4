"""What every generator and discriminator is, and the registries that a config chooses from."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from gqst import config, registry

GENERATORS = registry.Registry("generator")
"""Linen modules: pictures f32[b h w c] in [0, 1] to pictures of that size in [0, 1]."""

DISCRIMINATORS = registry.Registry("discriminator")
"""Linen modules: pictures f32[b h w c] in [0, 1], `update_stats` to a `Verdict`."""


class Verdict(struct.PyTreeNode):
    """What a discriminator says of a batch.

    Attributes:
      logits: one f32[b h' w' 1] for each scale, above 0 for "a real target".
      activations: for each scale its inner activations, first layer first.
    """

    logits: tuple[jax.Array, ...]
    activations: tuple[tuple[jax.Array, ...], ...]


def build_generator(cfg: config.Config) -> nn.Module:
    """The generator of a config, unbound; InputError if the config names what there is not."""
    return GENERATORS.build(cfg.generator, dtype=jnp.dtype(cfg.compute_dtype))


def build_discriminator(cfg: config.Config) -> nn.Module:
    """The discriminator of a config, unbound; InputError if the config names what there is not."""
    return DISCRIMINATORS.build(cfg.discriminator, dtype=jnp.dtype(cfg.compute_dtype))


def parameter_count(variables: Any) -> int:
    """How many numbers a tree of arrays or of shapes holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables))
