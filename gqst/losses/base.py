"""The contract of a loss term, the registry of terms, and the one place that weighs and averages them."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from gqst import config, registry, types

Player = Literal["generator", "discriminator"]
Need = Literal["cycled", "identity", "logits", "activations", "paired", "structure"]
Picture = Literal["source", "target", "fake", "identity"]


class Logits(struct.PyTreeNode):
    """Logits of the discriminator, one f32[b h' w' 1] for each of its scales.

    Attributes:
      fake: Logits of the fakes; in a generator's term, gradients flow through them to the generator.
      real: Logits of the targets; only set for a discriminator's term.
    """

    fake: tuple[jax.Array, ...]
    real: tuple[jax.Array, ...] | None = None


class Activations(struct.PyTreeNode):
    """Inner activations of the discriminator, f32[b h' w' c], for each scale and layer.

    Attributes:
      fake: Activations on the fakes; gradients flow through them to the generator.
      real: Activations on the targets.
    """

    fake: tuple[tuple[jax.Array, ...], ...]
    real: tuple[tuple[jax.Array, ...], ...]


class Context(struct.PyTreeNode):
    """Everything that a term may read, for one direction of translation; pictures are f32[b h w c] in [0, 1].

    A training step fills in what the terms of its objective need. A context can also be built by hand, from JAX or
    NumPy arrays, with just the fields that a term reads.

    Attributes:
      source: Pictures that were translated.
      target: Pictures of the style domain; the ground truth of `source` if the data is paired.
      fake: G(source); in a discriminator's term possibly past fakes from the pool, without gradient.
      keys: One random key for each picture, independent of how the batch is spread over devices.
      structure: contrast_structure that the generator was asked for, f32[b], if it takes conditions.
      cycled: G'(G(source)), if a term needs "cycled".
      identity: G(target), if a term needs "identity".
      logits: Logits of the discriminator, if a term needs "logits", and in every discriminator's term.
      activations: Activations of the discriminator, if a term needs "activations".
      features: Features in frozen networks, f32[b h' w' c] by network, `FeatureSpec.view` and layer, as listed in
        `Term.features`.
      frozen: Parameters of the frozen networks by name.
      encoded: Activations of the generator's encoder, f32[b h' w' c] by picture and layer, as listed in `Term.encoder`.
      heads: Parameters of the terms' heads, by the names under which the terms are registered.
      score: The discriminator as a function of pictures; only set for a discriminator's term.
    """

    source: jax.Array
    target: jax.Array
    fake: jax.Array
    keys: jax.Array | None = None
    structure: jax.Array | None = None
    cycled: jax.Array | None = None
    identity: jax.Array | None = None
    logits: Logits | None = None
    activations: Activations | None = None
    features: Mapping[str, Mapping[str, Mapping[str, jax.Array]]] = struct.field(default_factory=dict)
    frozen: Mapping[str, Any] = struct.field(default_factory=dict)
    encoded: Mapping[str, Mapping[str, jax.Array]] = struct.field(default_factory=dict)
    heads: Mapping[str, Any] = struct.field(default_factory=dict)
    score: Callable[[jax.Array], tuple[jax.Array, ...]] | None = struct.field(pytree_node=False, default=None)


class FeatureSpec(NamedTuple):
    """Features in a frozen network that a term of the generator reads.

    Attributes:
      network: Name of the network in the registry of feature networks.
      picture: Picture that the network is applied to.
      layers: Names of the layers.
      halvings: Number of times that the picture is halved before.
    """

    network: str
    picture: Picture
    layers: tuple[str, ...]
    halvings: int = 0

    @property
    def view(self) -> str:
        """Name under which a context holds the features: that of the picture, or with halvings as in `fake/1`."""
        return f"{self.picture}/{self.halvings}" if self.halvings else self.picture


class EncoderSpec(NamedTuple):
    """Activations of the generator's own encoder that a term of the generator reads.

    Attributes:
      pictures: Pictures that the encoder is applied to.
      layers: Names of the layers; if empty, those that the generator itself proposes.
    """

    pictures: tuple[Picture, ...]
    layers: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term(abc.ABC):
    """A term of the objective: a frozen dataclass whose fields are its options.

    A new term is a subclass in one file; once registered, a config uses it by name:

        @base.TERMS.register("brightness")
        @dataclasses.dataclass(frozen=True, kw_only=True)
        class Brightness(base.Term):
            goal: float = 0.5

            def __call__(self, context):
                return jnp.abs(base.mean_per_picture(context.fake) - self.goal)

    The attributes below declare what the term needs; the step computes nothing else. A subclass overrides them with a
    class attribute, or with a property if the answer depends on its options.

    Attributes:
      player: Player whose loss the term is part of.
      steered: Whether a multiplier in the train state scales the weight, so that rounds can steer quality.
    """

    player: ClassVar[Player] = "generator"
    steered: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, context: Context) -> Float[Array, "b"]:
        """Returns the loss of each picture, f32[b]."""

    @property
    def needs(self) -> frozenset[Need]:
        """Optional fields of the context that the step has to fill in; "paired" asks for paired data."""
        return frozenset()

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """Features in frozen networks; only a generator's term has any."""
        return ()

    @property
    def encoder(self) -> EncoderSpec | None:
        """Activations of the generator's own encoder; only a generator's term has any."""
        return None

    @property
    def head(self) -> nn.Module | None:
        """Module that is trained with the generator, shared by all entries of the term.

        It is initialised on activations f32[1 1 c] by layer of `encoder`.
        """
        return None

    @property
    def opponent(self) -> "Term | None":
        """The discriminator's term that belongs to this term of the generator."""
        return None


TERMS = registry.Registry("loss")
"""Subclasses of `Term` by the name that a config uses."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A term with its place in an objective.

    Attributes:
      label: Key in `Config.losses`; the metrics are `loss/<label>` and `weight/<label>`.
      name: Name of the term in the registry.
      term: The term with its options.
      weight: Number, or knots ((step, weight), ...).
    """

    label: str
    name: str
    term: Term
    weight: config.Weight


Objective = tuple[Entry, ...]


def build(losses: Mapping[str, config.Loss], *, paired: bool) -> Objective:
    """Returns the entries of a config that have a weight, each followed by its opponent.

    Raises:
      InputError: An unknown term or option, a value that does not fit, a term that needs paired data when the data is
        unpaired, or no term for the generator at all.
    """
    objective: list[Entry] = []
    for label, loss in losses.items():
        if label in ("generator", "discriminator"):
            raise types.InputError(f"loss label {label!r} is the name of a player's total: choose another")
        choice = config.Choice(name=loss.term or label, options=loss.options)
        if not loss.on:
            TERMS.check(choice)
            continue
        term: Term = TERMS.build(choice)
        if "paired" in term.needs and not paired:
            raise types.InputError(
                f"loss {label!r} compares fakes with their own targets and needs paired data; this data is unpaired"
            )
        entry = Entry(label=label, name=choice.name, term=term, weight=loss.weight)
        objective.append(entry)
        if term.opponent is not None:
            objective.append(dataclasses.replace(entry, term=term.opponent))
    if not any(entry.term.player == "generator" for entry in objective):
        raise types.InputError("losses has no term with a weight for the generator: add one")
    if any(entry.term.player == "discriminator" for entry in objective) and not needs(objective, "logits"):
        raise types.InputError(
            "losses trains the discriminator but has no term that takes its verdict to the generator: add `adversarial`"
        )
    if needs(objective, "activations") and not needs(objective, "logits"):
        raise types.InputError(
            "losses has discriminator_perceptual but nothing that trains the discriminator: add `adversarial`"
        )
    return tuple(objective)


def needs(objective: Sequence[Entry], need: Need) -> bool:
    """Returns True if a term of the generator has this need."""
    return any(need in entry.term.needs for entry in objective if entry.term.player == "generator")


def features(objective: Sequence[Entry]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Returns all features that the terms read: names of layers by network and view of a picture."""
    layers: dict[str, dict[str, set[str]]] = {}
    for spec in (spec for entry in objective for spec in entry.term.features):
        layers.setdefault(spec.network, {}).setdefault(spec.view, set()).update(spec.layers)
    return {
        network: {picture: tuple(sorted(names)) for picture, names in pictures.items()}
        for network, pictures in layers.items()
    }


def steered(objective: Sequence[Entry]) -> tuple[str, ...]:
    """Returns the labels of the entries whose weight a multiplier scales."""
    return tuple(entry.label for entry in objective if entry.term.steered)


def total(
    objective: Sequence[Entry],
    context: Context,
    *,
    player: Player,
    step: jax.Array,
    multipliers: Mapping[str, jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns a player's loss over the local batch, and its metrics.

    Args:
      objective: Entries of both players.
      context: Pictures, and what else the terms read.
      player: Player whose terms are summed.
      step: Training step, for weights that follow a schedule.
      multipliers: Factors on the weights of steered entries, by label.

    Returns:
      The weighted sum of the terms' means over the batch; and by name each term's mean without its weight, as
      `loss/<label>` (`loss/<label>_discriminator` for the discriminator), and the weight of each steered entry, as
      `weight/<label>`.
    """
    loss = jnp.zeros((), jnp.float32)
    metrics = {}
    for entry in objective:
        if entry.term.player != player:
            continue
        mean = jnp.mean(entry.term(context).astype(jnp.float32))
        weight = schedule(entry.weight, step)
        if entry.term.steered:
            weight = weight * multipliers[entry.label]
            metrics[f"weight/{entry.label}"] = weight
        loss = loss + weight * mean
        metrics[f"loss/{entry.label}" + ("_discriminator" if player == "discriminator" else "")] = mean
    return loss, metrics


def schedule(weight: config.Weight, step: jax.Array) -> jax.Array:
    """Returns the weight at a step; it is linear between knots, and constant before the first and after the last."""
    if not isinstance(weight, tuple):
        return jnp.asarray(weight, jnp.float32)
    steps, values = zip(*weight, strict=True)
    return jnp.interp(step.astype(jnp.float32), jnp.asarray(steps, jnp.float32), jnp.asarray(values, jnp.float32))


def mean_per_picture(x: jax.Array) -> Float[Array, "b"]:
    """Returns the mean over all axes but the first, f32[b]."""
    return jnp.mean(x.astype(jnp.float32), axis=tuple(range(1, x.ndim)))
