"""What a run carries from step to step, and the static things that a step is built from."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from gqst import config, types
from gqst.losses import base as losses_base
from gqst.models import base as models_base
from gqst.training import optimizer

FORWARD, BACKWARD = "forward", "backward"


class Player(struct.PyTreeNode):
    """One side of the game; each tree has one entry for each direction of translation.

    Attributes:
      params: float32 parameters.
      stats: the other variables of its networks, as spectral norm's vectors.
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
      ema: running average of gen.params.
      multipliers: f32 scalars by the label of a steered loss, which scale its weight.
      pool: past fakes by direction; empty without a pool.
      key: typed random key of the run; a step folds its number into it.
    """

    step: jax.Array
    gen: Player
    disc: Player
    ema: Mapping[str, Any]
    multipliers: Mapping[str, jax.Array]
    pool: Mapping[str, Pool]
    key: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The static parts of a training step, made once from a config and closed over.

    Attributes:
      generator, discriminator: linen modules, the same for both directions.
      gen_tx, disc_tx: optax optimisers.
      gen_rate, disc_rate: their learning rates by step.
      objective: the terms.
      directions: ("forward",) or ("forward", "backward").
      adversarial: whether a discriminator is trained.
      identity: whether G(target) is needed.
      conditional: whether the discriminator sees the source beside the picture.
      pool_size: past fakes a direction; 0 is no pool.
      ema_decay: of the running average.
      image_size: side of the training pictures.
    """

    generator: nn.Module
    discriminator: nn.Module
    gen_tx: optax.GradientTransformation
    disc_tx: optax.GradientTransformation
    gen_rate: optax.Schedule
    disc_rate: optax.Schedule
    objective: losses_base.Objective
    directions: tuple[str, ...]
    adversarial: bool
    identity: bool
    conditional: bool
    pool_size: int
    ema_decay: float
    image_size: int

    @property
    def cycled(self) -> bool:
        """Whether both directions are trained and G'(G(x)) is made."""
        return BACKWARD in self.directions


def build_recipe(cfg: config.Config, *, paired: bool) -> Recipe:
    """The recipe of a config; InputError if it names what there is not or what does not go together."""
    if cfg.conditional and not paired:
        raise types.InputError("conditional=True needs paired data: D(x, y) has no meaning without pairs")
    if cfg.conditional and cfg.pool_size:
        raise types.InputError(f"pool_size={cfg.pool_size} does not go with conditional=True: set it to 0")
    objective = losses_base.build(cfg.losses, paired=paired)
    gen_tx, gen_rate = optimizer.build(cfg.generator_optimizer, steps=cfg.steps)
    disc_tx, disc_rate = optimizer.build(cfg.discriminator_optimizer, steps=cfg.steps)
    recipe = Recipe(
        generator=models_base.build_generator(cfg),
        discriminator=models_base.build_discriminator(cfg),
        gen_tx=gen_tx,
        disc_tx=disc_tx,
        gen_rate=gen_rate,
        disc_rate=disc_rate,
        objective=objective,
        directions=directions(objective),
        adversarial=losses_base.needs(objective, "logits"),
        identity=losses_base.needs(objective, "identity"),
        conditional=cfg.conditional,
        pool_size=cfg.pool_size,
        ema_decay=cfg.ema_decay,
        image_size=cfg.image_size,
    )
    try:
        jax.eval_shape(lambda: create(recipe, jax.random.key(0)))
    except ValueError as error:
        # A network that cannot take pictures of this size says so when it is traced.
        raise types.InputError(f"image_size={cfg.image_size}: {error}") from error
    return recipe


def directions(objective: losses_base.Objective) -> tuple[str, ...]:
    """The directions of translation that are trained: both where a term needs cycles."""
    return (FORWARD, BACKWARD) if losses_base.needs(objective, "cycled") else (FORWARD,)


def create(recipe: Recipe, key: jax.Array) -> TrainState:
    """A new state, a pure function of a typed key; to be run under jit."""
    run_key, *keys = jax.random.split(key, 1 + 2 * len(recipe.directions))
    size = recipe.image_size
    picture = jnp.zeros((1, size, size, 3))
    judged = jnp.zeros((1, size, size, 6 if recipe.conditional else 3))
    gen_params, disc_params, disc_stats = {}, {}, {}
    for direction, gen_key, disc_key in zip(recipe.directions, keys[::2], keys[1::2], strict=True):
        gen_params[direction] = recipe.generator.init(gen_key, picture)["params"]
        if recipe.adversarial:
            variables = dict(recipe.discriminator.init(disc_key, judged))
            disc_params[direction] = variables.pop("params")
            disc_stats[direction] = variables
    pool = {}
    if recipe.pool_size and recipe.adversarial:
        empty = jnp.zeros((recipe.pool_size, size, size, 3))
        pool = {d: Pool(pictures=empty, count=jnp.zeros((), jnp.int32)) for d in recipe.directions}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        gen=Player(params=gen_params, stats={}, opt_state=recipe.gen_tx.init(gen_params)),
        disc=Player(params=disc_params, stats=disc_stats, opt_state=recipe.disc_tx.init(disc_params)),
        # A copy: donation would otherwise be handed the same buffer twice.
        ema=jax.tree.map(jnp.copy, gen_params),
        multipliers={label: jnp.ones(()) for label in losses_base.steered(recipe.objective)},
        pool=pool,
        key=run_key,
    )
