"""What every generator and discriminator is, and the registries that a config chooses from."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from gqst import config, registry

GENERATORS = registry.Registry("generator")
"""Linen modules: pictures f32[b h w c] in [0, 1] to pictures of that size in [0, 1].

One with averages (batch norm) takes `train`; one with an encoder has a property `taps`, names of layers, and gives
their activations by name where it is called with `taps`.
"""

DISCRIMINATORS = registry.Registry("discriminator")
"""Linen modules: pictures f32[b h w c] in [0, 1], `update_stats` to a `Verdict`.

One that sees frozen features has a property `wants`, a feature network and its layers, and is called with their
activations as `features`.
"""


class Verdict(struct.PyTreeNode):
    """What a discriminator says of a batch.

    Attributes:
      logits: one f32[b h' w' 1] for each scale, above 0 for "a real target".
      activations: for each scale its inner activations, first layer first.
    """

    logits: tuple[jax.Array, ...]
    activations: tuple[tuple[jax.Array, ...], ...]


class Taps:
    """Collects the activations of the layers that were asked for."""

    def __init__(self, wanted: Sequence[str], **first: jax.Array):
        """Starts with the activations `first` by name."""
        self._wanted = wanted
        self._made: dict[str, jax.Array] = {}
        for name, x in first.items():
            self.add(name, x)

    def add(self, name: str, x: jax.Array) -> None:
        """Takes note of a layer if it is wanted."""
        if name in self._wanted:
            self._made[name] = x

    @property
    def complete(self) -> bool:
        """Whether layers are wanted and all are there."""
        return bool(self._wanted) and len(self._made) == len(self._wanted)

    @property
    def found(self) -> dict[str, jax.Array]:
        """The activations by name, as far as they are there."""
        return self._made


def build_generator(cfg: config.Config) -> nn.Module:
    """The generator of a config, unbound; InputError if the config names what there is not."""
    return GENERATORS.build(cfg.generator, dtype=jnp.dtype(cfg.compute_dtype))


def build_discriminator(cfg: config.Config) -> nn.Module:
    """The discriminator of a config, unbound; InputError if the config names what there is not."""
    return DISCRIMINATORS.build(cfg.discriminator, dtype=jnp.dtype(cfg.compute_dtype))


def initial(module: nn.Module) -> dict[str, Any]:
    """The variables that a network starts from in place of random ones, from a file that the user named.

    A network that can has a method `initial() -> {collection: tree}`; InputError if the file is not of its kind.
    """
    start: Any = getattr(module, "initial", None)
    return {} if start is None else start()


def parameter_count(variables: Any) -> int:
    """How many numbers a tree of arrays or of shapes holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables))
