"""Interfaces of generators and discriminators, and the registries that a config chooses them from."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from gqst import config, overrides, registry, types

GENERATORS = registry.Registry("generator")
"""Linen modules that map pictures f32[b h w c] in [0, 1] to pictures of the same size in [0, 1].

A generator with running averages (batch norm) has an argument `train`. A generator with an encoder has a property
`taps`, the names of its layers, and returns activations by name in place of pictures if called with `taps`. One whose
attribute `noise` is true takes the seeds of its noise among its variables (`noise.seeded`).

A generator that can run in tiles is made of the layers of `blocks`, or calls `frames.cleared` where other layers pad
with zeros, and has a property `multiple`, the number of pixels that sides are multiples of inside (`pad_to_multiple`
does nothing then). Others run on whole pictures, and are compiled for every size.
"""

DISCRIMINATORS = registry.Registry("discriminator")
"""Linen modules that map pictures f32[b h w c] in [0, 1] to a `Verdict`, with an argument `update_stats`.

A discriminator of frozen features has a property `wants`, the name of a feature network and those of its layers, and
is called with their activations as `features`.
"""


class Verdict(struct.PyTreeNode):
    """Output of a discriminator for a batch.

    Attributes:
      logits: Logits of each scale, f32[b h' w' 1], above 0 for a real target.
      activations: Inner activations of each scale, first layer first.
    """

    logits: tuple[jax.Array, ...]
    activations: tuple[tuple[jax.Array, ...], ...]


class Taps:
    """Activations of requested layers, collected during a forward pass.

    Attributes:
      activations: Activations collected so far, by layer.
    """

    def __init__(self, layers: Sequence[str], **available: jax.Array):
        """Requests `layers` and adds the activations that are already available, by layer."""
        self._layers = layers
        self.activations: dict[str, jax.Array] = {}
        for layer, x in available.items():
            self.add(layer, x)

    def add(self, layer: str, x: jax.Array) -> None:
        """Collects the activations of a layer if they are requested."""
        if layer in self._layers:
            self.activations[layer] = x

    @property
    def complete(self) -> bool:
        """True if layers are requested and all of them collected."""
        return bool(self._layers) and len(self.activations) == len(self._layers)


def build_generator(cfg: config.Config) -> nn.Module:
    """Returns the generator of a config as an unbound module.

    Raises:
      InputError: The generator or an option does not exist, or a value is invalid.
    """
    return GENERATORS.build(cfg.generator, dtype=jnp.dtype(cfg.compute_dtype))


def of_run(folder: pathlib.Path) -> tuple[config.Config, nn.Module]:
    """Returns the config of a run and its generator as an unbound module.

    Args:
      folder: Folder of the run.

    Raises:
      InputError: It is not the folder of a run, or its config cannot be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise types.InputError(f"{folder} is not the folder of a run: it has no config.json")
    cfg = overrides.from_json(path.read_text(encoding="utf-8"), origin=str(path))
    return cfg, build_generator(cfg)


def build_discriminator(cfg: config.Config) -> nn.Module:
    """Returns the discriminator of a config as an unbound module.

    Raises:
      InputError: The discriminator or an option does not exist, or a value is invalid.
    """
    return DISCRIMINATORS.build(cfg.discriminator, dtype=jnp.dtype(cfg.compute_dtype))


def initial(module: nn.Module) -> dict[str, Any]:
    """Returns the variables, by collection, that replace random ones at the start of training.

    They come from a weight file that the user has named, through the method `initial() -> {collection: tree}` of
    networks that have one; empty without either.

    Raises:
      InputError: The file cannot be read or does not fit the network.
    """
    load: Any = getattr(module, "initial", None)
    return {} if load is None else load()


def parameter_count(variables: Any) -> int:
    """Returns the number of elements in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables))
