"""What a run carries from step to step, and the static things that a step is built from."""

import dataclasses
import functools
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
from gqst.models.features import base as features
from gqst.training import optimizer

FORWARD, BACKWARD = "forward", "backward"
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
      wanted: layers by feature network and picture, of all terms.
      judged: the feature network and its layers that the discriminator sees; None if it sees pixels.
      features: the feature networks of both, by name.
      frozen: the parameters of these, as NumPy arrays; they enter the step as an argument.
      encoded: layers of the generator's encoder that terms look at, by picture.
      heads: modules that are trained with the generator, by the name of their term.
      initial: variables that start the networks in place of random ones, by player and collection.
      directions: ("forward",) or ("forward", "backward").
      adversarial: whether a discriminator is trained.
      activations: whether the discriminator's inner activations are needed.
      identity: whether G(target) is needed.
      conditional: whether the discriminator sees the source beside the picture.
      keep_colors: whether training sees brightness alone.
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
    wanted: Mapping[str, Mapping[str, tuple[str, ...]]]
    judged: tuple[str, tuple[str, ...]] | None
    features: Mapping[str, Any]
    frozen: Mapping[str, Any]
    encoded: Mapping[str, tuple[str, ...]]
    heads: Mapping[str, nn.Module]
    initial: Mapping[str, Mapping[str, Any]]
    directions: tuple[str, ...]
    adversarial: bool
    activations: bool
    identity: bool
    conditional: bool
    keep_colors: bool
    pool_size: int
    ema_decay: float
    image_size: int

    def over(self, axis_name: str | None) -> "Recipe":
        """The recipe for pmap with this axis, over which batch norm then averages."""
        if axis_name is None:
            return self
        return dataclasses.replace(
            self,
            generator=_clone(self.generator, axis_name),
            discriminator=_clone(self.discriminator, axis_name),
        )

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
    generator, discriminator = models_base.build_generator(cfg), models_base.build_discriminator(cfg)
    wanted = losses_base.wants(objective)
    judged = getattr(discriminator, "wants", None) if losses_base.needs(objective, "logits") else None
    layers = {
        network: [layer for taken in pictures.values() for layer in taken] for network, pictures in wanted.items()
    }
    if judged is not None:
        layers.setdefault(judged[0], []).extend(judged[1])
    frozen = {name: features.load(name, cfg.weights.get(name)) for name in layers}
    for name, taken in layers.items():
        features.check(name, taken, frozen[name])
    recipe = Recipe(
        generator=generator,
        discriminator=discriminator,
        gen_tx=gen_tx,
        disc_tx=disc_tx,
        gen_rate=gen_rate,
        disc_rate=disc_rate,
        objective=objective,
        wanted=wanted,
        judged=judged,
        features={name: features.FEATURES[name]() for name in layers},
        frozen=frozen,
        encoded=_encoded(objective, generator, cfg),
        heads=_heads(objective),
        initial={"gen": models_base.initial(generator), "disc": models_base.initial(discriminator)},
        directions=directions(objective),
        adversarial=losses_base.needs(objective, "logits"),
        activations=losses_base.needs(objective, "activations"),
        identity=losses_base.needs(objective, "identity"),
        conditional=cfg.conditional,
        keep_colors=cfg.keep_colors,
        pool_size=cfg.pool_size,
        ema_decay=cfg.ema_decay,
        image_size=cfg.image_size,
    )
    try:
        _check_layers(recipe, cfg)
        jax.eval_shape(lambda: create(recipe, jax.random.key(0), recipe.initial))
    except types.InputError:
        raise
    except ValueError as error:
        # A network that cannot take pictures of this size says so when it is traced.
        raise types.InputError(f"image_size={cfg.image_size}: {error}") from error
    return recipe


def directions(objective: losses_base.Objective) -> tuple[str, ...]:
    """The directions of translation that are trained: both where a term needs cycles."""
    return (FORWARD, BACKWARD) if losses_base.needs(objective, "cycled") else (FORWARD,)


def create(recipe: Recipe, key: jax.Array, initial: Mapping[str, Mapping[str, Any]] | None = None) -> TrainState:
    """A new state, a pure function of a typed key and `Recipe.initial`; to be run under jit."""
    run_key, *keys = jax.random.split(key, 1 + 2 * len(recipe.directions))
    size = recipe.image_size
    picture = jnp.zeros((1, size, size, 3))
    judged = jnp.zeros((1, size, size, 6 if recipe.conditional else 3))
    given = initial or {"gen": {}, "disc": {}}
    gen_params, gen_stats, disc_params, disc_stats = {}, {}, {}, {}
    heads: dict[str, Any] = {}
    for direction, gen_key, disc_key in zip(recipe.directions, keys[::2], keys[1::2], strict=True):
        variables = _started(recipe.generator.init(gen_key, picture), given["gen"])
        if recipe.heads:
            heads[direction] = _create_heads(recipe, variables, picture, jax.random.fold_in(gen_key, 1))
        gen_params[direction] = variables.pop("params")
        gen_stats[direction] = variables
        if recipe.adversarial:
            variables = _started(recipe.discriminator.init(disc_key, judged, **_seen(recipe, judged)), given["disc"])
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
        multipliers={label: jnp.ones(()) for label in losses_base.steered(recipe.objective)},
        pool=pool,
        key=run_key,
    )


def _seen(recipe: Recipe, pictures: jax.Array) -> dict[str, Any]:
    """What a discriminator takes besides pictures, as zeros of the right shapes."""
    if recipe.judged is None:
        return {}
    network, layers = recipe.judged
    see = functools.partial(recipe.features[network].apply, layers=layers)
    shapes = jax.eval_shape(see, {"params": recipe.frozen[network]}, pictures[..., -3:])
    return {"features": jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)}


def _started(variables: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """A network's variables, those that are given in place of the random ones."""

    def put(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        inner = {k: put(old[k], v) if isinstance(v, Mapping) else _same(k, old[k], v) for k, v in new.items()}
        return {**old, **inner}

    return put(variables, given)


def _same(name: str, old: jax.Array, new: Any) -> jax.Array:
    if old.shape != new.shape:
        raise ValueError(f"weights give {name!r} the shape {new.shape}, the network's has {old.shape}")
    return jnp.asarray(new)


def _create_heads(recipe: Recipe, variables: Any, picture: jax.Array, key: jax.Array) -> dict[str, Any]:
    """The parameters of the heads; they see patches of the encoder's layers, f32[1 1 c]."""
    taps = next(iter(recipe.encoded.values()))
    encoded: Any = recipe.generator.apply(variables, picture, taps=taps)
    samples = {layer: x[:, :1, 0] for layer, x in encoded.items()}
    keys = jax.random.split(key, len(recipe.heads))
    return {label: head.init(k, samples)["params"] for k, (label, head) in zip(keys, recipe.heads.items(), strict=True)}


def _encoded(objective: losses_base.Objective, generator: Any, cfg: config.Config) -> dict[str, tuple[str, ...]]:
    """The layers that the generator has to give by picture; InputError if it has them not."""
    asked = [entry.encodes for entry in objective if entry.encodes is not None]
    if not asked:
        return {}
    if not hasattr(generator, "taps"):
        raise types.InputError(
            f"generator {cfg.generator.name!r} does not show its encoder's layers, which a loss needs: choose another"
        )
    layers = {layers for _, layers in asked}
    if len(layers) > 1:
        raise types.InputError(f"losses ask for different layers of the generator: {sorted(layers)}; give all the same")
    wanted = tuple(layers.pop() or _taps(generator))
    return {picture: wanted for pictures, _ in asked for picture in pictures}


def _taps(generator: Any) -> tuple[str, ...]:
    return generator.taps


def _check_layers(recipe: Recipe, cfg: config.Config) -> None:
    """InputError if the generator does not have the layers that losses look at."""
    picture = jnp.zeros((1, cfg.image_size, cfg.image_size, 3))

    def encode(taps: tuple[str, ...]) -> Any:
        return recipe.generator.apply(recipe.generator.init(jax.random.key(0), picture), picture, taps=taps)

    for taps in set(recipe.encoded.values()):
        missing = set(taps) - set(jax.eval_shape(functools.partial(encode, taps)))
        if missing:
            raise types.InputError(
                f"generator {cfg.generator.name!r} has no layer {min(missing)!r}; "
                f"there are: {', '.join(_taps(recipe.generator))}"
            )


def _heads(objective: losses_base.Objective) -> dict[str, nn.Module]:
    """The modules that terms train with the generator, by term; InputError if a term asks for two kinds."""
    found: dict[str, nn.Module] = {}
    for entry in objective:
        if entry.head is not None and found.setdefault(entry.term, entry.head) != entry.head:
            raise types.InputError(f"loss {entry.label!r}: all losses of the term {entry.term!r} share one width")
    return found


def _clone(module: nn.Module, axis_name: str) -> nn.Module:
    return module.clone(axis_name=axis_name) if hasattr(module, "axis_name") else module
