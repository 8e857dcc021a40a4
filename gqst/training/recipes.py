"""What a training step is built from: networks, optimisers, losses, made once from a config."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from gqst import config, types
from gqst.losses import base as losses_base
from gqst.models import base as models_base
from gqst.models.features import base as features
from gqst.quality.targets import Target, aim
from gqst.training import optimizer

FORWARD, BACKWARD = "forward", "backward"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The static parts of a training step, made once from a config and closed over.

    Attributes:
      generator, discriminator: linen modules, the same for both directions.
      gen_tx, disc_tx: optax optimisers.
      gen_rate, disc_rate: their learning rates by step.
      objective: the terms.
      targets: to which rounds steer the weights of some of them.
      wanted: layers by feature network and picture, of all terms and of the discriminator.
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
      accumulate: parts that a batch is cut into.
      remat: what of the generator's passes is computed again for the gradient.
    """

    generator: nn.Module
    discriminator: nn.Module
    gen_tx: optax.GradientTransformation
    disc_tx: optax.GradientTransformation
    gen_rate: optax.Schedule
    disc_rate: optax.Schedule
    objective: losses_base.Objective
    targets: tuple[Target, ...]
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
    accumulate: int
    remat: config.Remat

    def over(self, axis_name: str | None) -> "Recipe":
        """The recipe for pmap with this axis, over which batch norm then averages."""
        if axis_name is None:
            return self
        return dataclasses.replace(
            self,
            generator=_clone(self.generator, axis_name),
            discriminator=_clone(self.discriminator, axis_name),
        )

    def init_generator(self, key: jax.Array, given: Mapping[str, Any]) -> dict[str, Any]:
        """The first variables of a generator, those of `given` (of `initial`) in place of random ones."""
        size = self.image_size
        return _started(self.generator.init(key, jnp.zeros((1, size, size, 3))), given)

    def init_discriminator(self, key: jax.Array, given: Mapping[str, Any]) -> dict[str, Any]:
        """The first variables of a discriminator, likewise."""
        picture = jnp.zeros((1, self.image_size, self.image_size, 6 if self.conditional else 3))
        variables = self.discriminator.init(key, picture, **self._seen(picture))
        return _started(variables, given)

    def _seen(self, picture: jax.Array) -> dict[str, Any]:
        """What a discriminator takes besides pictures, as zeros of the right shapes."""
        if self.judged is None:
            return {}
        network, layers = self.judged
        see = functools.partial(self.features[network].apply, layers=layers)
        shapes = jax.eval_shape(see, {"params": self.frozen[network]}, picture[..., -3:])
        return {"features": jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)}

    @property
    def cycled(self) -> bool:
        """Whether both directions are trained and G'(G(x)) is made."""
        return BACKWARD in self.directions


def build(cfg: config.Config, *, paired: bool) -> Recipe:
    """The recipe of a config; InputError if it names what there is not or what does not go together."""
    if cfg.conditional and not paired:
        raise types.InputError("conditional=True needs paired data: D(x, y) has no meaning without pairs")
    if cfg.conditional and cfg.pool_size:
        raise types.InputError(f"pool_size={cfg.pool_size} does not go with conditional=True: set it to 0")
    objective, targets = aimed(cfg, paired=paired)
    gen_tx, gen_rate = optimizer.build(cfg.generator_optimizer, steps=cfg.steps)
    disc_tx, disc_rate = optimizer.build(cfg.discriminator_optimizer, steps=cfg.steps)
    generator, discriminator = models_base.build_generator(cfg), models_base.build_discriminator(cfg)
    wanted = losses_base.wants(objective)
    judged = getattr(discriminator, "wants", None) if losses_base.needs(objective, "logits") else None
    if judged is not None:
        _want(wanted.setdefault(judged[0], {}), judged[1])
    layers = {
        network: {layer for taken in pictures.values() for layer in taken} for network, pictures in wanted.items()
    }
    frozen = {name: features.load(name, cfg.weights.get(name)) for name in layers}
    for name, taken in layers.items():
        features.check(name, sorted(taken), frozen[name])
    recipe = Recipe(
        generator=generator,
        discriminator=discriminator,
        gen_tx=gen_tx,
        disc_tx=disc_tx,
        gen_rate=gen_rate,
        disc_rate=disc_rate,
        objective=objective,
        targets=targets,
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
        accumulate=cfg.accumulate,
        remat=cfg.remat,
    )
    try:
        key = jax.random.key(0)
        _check_layers(recipe, cfg, jax.eval_shape(recipe.init_generator, key, recipe.initial["gen"]))
        jax.eval_shape(recipe.init_discriminator, key, recipe.initial["disc"])
    except types.InputError:
        raise
    except ValueError as error:
        # A network that cannot take pictures of this size says so when it is traced.
        raise types.InputError(f"image_size={cfg.image_size}: {error}") from error
    return recipe


def _want(pictures: dict[str, tuple[str, ...]], layers: Sequence[str]) -> None:
    """Adds the layers that a discriminator looks at to those that terms want."""
    for picture in ("fake", "target"):
        pictures[picture] = tuple(sorted({*pictures.get(picture, ()), *layers}))


def aimed(cfg: config.Config, *, paired: bool) -> tuple[losses_base.Objective, tuple[Target, ...]]:
    """The terms of a config, those for its targets among them, and the targets."""
    losses, targets = aim(cfg.losses, cfg.targets)
    return losses_base.build(losses, paired=paired), targets


def directions(objective: losses_base.Objective) -> tuple[str, ...]:
    """The directions of translation that are trained: both where a term needs cycles."""
    return (FORWARD, BACKWARD) if losses_base.needs(objective, "cycled") else (FORWARD,)


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


def _check_layers(recipe: Recipe, cfg: config.Config, variables: Any) -> None:
    """InputError if the generator does not have the layers that losses look at."""
    picture = jnp.zeros((1, cfg.image_size, cfg.image_size, 3))
    for taps in set(recipe.encoded.values()):
        encode = functools.partial(recipe.generator.apply, taps=taps)
        missing = set(taps) - set(jax.eval_shape(encode, variables, picture))
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


def _clone(module: nn.Module, axis_name: str) -> nn.Module:
    return module.clone(axis_name=axis_name) if hasattr(module, "axis_name") else module
