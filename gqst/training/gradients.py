"""The gradient of either player on a batch, or on a part of one."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gqst import types
from gqst.losses import base as losses
from gqst.models import base as models
from gqst.models import blocks
from gqst.ops import color
from gqst.training import recipes, state

Frozen = Mapping[str, Any]
Pictures = dict[str, dict[str, jax.Array]]
Features = dict[str, dict[str, dict[str, jax.Array]]]
"""Activations by network, picture and layer."""

_KEPT = {
    "blocks": jax.checkpoint_policies.save_only_these_names(blocks.KEPT),
    "all": jax.checkpoint_policies.nothing_saveable,
}
"""What a pass of the generator leaves in memory for its gradient."""


class Found(NamedTuple):
    """What a player's pass comes to; of the parts of a batch, the mean.

    Attributes:
      grads: of the loss by its parameters.
      stats: of its networks afterwards.
      metrics: the loss and its terms.
    """

    grads: Any
    stats: Mapping[str, Any]
    metrics: types.Metrics


class Made(NamedTuple):
    """What the generator's pass leaves for the discriminator's.

    Attributes:
      fakes: f32[b h w c] by direction, without gradient.
      seen: what the discriminator's feature network has seen, by direction.
    """

    fakes: dict[str, jax.Array]
    seen: dict[str, Any]


def of_generator(
    recipe: recipes.Recipe, now: state.TrainState, frozen: Frozen, batch: types.Batch, keys: jax.Array
) -> tuple[Found, Made]:
    """The generators' gradients on pictures with these keys."""
    views = _views(recipe, batch)

    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        made, stats = generate(recipe, params, now.gen.stats, views)
        loss, metrics, seen = jnp.zeros(()), dict[str, jax.Array](), {}
        for direction in recipe.directions:
            view, pictures = views[direction], made[direction]
            seen[direction] = _features(recipe, frozen, {**view, **pictures})
            logits, activations = _verdict(recipe, now.disc, frozen, direction, view, pictures, seen[direction])
            context = losses.Context(
                source=view["source"],
                target=view["target"],
                fake=pictures["fake"],
                keys=keys,
                cycled=pictures.get("cycled"),
                identity=pictures.get("identity"),
                logits=logits,
                activations=activations,
                features=seen[direction],
                frozen=frozen,
                encoded=_encode(recipe, params[direction], now.gen.stats[direction], {**view, **pictures}),
                heads=params[state.HEADS][direction] if recipe.heads else {},
            )
            loss, metrics = _add(recipe, now, context, "generator", direction, loss, metrics)
        return loss, (made, seen, stats, metrics)

    (loss, (made, seen, stats, metrics)), grads = jax.value_and_grad(loss_of, has_aux=True)(now.gen.params)
    fakes = {direction: jax.lax.stop_gradient(pictures["fake"]) for direction, pictures in made.items()}
    known = {d: features[recipe.judged[0]] for d, features in seen.items()} if recipe.judged else {}
    return Found(grads, stats, {**metrics, "loss/generator": loss}), Made(fakes, known)


def of_discriminator(
    recipe: recipes.Recipe,
    now: state.TrainState,
    frozen: Frozen,
    batch: types.Batch,
    keys: jax.Array,
    shown: Mapping[str, jax.Array],
    seen: Mapping[str, Any],
) -> Found:
    """The discriminators' gradients on pictures with these keys.

    Args:
      recipe: the static parts.
      now: the state before the step.
      frozen: the feature networks' parameters.
      batch: the pictures.
      keys: of the pictures.
      shown: the fakes that the discriminators are shown, by direction.
      seen: what their feature network has seen already, by direction and picture; it sees the others now.
    """
    views = _views(recipe, batch)

    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        loss, metrics, stats = jnp.zeros(()), dict[str, jax.Array](), {}
        for direction in recipe.directions:
            view, fake, known = views[direction], shown[direction], seen.get(direction, {})
            judge = judge_of(recipe, params[direction], now.disc.stats[direction], frozen, view["source"])
            real, stats[direction] = judge(view["target"], known.get("target"), update_stats=True)
            verdict, _ = judge(fake, known.get("fake"))
            context = losses.Context(
                source=view["source"],
                target=view["target"],
                fake=fake,
                keys=keys,
                logits=losses.Logits(fake=verdict.logits, real=real.logits),
                score=functools.partial(_score, judge),
            )
            loss, metrics = _add(recipe, now, context, "discriminator", direction, loss, metrics)
        return loss, (stats, metrics)

    (loss, (stats, metrics)), grads = jax.value_and_grad(loss_of, has_aux=True)(now.disc.params)
    return Found(grads, stats, {**metrics, "loss/discriminator": loss})


def generate(
    recipe: recipes.Recipe, params: Any, stats: Mapping[str, Any], views: Pictures
) -> tuple[Pictures, dict[str, Any]]:
    """All pictures that the terms need: by direction fake, and identity and cycled if needed; and the new stats.

    Only the sources go into the stats: they are what the generator will see when it is used.
    """
    made: Pictures = {}
    new = {}
    for direction, view in views.items():
        own = (params[direction], stats[direction])
        fake, new[direction] = _translate(recipe, *own, view["source"])
        made[direction] = {"fake": fake}
        if recipe.identity:
            made[direction]["identity"], _ = _translate(recipe, *own, view["target"])
        if recipe.keep_colors:
            made[direction] = {name: color.grey(x) for name, x in made[direction].items()}
    if recipe.cycled:
        for direction in recipe.directions:
            other = _opposite(direction)
            cycled, _ = _translate(recipe, params[other], stats[other], made[direction]["fake"])
            made[direction]["cycled"] = color.grey(cycled) if recipe.keep_colors else cycled
    return made, new


def _views(recipe: recipes.Recipe, batch: types.Batch) -> Pictures:
    """The batch as each direction sees it."""
    source, target = (color.grey(x) if recipe.keep_colors else x for x in (batch["source"], batch["target"]))
    ends, turned = {"source": source, "target": target}, {"source": target, "target": source}
    return {d: ends if d == recipes.FORWARD else turned for d in recipe.directions}


def _opposite(direction: str) -> str:
    return recipes.BACKWARD if direction == recipes.FORWARD else recipes.FORWARD


def judge_of(recipe: recipes.Recipe, params: Any, stats: Mapping[str, Any], frozen: Frozen, source: jax.Array) -> Any:
    """The discriminator as a function of pictures -> (verdict, stats).

    It takes what its feature network sees in the pictures, too, where that is known already.
    """

    def judge(pictures: jax.Array, known: Any = None, *, update_stats: bool = False) -> tuple[models.Verdict, Any]:
        seen: dict[str, Any] = {}
        if recipe.judged is not None:
            network, layers = recipe.judged
            seen["features"] = _see(recipe, frozen, network, pictures, layers) if known is None else known
        if recipe.conditional:
            pictures = jnp.concatenate([source, pictures], axis=-1)
        verdict, new = recipe.discriminator.apply(
            {"params": params, **stats}, pictures, update_stats=update_stats, mutable=list(stats), **seen
        )
        return verdict, new

    return judge


def _score(judge: Any, pictures: jax.Array) -> tuple[jax.Array, ...]:
    return judge(pictures)[0].logits


def _translate(
    recipe: recipes.Recipe, params: Any, stats: Mapping[str, Any], pictures: jax.Array, **options: Any
) -> tuple[Any, Any]:
    """What a generator makes of the pictures, and its stats after them."""
    # Only a network with averages of its own behaves differently in training.
    if stats:
        options["train"] = True

    def apply(variables: Any, pictures: jax.Array) -> tuple[Any, Any]:
        return recipe.generator.apply(variables, pictures, mutable=list(stats), **options)

    if recipe.remat != "none":
        apply = jax.checkpoint(apply, policy=_KEPT[recipe.remat])
    return apply({"params": params, **stats}, pictures)


def _encode(
    recipe: recipes.Recipe, params: Any, stats: Mapping[str, Any], pictures: Mapping[str, jax.Array]
) -> dict[str, dict[str, jax.Array]]:
    """The activations of the generator's encoder that terms look at, by picture and layer."""
    made = {}
    for name, taps in recipe.encoded.items():
        found, _ = _translate(recipe, params, stats, pictures[name], taps=taps)
        # In the order of the config: JAX sorts the names where it computes again.
        made[name] = {layer: found[layer] for layer in taps}
    return made


def _verdict(
    recipe: recipes.Recipe,
    disc: state.Player,
    frozen: Frozen,
    direction: str,
    view: Mapping[str, jax.Array],
    pictures: Mapping[str, jax.Array],
    seen: Features,
) -> tuple[losses.Logits | None, losses.Activations | None]:
    """What the discriminator tells the generator."""
    if not recipe.adversarial:
        return None, None
    judge = judge_of(recipe, disc.params[direction], disc.stats[direction], frozen, view["source"])
    known = seen[recipe.judged[0]] if recipe.judged else {}
    verdict = judge(pictures["fake"], known.get("fake"))[0]
    activations = None
    if recipe.activations:
        real = judge(view["target"], known.get("target"))[0]
        activations = losses.Activations(fake=verdict.activations, real=real.activations)
    return losses.Logits(fake=verdict.logits), activations


def _features(recipe: recipes.Recipe, frozen: Frozen, pictures: Mapping[str, jax.Array]) -> Features:
    """What terms and the discriminator look at in the frozen networks; each picture is seen once."""
    return {
        network: {name: _see(recipe, frozen, network, pictures[name], layers) for name, layers in wanted.items()}
        for network, wanted in recipe.wanted.items()
    }


def _see(
    recipe: recipes.Recipe, frozen: Frozen, network: str, pictures: jax.Array, layers: Sequence[str]
) -> dict[str, jax.Array]:
    return recipe.features[network].apply({"params": frozen[network]}, pictures, layers=layers)


def _add(
    recipe: recipes.Recipe,
    now: state.TrainState,
    context: losses.Context,
    player: losses.Player,
    direction: str,
    loss: jax.Array,
    metrics: dict[str, jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss and metrics with those of one direction added; the backward ones are named so."""
    more, named = losses.total(recipe.objective, context, player=player, step=now.step, multipliers=now.multipliers)
    if direction == recipes.BACKWARD:
        named = {f"{name}_backward": v for name, v in named.items() if name.startswith("loss/")}
    return loss + more, metrics | named
