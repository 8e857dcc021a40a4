"""The static parts of a training step, built once from a config."""

import copy
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from gqst import metrics, types
from gqst.config import Config, Loss
from gqst.losses import base as losses
from gqst.models import base as models
from gqst.models.features import base as features
from gqst.quality.targets import Target, aim
from gqst.training import optimizer

FORWARD, BACKWARD = "forward", "backward"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A config, its objective, and the networks and optimisers that follow from them.

    The training step closes over a recipe; nothing in it changes from step to step.

    Attributes:
      config: The experiment.
      paired: Whether target i of a batch is the ground truth of source i.

    Raises:
      InputError: The config names something that does not exist, or parts that do not go together.
    """

    config: Config
    paired: bool = False

    def __post_init__(self) -> None:
        """Builds all parts and checks them against each other, by shape, before anything is computed."""
        cfg = self.config
        if cfg.conditional and not self.paired:
            raise types.InputError("conditional=True needs paired data: D(x, y) has no meaning without pairs")
        if cfg.conditional and cfg.pool_size:
            raise types.InputError(f"pool_size={cfg.pool_size} does not go with conditional=True: set it to 0")
        if losses.needs(self.objective, "structure") and self.structures is None:
            raise types.InputError(
                f"a loss compares with the structure asked for, and generator {cfg.generator.name!r} takes none: "
                "set generator=any_style, or leave the loss out"
            )
        # Metrics that do not exist, or that this data cannot give, are refused before training.
        metrics.of_round(
            cfg.metrics,
            [target.metric for target in self.targets],
            side=cfg.round_size or cfg.image_size,
            paired=self.paired,
            cycled=self.cycled,
        )
        for name, layers in self._layers_by_network.items():
            features.check(name, sorted(layers), self.frozen[name])
        _ = self.gen_tx, self.disc_tx, self.heads
        try:
            key = jax.random.key(0)
            self._check_encoder(jax.eval_shape(self.init_generator, key, self.initial["gen"]))
            jax.eval_shape(self.init_discriminator, key, self.initial["disc"])
        except types.InputError:
            raise
        except ValueError as error:
            # A network that cannot take pictures of this size says so when it is traced.
            raise types.InputError(f"image_size={cfg.image_size}: {error}") from error

    # The objective.

    @functools.cached_property
    def objective(self) -> losses.Objective:
        """The terms of the config, and those that its targets add."""
        return losses.build(self._aimed[0], paired=self.paired)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The held-out quality that rounds steer towards."""
        return self._aimed[1]

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions of translation that are trained: both if a term needs cycles."""
        return directions(self.objective)

    @property
    def cycled(self) -> bool:
        """True if both directions are trained and G'(G(x)) is computed."""
        return BACKWARD in self.directions

    @property
    def identity(self) -> bool:
        """True if G(target) is needed."""
        return losses.needs(self.objective, "identity")

    @property
    def adversarial(self) -> bool:
        """True if a discriminator is trained."""
        return losses.needs(self.objective, "logits")

    @property
    def activations(self) -> bool:
        """True if the discriminator's inner activations are needed."""
        return losses.needs(self.objective, "activations")

    # The players.

    @functools.cached_property
    def generator(self) -> nn.Module:
        """The generator's module, the same for both directions."""
        return models.build_generator(self.config)

    @property
    def structures(self) -> tuple[float, float] | None:
        """Lowest and highest structure that the generator is asked for; None if it takes no conditions."""
        return getattr(self.generator, "structures", None)

    @functools.cached_property
    def discriminator(self) -> nn.Module:
        """The discriminator's module, the same for both directions."""
        return models.build_discriminator(self.config)

    @functools.cached_property
    def initial(self) -> dict[str, dict[str, Any]]:
        """Variables that the networks start from in place of random ones, by player ("gen", "disc") and collection."""
        return {"gen": models.initial(self.generator), "disc": models.initial(self.discriminator)}

    @functools.cached_property
    def gen_tx(self) -> optax.GradientTransformation:
        """The generator's optimiser."""
        return optimizer.build(self.config.generator_optimizer, steps=self.config.steps)

    @functools.cached_property
    def disc_tx(self) -> optax.GradientTransformation:
        """The discriminator's optimiser."""
        return optimizer.build(self.config.discriminator_optimizer, steps=self.config.steps)

    @property
    def gen_rate(self) -> optax.Schedule:
        """The generator's learning rate by step."""
        return optimizer.learning_rate(self.config.generator_optimizer, steps=self.config.steps)

    @property
    def disc_rate(self) -> optax.Schedule:
        """The discriminator's learning rate by step."""
        return optimizer.learning_rate(self.config.discriminator_optimizer, steps=self.config.steps)

    # Frozen features, and the generator's own.

    @functools.cached_property
    def judged(self) -> tuple[str, tuple[str, ...]] | None:
        """The feature network and layers that the discriminator sees; None if it sees pixels."""
        return getattr(self.discriminator, "wants", None) if self.adversarial else None

    @functools.cached_property
    def feature_layers(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Layers that the terms and the discriminator read, by feature network and picture."""
        layers = losses.features(self.objective)
        if self.judged is not None:
            network, judged = self.judged
            pictures = layers.setdefault(network, {})
            for picture in ("fake", "target"):
                pictures[picture] = tuple(sorted({*pictures.get(picture, ()), *judged}))
        return layers

    @functools.cached_property
    def features(self) -> dict[str, Any]:
        """The feature networks of terms and discriminator, by name."""
        return {name: features.FEATURES[name]() for name in self._layers_by_network}

    @functools.cached_property
    def frozen(self) -> dict[str, Any]:
        """The parameters of the feature networks, as NumPy arrays; they enter the step as an argument."""
        return {name: features.load(name, self.config.weights.get(name)) for name in self._layers_by_network}

    @functools.cached_property
    def encoded(self) -> dict[str, tuple[str, ...]]:
        """Layers of the generator's encoder that terms read, by picture."""
        specs = [entry.term.encoder for entry in self.objective if entry.term.encoder is not None]
        if not specs:
            return {}
        name = self.config.generator.name
        if not hasattr(self.generator, "taps"):
            raise types.InputError(
                f"generator {name!r} does not show its encoder's layers, which a loss needs: choose another"
            )
        choices = {layers for _, layers in specs}
        if len(choices) > 1:
            raise types.InputError(
                f"losses ask for different layers of the generator: {sorted(choices)}; give all the same"
            )
        layers = tuple(choices.pop() or self._taps)
        return {picture: layers for pictures, _ in specs for picture in pictures}

    @functools.cached_property
    def heads(self) -> dict[str, nn.Module]:
        """Modules that are trained with the generator, by the name of their term."""
        heads: dict[str, nn.Module] = {}
        for entry in self.objective:
            head = entry.term.head
            if head is not None and heads.setdefault(entry.name, head) != head:
                raise types.InputError(f"loss {entry.label!r}: all losses of the term {entry.name!r} share one width")
        return heads

    # Initial variables, and the form for pmap.

    def init_generator(self, key: jax.Array, initial: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the first variables of a generator; those in `initial` replace random ones."""
        size = self.config.image_size
        return _replaced(self.generator.init(key, jnp.zeros((1, size, size, 3))), initial)

    def init_discriminator(self, key: jax.Array, initial: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the first variables of a discriminator; those in `initial` replace random ones."""
        size = self.config.image_size
        picture = jnp.zeros((1, size, size, 6 if self.config.conditional else 3))
        return _replaced(self.discriminator.init(key, picture, **self._zero_features(picture)), initial)

    def over(self, axis_name: str | None) -> "Recipe":
        """Returns the recipe for pmap with this axis, over which batch norm then averages."""
        if axis_name is None:
            return self
        recipe = copy.copy(self)
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        vars(recipe).update({role: _with_axis(module, axis_name) for role, module in networks.items()})
        return recipe

    @functools.cached_property
    def _aimed(self) -> tuple[dict[str, Loss], tuple[Target, ...]]:
        return aim(self.config.losses, self.config.targets)

    @functools.cached_property
    def _layers_by_network(self) -> dict[str, set[str]]:
        return {
            network: {layer for layers in pictures.values() for layer in layers}
            for network, pictures in self.feature_layers.items()
        }

    @property
    def _taps(self) -> tuple[str, ...]:
        generator: Any = self.generator
        return generator.taps

    def _zero_features(self, picture: jax.Array) -> dict[str, Any]:
        """The discriminator's inputs besides pictures, as zeros of the right shapes."""
        if self.judged is None:
            return {}
        network, layers = self.judged
        apply = functools.partial(self.features[network].apply, layers=layers)
        shapes = jax.eval_shape(apply, {"params": self.frozen[network]}, picture[..., -3:])
        return {"features": jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)}

    def _check_encoder(self, variables: Any) -> None:
        """Raises InputError if the generator lacks layers that losses read."""
        size = self.config.image_size
        for taps in set(self.encoded.values()):
            encode = functools.partial(self.generator.apply, taps=taps)
            missing = set(taps) - set(jax.eval_shape(encode, variables, jnp.zeros((1, size, size, 3))))
            if missing:
                raise types.InputError(
                    f"generator {self.config.generator.name!r} has no layer {min(missing)!r}; "
                    f"it has: {', '.join(self._taps)}"
                )


def directions(objective: losses.Objective) -> tuple[str, ...]:
    """Returns the directions of translation that an objective trains: both if a term needs cycles."""
    return (FORWARD, BACKWARD) if losses.needs(objective, "cycled") else (FORWARD,)


def _replaced(variables: Any, initial: Mapping[str, Any]) -> dict[str, Any]:
    """The variables with those in `initial` in place of the random ones; ValueError if their shapes differ."""

    def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **old,
            **{k: merge(old[k], v) if isinstance(v, Mapping) else leaf(k, old[k], v) for k, v in new.items()},
        }

    def leaf(name: str, old: jax.Array, new: Any) -> jax.Array:
        if old.shape != new.shape:
            raise ValueError(f"weights give {name!r} the shape {new.shape}, the network's has {old.shape}")
        return jnp.asarray(new)

    return merge(variables, initial)


def _with_axis(module: nn.Module, axis_name: str) -> nn.Module:
    return module.clone(axis_name=axis_name) if hasattr(module, "axis_name") else module
