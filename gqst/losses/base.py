"""The contract of a loss term, its registry, and the one place that weighs and averages."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from gqst import config, registry, types

Player = Literal["generator", "discriminator"]
Need = Literal["cycled", "identity", "logits", "activations", "paired"]
Picture = Literal["source", "target", "fake", "identity"]


class Want(NamedTuple):
    """Activations of a frozen feature network that a generator's term looks at.

    Attributes:
      network: its name in the registry of feature networks.
      picture: of what.
      layers: names of its layers.
    """

    network: str
    picture: Picture
    layers: tuple[str, ...]


class Logits(struct.PyTreeNode):
    """What the discriminator says: one f32[b h' w' 1] for each of its scales.

    Attributes:
      fake: of the fakes; in a generator's term the gradient goes through them to the generator.
      real: of the targets; only in a discriminator's term.
    """

    fake: tuple[jax.Array, ...]
    real: tuple[jax.Array, ...] | None = None


class Activations(struct.PyTreeNode):
    """The discriminator's inner activations, f32[b h' w' c], for each scale and layer.

    Attributes:
      fake: of the fakes; the gradient goes through them to the generator.
      real: of the targets.
    """

    fake: tuple[tuple[jax.Array, ...], ...]
    real: tuple[tuple[jax.Array, ...], ...]


class Context(struct.PyTreeNode):
    """What a term may look at, for one direction of translation; pictures are f32[b h w c] in [0, 1].

    Attributes:
      source: the pictures that were translated.
      target: of the style domain; the truths of `source` when the data is paired.
      fake: G(source); in a discriminator's term maybe past ones from the pool, without gradient.
      keys: a random key for each picture, the same however the batch is spread over devices.
      cycled: G'(G(source)); there if a term needs "cycled".
      identity: G(target); there if a term needs "identity".
      logits: there if a term needs "logits", and in every discriminator's term.
      activations: there if a term needs "activations".
      features: f32[b h' w' c] by network, picture and layer, as far as terms want them.
      frozen: the parameters of the feature networks, by name.
      encoded: f32[b h' w' c] by picture and layer of the generator's own encoder, as far as terms want them.
      heads: the parameters of the modules that are trained with the generator, by the name of their term.
      score: the discriminator as a function of pictures; only in a discriminator's term.
    """

    source: jax.Array
    target: jax.Array
    fake: jax.Array
    keys: jax.Array
    cycled: jax.Array | None = None
    identity: jax.Array | None = None
    logits: Logits | None = None
    activations: Activations | None = None
    features: Mapping[str, Mapping[str, Mapping[str, jax.Array]]] = struct.field(default_factory=dict)
    frozen: Mapping[str, Any] = struct.field(default_factory=dict)
    encoded: Mapping[str, Mapping[str, jax.Array]] = struct.field(default_factory=dict)
    heads: Mapping[str, Any] = struct.field(default_factory=dict)
    score: Callable[[jax.Array], tuple[jax.Array, ...]] | None = struct.field(pytree_node=False, default=None)


TERMS = registry.Registry("loss")
"""Functions (Context, *, options) -> f32[b], added by `term`."""


def term(
    name: str,
    *,
    needs: tuple[Need, ...] | Callable[..., tuple[Need, ...]] = (),
    wants: Callable[..., tuple[Want, ...]] | None = None,
    encodes: Callable[..., tuple[tuple[Picture, ...], tuple[str, ...]]] | None = None,
    head: Callable[..., nn.Module] | None = None,
    player: Player = "generator",
    opponent: Callable[..., jax.Array] | None = None,
    steered: bool = False,
) -> Callable[[Callable[..., jax.Array]], Callable[..., jax.Array]]:
    """Decorator that registers a term.

    Args:
      name: what a config calls it.
      needs: what the step has to compute for it, or a function of its options that says so.
      wants: a function of its options that says which features it looks at.
      encodes: a function of its options that says which pictures the generator's encoder has to see for it, and
        which of its layers; no layers are those that the generator names itself.
      head: a function of its options that makes a linen module, trained with the generator, one for all entries
        of the term. The term is then called with it as a second argument.
      player: whose loss it is part of.
      opponent: the discriminator's term that goes with a generator's, with the same options.
      steered: whether a multiplier in the train state scales its weight, so that quality can steer it.
    """

    def add(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        TERMS.register(name)(function)
        vars(function).update(
            needs=needs, wants=wants, encodes=encodes, head=head, player=player, opponent=opponent, steered=steered
        )
        return function

    return add


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bound:
    """A term with its options and weight, ready to be called.

    Attributes:
      label: its key in `Config.losses`.
      term: its name in the registry.
      function: Context -> f32[b], or with the head as a second argument.
      weight: of the config.
      player: whose loss it is part of.
      needs: what the step has to compute for it.
      wants: the features that it looks at.
      encodes: pictures and layers of the generator's encoder that it looks at.
      head: the module that is trained with the generator for it.
      steered: whether a multiplier scales its weight.
      options: of the config.
    """

    label: str
    term: str
    function: Callable[..., jax.Array]
    weight: config.Weight
    player: Player
    needs: frozenset[str]
    wants: tuple[Want, ...]
    encodes: tuple[tuple[Picture, ...], tuple[str, ...]] | None
    head: nn.Module | None
    steered: bool
    options: Mapping[str, Any]

    def __call__(self, context: Context) -> jax.Array:
        """The term's value of each picture, f32[b]."""
        if self.head is None:
            return self.function(context)
        return self.function(context, functools.partial(self.head.apply, {"params": context.heads[self.term]}))


Objective = tuple[Bound, ...]


def build(losses: Mapping[str, config.Loss], *, paired: bool) -> Objective:
    """The terms of a config that have a weight, the discriminator's beside the generator's.

    Raises:
      InputError: an absent term or option, a value that does not fit, a term that needs paired data where
        there is none, or no term for the generator at all.
    """
    bound: list[Bound] = []
    for label, entry in losses.items():
        if label in ("generator", "discriminator"):
            raise types.InputError(f"loss label {label!r} is the name of a player's total: choose another")
        if not entry.on:
            TERMS.check(_choice(label, entry))
            continue
        bound.extend(_bind(label, entry, paired=paired))
    if not any(b.player == "generator" for b in bound):
        raise types.InputError("losses has no term with a weight for the generator: add one")
    if any(b.player == "discriminator" for b in bound) and not needs(bound, "logits"):
        raise types.InputError(
            "losses has a term for the discriminator but none by which the generator hears of it: add `adversarial`"
        )
    if needs(bound, "activations") and not needs(bound, "logits"):
        raise types.InputError(
            "losses has discriminator_perceptual but nothing that trains the discriminator: add `adversarial`"
        )
    return tuple(bound)


def needs(objective: Sequence[Bound], need: Need) -> bool:
    """Whether a generator's term needs it."""
    return any(need in b.needs for b in objective if b.player == "generator")


def wants(objective: Sequence[Bound]) -> dict[str, dict[str, tuple[str, ...]]]:
    """All features that the terms look at: names of layers by network and picture."""
    found: dict[str, dict[str, set[str]]] = {}
    for want in (want for entry in objective for want in entry.wants):
        found.setdefault(want.network, {}).setdefault(want.picture, set()).update(want.layers)
    return {n: {p: tuple(sorted(layers)) for p, layers in pictures.items()} for n, pictures in found.items()}


def steered(objective: Sequence[Bound]) -> tuple[str, ...]:
    """The labels of the terms whose weight a multiplier scales."""
    return tuple(b.label for b in objective if b.steered)


def total(
    objective: Sequence[Bound],
    context: Context,
    *,
    player: Player,
    step: jax.Array,
    multipliers: Mapping[str, jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """A player's loss over the local batch, and each term's unweighted mean as `loss/<label>`."""
    loss = jnp.zeros((), jnp.float32)
    metrics = {}
    for entry in objective:
        if entry.player != player:
            continue
        mean = jnp.mean(entry(context).astype(jnp.float32))
        weight = schedule(entry.weight, step)
        if entry.steered:
            weight = weight * multipliers[entry.label]
            metrics[f"weight/{entry.label}"] = weight
        loss = loss + weight * mean
        metrics[f"loss/{entry.label}" + ("_discriminator" if player == "discriminator" else "")] = mean
    return loss, metrics


def schedule(weight: config.Weight, step: jax.Array) -> jax.Array:
    """The weight at a step: a number, or knots with straight lines between, level outside."""
    if not isinstance(weight, tuple):
        return jnp.asarray(weight, jnp.float32)
    steps, values = zip(*weight, strict=True)
    return jnp.interp(step.astype(jnp.float32), jnp.asarray(steps, jnp.float32), jnp.asarray(values, jnp.float32))


def mean_per_picture(x: jax.Array) -> jax.Array:
    """The mean over all axes but the first, f32[b]."""
    return jnp.mean(x.astype(jnp.float32), axis=tuple(range(1, x.ndim)))


def _choice(label: str, entry: config.Loss) -> config.Choice:
    return config.Choice(name=entry.term or label, options=entry.options)


def _bind(label: str, entry: config.Loss, *, paired: bool) -> list[Bound]:
    chosen = _choice(label, entry)
    TERMS.check(chosen)
    function: Any = TERMS[chosen.name]
    wanted = function.needs(**chosen.options) if callable(function.needs) else function.needs
    if "paired" in wanted and not paired:
        raise types.InputError(
            f"loss {label!r} compares fakes with their own targets and needs paired data; this data is unpaired"
        )
    made = [
        Bound(
            label=label,
            term=chosen.name,
            function=functools.partial(function, **chosen.options),
            weight=entry.weight,
            player=function.player,
            needs=frozenset(wanted),
            wants=() if function.wants is None else function.wants(**chosen.options),
            encodes=None if function.encodes is None else function.encodes(**chosen.options),
            head=None if function.head is None else function.head(**chosen.options),
            steered=function.steered,
            options=chosen.options,
        )
    ]
    if function.opponent is not None:
        against = functools.partial(function.opponent, **chosen.options)
        made.append(dataclasses.replace(made[0], function=against, player="discriminator", wants=(), steered=False))
    return made
