"""What a run carries from step to step."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from gqst.losses import base as losses
from gqst.training import recipes

HEADS = "heads"


class Player(struct.PyTreeNode):
    """One side of the game; each tree has one entry for each direction of translation.

    The generator's parameters have an entry HEADS besides where terms train networks with it, by direction and
    name of the term.

    Attributes:
      params: float32 parameters.
      stats: the other variables of its networks, as spectral norm's vectors and batch norm's averages.
      opt_state: of its optax optimiser.
    """

    params: Mapping[str, Any]
    stats: Mapping[str, Any]
    opt_state: optax.OptState


class Pool(struct.PyTreeNode):
    """Past fakes of one direction (Shrivastava et al. 2017).

    Attributes:
      pictures: f32[pool_size, h, w, c].
      count: how many of them are filled.
    """

    pictures: jax.Array
    count: jax.Array


class TrainState(struct.PyTreeNode):
    """Everything on the devices that a run needs to go on.

    Attributes:
      step: optimiser steps done.
      gen: the generators, G forward and G' backward where the config has cycles.
      disc: the discriminators; empty where no term needs them.
      ema: running average of the generators' variables, params and stats.
      rate: f32 scalar, a factor on both learning rates that roll-backs halve.
      multipliers: f32 scalars by the label of a steered loss, which scale its weight.
      pool: past fakes by direction; empty without a pool.
      key: typed random key of the run; a step folds its number into it.
    """

    step: jax.Array
    gen: Player
    disc: Player
    ema: Mapping[str, Any]
    rate: jax.Array
    multipliers: Mapping[str, jax.Array]
    pool: Mapping[str, Pool]
    key: jax.Array


def create(
    recipe: recipes.Recipe, key: jax.Array, initial: Mapping[str, Mapping[str, Any]] | None = None
) -> TrainState:
    """A new state, a pure function of a typed key and `Recipe.initial`; to be run under jit."""
    run_key, *keys = jax.random.split(key, 1 + 2 * len(recipe.directions))
    size = recipe.image_size
    given = initial or {"gen": {}, "disc": {}}
    gen_params, gen_stats, disc_params, disc_stats = {}, {}, {}, {}
    heads: dict[str, Any] = {}
    for direction, gen_key, disc_key in zip(recipe.directions, keys[::2], keys[1::2], strict=True):
        variables = recipe.init_generator(gen_key, given["gen"])
        if recipe.heads:
            heads[direction] = _create_heads(recipe, variables, jax.random.fold_in(gen_key, 1))
        gen_params[direction] = variables.pop("params")
        gen_stats[direction] = variables
        if recipe.adversarial:
            variables = recipe.init_discriminator(disc_key, given["disc"])
            disc_params[direction] = variables.pop("params")
            disc_stats[direction] = variables
    # A copy: donation would otherwise be handed the same buffer twice.
    ema = {d: jax.tree.map(jnp.copy, {"params": gen_params[d], **gen_stats[d]}) for d in recipe.directions}
    if heads:
        gen_params[HEADS] = heads
    pool = {}
    if recipe.pool_size and recipe.adversarial:
        empty = jnp.zeros((recipe.pool_size, size, size, 3))
        pool = {d: Pool(pictures=empty, count=jnp.zeros((), jnp.int32)) for d in recipe.directions}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        gen=Player(params=gen_params, stats=gen_stats, opt_state=recipe.gen_tx.init(gen_params)),
        disc=Player(params=disc_params, stats=disc_stats, opt_state=recipe.disc_tx.init(disc_params)),
        ema=ema,
        rate=jnp.ones(()),
        multipliers={label: jnp.ones(()) for label in losses.steered(recipe.objective)},
        pool=pool,
        key=run_key,
    )


def _create_heads(recipe: recipes.Recipe, variables: Any, key: jax.Array) -> dict[str, Any]:
    """The parameters of the heads; they see patches of the encoder's layers, f32[1 1 c]."""
    taps = next(iter(recipe.encoded.values()))
    picture = jnp.zeros((1, recipe.image_size, recipe.image_size, 3))
    encoded: Any = recipe.generator.apply(variables, picture, taps=taps)
    samples = {layer: x[:, :1, 0] for layer, x in encoded.items()}
    keys = jax.random.split(key, len(recipe.heads))
    return {label: head.init(k, samples)["params"] for k, (label, head) in zip(keys, recipe.heads.items(), strict=True)}
