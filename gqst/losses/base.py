"""The contract of a loss term, its registry, and the one place that weighs and averages."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct

from gqst import config, registry, types

Player = Literal["generator", "discriminator"]
Need = Literal["cycled", "identity", "logits", "paired"]


class Logits(struct.PyTreeNode):
    """What the discriminator says: one f32[b h' w' 1] for each of its scales.

    Attributes:
      fake: of the fakes; in a generator's term the gradient goes through them to the generator.
      real: of the targets; only in a discriminator's term.
    """

    fake: tuple[jax.Array, ...]
    real: tuple[jax.Array, ...] | None = None


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
      score: the discriminator as a function of pictures; only in a discriminator's term.
    """

    source: jax.Array
    target: jax.Array
    fake: jax.Array
    keys: jax.Array
    cycled: jax.Array | None = None
    identity: jax.Array | None = None
    logits: Logits | None = None
    score: Callable[[jax.Array], tuple[jax.Array, ...]] | None = struct.field(pytree_node=False, default=None)


TERMS = registry.Registry("loss")
"""Functions (Context, *, options) -> f32[b], added by `term`."""


def term(
    name: str,
    *,
    needs: tuple[Need, ...] | Callable[..., tuple[Need, ...]] = (),
    player: Player = "generator",
    opponent: Callable[..., jax.Array] | None = None,
    steered: bool = False,
) -> Callable[[Callable[..., jax.Array]], Callable[..., jax.Array]]:
    """Decorator that registers a term.

    Args:
      name: what a config calls it.
      needs: what the step has to compute for it, or a function of its options that says so.
      player: whose loss it is part of.
      opponent: the discriminator's term that goes with a generator's, with the same options.
      steered: whether a multiplier in the train state scales its weight, so that quality can steer it.
    """

    def add(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        TERMS.register(name)(function)
        vars(function).update(needs=needs, player=player, opponent=opponent, steered=steered)
        return function

    return add


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bound:
    """A term with its options and weight, ready to be called.

    Attributes:
      label: its key in `Config.losses`.
      function: Context -> f32[b].
      weight: of the config.
      player: whose loss it is part of.
      needs: what the step has to compute for it.
      steered: whether a multiplier scales its weight.
      options: of the config.
    """

    label: str
    function: Callable[[Context], jax.Array]
    weight: config.Weight
    player: Player
    needs: frozenset[str]
    steered: bool
    options: Mapping[str, Any]


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
    return tuple(bound)


def needs(objective: Sequence[Bound], need: Need) -> bool:
    """Whether a generator's term needs it."""
    return any(need in b.needs for b in objective if b.player == "generator")


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
        mean = jnp.mean(entry.function(context).astype(jnp.float32))
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
            function=functools.partial(function, **chosen.options),
            weight=entry.weight,
            player=function.player,
            needs=frozenset(wanted),
            steered=function.steered,
            options=chosen.options,
        )
    ]
    if function.opponent is not None:
        against = functools.partial(function.opponent, **chosen.options)
        made.append(dataclasses.replace(made[0], function=against, player="discriminator", steered=False))
    return made
