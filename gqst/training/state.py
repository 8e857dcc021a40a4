"""Everything that a run carries from step to step, and the pool of past fakes in it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float

from gqst.losses import base as losses
from gqst.training.recipe import Recipe

HEADS = "heads"


class Player(struct.PyTreeNode):
    """One side of the game; each tree has one entry for each direction of translation.

    Where terms train networks with the generator, its parameters have the further entry HEADS, by direction and name
    of the term.

    Attributes:
      params: Parameters in float32.
      stats: Other variables of the networks, such as spectral norm's vectors and batch norm's averages.
      opt_state: State of the optax optimiser.
    """

    params: Mapping[str, Any]
    stats: Mapping[str, Any]
    opt_state: optax.OptState


class Pool(struct.PyTreeNode):
    """Past fakes of one direction (Shrivastava et al. 2017, section 2.3).

    Attributes:
      pictures: Fakes, f32[pool_size, h, w, c].
      count: Number of them that are filled.
    """

    pictures: jax.Array
    count: jax.Array


class TrainState(struct.PyTreeNode):
    """Everything on the devices that a run needs to go on.

    Attributes:
      step: Number of optimiser steps taken.
      gen: The generators, G forward and, if a term needs cycles, G' backward.
      disc: The discriminators; empty if no term needs them.
      ema: Running average of the generators' variables, params and stats, by direction.
      rate: Factor on both learning rates, f32 scalar; roll-backs halve it.
      multipliers: Factors on the weights of steered losses, f32 scalars by label.
      pool: Past fakes by direction; empty without a pool.
      key: Typed random key of the run; a step folds its number into it.
    """

    step: jax.Array
    gen: Player
    disc: Player
    ema: Mapping[str, Any]
    rate: jax.Array
    multipliers: Mapping[str, jax.Array]
    pool: Mapping[str, Pool]
    key: jax.Array


def create(recipe: Recipe, key: jax.Array, initial: Mapping[str, Mapping[str, Any]] | None = None) -> TrainState:
    """Returns a new state; a pure function, to be run under jit.

    Args:
      recipe: Static parts of the step.
      key: Typed random key, which alone decides the random values.
      initial: `Recipe.initial`, passed as an argument so that its arrays are not compiled in; None takes the
        recipe's own.
    """
    run_key, *keys = jax.random.split(key, 1 + 2 * len(recipe.directions))
    size, pool_size = recipe.config.image_size, recipe.config.pool_size
    initial = recipe.initial if initial is None else initial
    gen_params, gen_stats, disc_params, disc_stats = {}, {}, {}, {}
    heads: dict[str, Any] = {}
    for direction, gen_key, disc_key in zip(recipe.directions, keys[::2], keys[1::2], strict=True):
        variables = recipe.init_generator(gen_key, initial["gen"])
        if recipe.heads:
            heads[direction] = _create_heads(recipe, variables, jax.random.fold_in(gen_key, 1))
        gen_params[direction] = variables.pop("params")
        gen_stats[direction] = variables
        if recipe.adversarial:
            variables = recipe.init_discriminator(disc_key, initial["disc"])
            disc_params[direction] = variables.pop("params")
            disc_stats[direction] = variables
    # A copy, because the same buffer cannot be donated twice.
    ema = {d: jax.tree.map(jnp.copy, {"params": gen_params[d], **gen_stats[d]}) for d in recipe.directions}
    if heads:
        gen_params[HEADS] = heads
    pool = {}
    if pool_size and recipe.adversarial:
        empty = jnp.zeros((pool_size, size, size, 3))
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


def draw(
    pool: Pool, fakes: Float[Array, "b h w c"], keys: jax.Array, *, axis_name: str | None = None
) -> tuple[Float[Array, "b h w c"], Pool]:
    """Returns the pictures that the discriminator is shown in place of `fakes`, and the pool afterwards.

    While the pool fills, each fake is kept and shown. Then, with probability one half, a fake is shown as
    it is; else it takes the place of a random one of the pool, which is shown.

    Args:
      pool: Past fakes, the same on every device.
      fakes: New fakes, without gradient.
      keys: A random key for each fake.
      axis_name: Axis of pmap; every device then goes through the fakes of all devices.
    """
    local = fakes.shape[0]
    if axis_name is not None:
        fakes = jax.lax.all_gather(fakes, axis_name, tiled=True)
        keys = jax.lax.all_gather(keys, axis_name, tiled=True)
    pool, shown = jax.lax.scan(_draw_one, pool, (fakes, keys))
    if axis_name is not None:
        shown = jax.lax.dynamic_slice_in_dim(shown, jax.lax.axis_index(axis_name) * local, local)
    return shown, pool


def _draw_one(pool: Pool, new: tuple[jax.Array, jax.Array]) -> tuple[Pool, jax.Array]:
    fake, key = new
    size = pool.pictures.shape[0]
    swap_key, slot_key = jax.random.split(key)
    full = pool.count >= size
    swap = full & jax.random.bernoulli(swap_key)
    slot = jnp.where(full, jax.random.randint(slot_key, (), 0, size), pool.count)
    old = pool.pictures[slot]
    kept = jnp.where(swap | ~full, fake, old)
    pool = pool.replace(pictures=pool.pictures.at[slot].set(kept), count=jnp.minimum(pool.count + 1, size))
    return pool, jnp.where(swap, old, fake)


def _create_heads(recipe: Recipe, variables: Any, key: jax.Array) -> dict[str, Any]:
    """The parameters of the heads, which see patches of the encoder's layers, f32[1 1 c]."""
    taps = next(iter(recipe.encoded.values()))
    size = recipe.config.image_size
    encoded: Any = recipe.generator.apply(variables, jnp.zeros((1, size, size, 3)), taps=taps)
    samples = {layer: x[:, :1, 0] for layer, x in encoded.items()}
    keys = jax.random.split(key, len(recipe.heads))
    return {name: head.init(k, samples)["params"] for k, (name, head) in zip(keys, recipe.heads.items(), strict=True)}
