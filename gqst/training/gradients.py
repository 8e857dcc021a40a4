"""The gradient of either player on a batch, or on a part of one."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gqst import types
from gqst.losses import base as losses
from gqst.models import base as models
from gqst.models import blocks, conditions, noise
from gqst.models.features import base as networks
from gqst.ops import color
from gqst.training.recipe import BACKWARD, FORWARD, Recipe
from gqst.training.state import HEADS, Player, TrainState

Frozen = Mapping[str, Any]
"""Parameters of the feature networks by name."""

Views = dict[str, dict[str, jax.Array]]
"""Pictures f32[b h w c] by direction and name."""

Features = dict[str, dict[str, dict[str, jax.Array]]]
"""Activations by network, picture and layer."""

_STRUCTURE = 1
_REMAT_POLICIES = {
    "blocks": jax.checkpoint_policies.save_only_these_names(blocks.KEPT),
    "all": jax.checkpoint_policies.nothing_saveable,
}
"""Activations that a pass of the generator keeps for its gradient, by `Config.remat`."""


class Gradients(NamedTuple):
    """The result of a player's pass over a batch, or the mean of those over its parts.

    Attributes:
      grads: Gradient of the loss by the player's parameters.
      stats: The other variables of its networks after the pass.
      metrics: The loss and its terms.
    """

    grads: Any
    stats: Mapping[str, Any]
    metrics: types.Metrics


class Fakes(NamedTuple):
    """Results of the generator's pass that the discriminator's pass reuses.

    Attributes:
      pictures: Fakes f32[b h w c] by direction, without gradient.
      features: Activations of the discriminator's feature network by direction, picture and layer; only those that
        need not be computed again.
    """

    pictures: Mapping[str, jax.Array]
    features: Mapping[str, Any]


def of_generator(
    recipe: Recipe, state: TrainState, frozen: Frozen, batch: types.Batch, keys: jax.Array
) -> tuple[Gradients, Fakes]:
    """Returns the generators' gradients on pictures with these keys, and their fakes."""
    views = _views(recipe, batch)

    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        # What a style is told as follows from the parameters too.
        asked = _asked(recipe, params, views, keys)
        outputs, stats = generate(recipe, params, state.gen.stats, views, keys, asked)
        loss, metrics, features = jnp.zeros(()), dict[str, jax.Array](), {}
        for direction in recipe.directions:
            view, pictures = views[direction], outputs[direction]
            features[direction] = _features(recipe, frozen, {**view, **pictures})
            logits, activations = _verdict(recipe, state.disc, frozen, direction, view, pictures, features[direction])
            context = losses.Context(
                source=view["source"],
                target=view["target"],
                fake=pictures["fake"],
                keys=keys,
                structure=asked[direction].structure if asked else None,
                cycled=pictures.get("cycled"),
                identity=pictures.get("identity"),
                logits=logits,
                activations=activations,
                features=features[direction],
                frozen=frozen,
                encoded=_encode(
                    recipe,
                    params[direction],
                    state.gen.stats[direction],
                    {**view, **pictures},
                    keys,
                    asked=asked.get(direction),
                ),
                heads=params[HEADS][direction] if recipe.heads else {},
            )
            loss, metrics = _add(recipe, state, context, "generator", direction, loss, metrics)
        return loss, (outputs, features, stats, metrics)

    (loss, (outputs, features, stats, metrics)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.gen.params)
    fakes = {direction: jax.lax.stop_gradient(pictures["fake"]) for direction, pictures in outputs.items()}
    judged = {d: seen[recipe.judged[0]] for d, seen in features.items()} if recipe.judged else {}
    return Gradients(grads, stats, {**metrics, "loss/generator": loss}), Fakes(fakes, judged)


def of_discriminator(
    recipe: Recipe, state: TrainState, frozen: Frozen, batch: types.Batch, keys: jax.Array, fakes: Fakes
) -> Gradients:
    """Returns the discriminators' gradients on pictures with these keys.

    Args:
      recipe: Static parts of the step.
      state: State before the step.
      frozen: Parameters of the feature networks.
      batch: Pictures of both domains.
      keys: Random key of each picture.
      fakes: Fakes that the discriminators are shown, and features that need not be computed again.
    """
    views = _views(recipe, batch)

    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        loss, metrics, stats = jnp.zeros(()), dict[str, jax.Array](), {}
        for direction in recipe.directions:
            view, fake = views[direction], fakes.pictures[direction]
            features = fakes.features.get(direction, {})
            judge = judge_of(recipe, params[direction], state.disc.stats[direction], frozen, view["source"])
            real, stats[direction] = judge(view["target"], features.get("target"), update_stats=True)
            verdict, _ = judge(fake, features.get("fake"))
            context = losses.Context(
                source=view["source"],
                target=view["target"],
                fake=fake,
                keys=keys,
                logits=losses.Logits(fake=verdict.logits, real=real.logits),
                score=functools.partial(_score, judge),
            )
            loss, metrics = _add(recipe, state, context, "discriminator", direction, loss, metrics)
        return loss, (stats, metrics)

    (loss, (stats, metrics)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.disc.params)
    return Gradients(grads, stats, {**metrics, "loss/discriminator": loss})


def generate(
    recipe: Recipe,
    params: Any,
    stats: Mapping[str, Any],
    views: Views,
    keys: jax.Array,
    asked: Mapping[str, conditions.Conditions] | None = None,
) -> tuple[Views, dict[str, Any]]:
    """Returns all pictures that the terms need, and the stats afterwards.

    By direction these are `fake`, and `identity` and `cycled` if needed. Only the pass over the sources updates the
    stats, because sources are what the generator sees at inference. `asked` holds the conditions of each direction, if
    the generator takes any.
    """
    asked = asked or {}
    outputs: Views = {}
    new_stats = {}
    for direction, view in views.items():
        variables = (params[direction], stats[direction])
        inputs = {"fake": view["source"]} | ({"identity": view["target"]} if recipe.identity else {})
        outputs[direction], new_stats[direction] = _translate_all(
            recipe, *variables, inputs, keys, asked=asked.get(direction)
        )
        if recipe.config.keep_colors:
            outputs[direction] = {name: color.grey(x) for name, x in outputs[direction].items()}
    if recipe.cycled:
        for direction in recipe.directions:
            opposite = BACKWARD if direction == FORWARD else FORWARD
            variables, fake = (params[opposite], stats[opposite]), outputs[direction]["fake"]
            cycled, _ = _translate(recipe, *variables, fake, keys, asked=asked.get(opposite))
            outputs[direction]["cycled"] = color.grey(cycled) if recipe.config.keep_colors else cycled
    return outputs, new_stats


def judge_of(recipe: Recipe, params: Any, stats: Mapping[str, Any], frozen: Frozen, source: jax.Array) -> Any:
    """Returns the discriminator as a function of pictures -> (verdict, stats).

    The function also takes the activations of its feature network, if they are computed already.
    """

    def judge(pictures: jax.Array, features: Any = None, *, update_stats: bool = False) -> tuple[models.Verdict, Any]:
        inputs: dict[str, Any] = {}
        if recipe.judged is not None:
            network, layers = recipe.judged
            inputs["features"] = _apply(recipe, frozen, network, pictures, layers) if features is None else features
        if recipe.config.conditional:
            pictures = jnp.concatenate([source, pictures], axis=-1)
        return recipe.discriminator.apply(
            {"params": params, **stats}, pictures, update_stats=update_stats, mutable=list(stats), **inputs
        )

    return judge


def _views(recipe: Recipe, batch: types.Batch) -> Views:
    """The batch by direction of translation, with source and target swapped for the backward one."""
    grey = recipe.config.keep_colors
    source, target = (color.grey(x) if grey else x for x in (batch["source"], batch["target"]))
    views = {FORWARD: {"source": source, "target": target}, BACKWARD: {"source": target, "target": source}}
    return {direction: views[direction] for direction in recipe.directions}


def _asked(recipe: Recipe, params: Any, views: Views, keys: jax.Array) -> dict[str, conditions.Conditions]:
    """The conditions of each direction: the styles of its targets, and structures drawn at random."""
    if recipe.structures is None:
        return {}
    low, high = recipe.structures
    # Not the bits that noise takes from the keys themselves.
    draws = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, _STRUCTURE), minval=low, maxval=high))
    return {
        direction: conditions.Conditions(
            conditions.style_of(recipe.generator, {"params": params[direction]}, view["target"]), draws(keys)
        )
        for direction, view in views.items()
    }


def _score(judge: Any, pictures: jax.Array) -> tuple[jax.Array, ...]:
    return judge(pictures)[0].logits


def _translate(
    recipe: Recipe,
    params: Any,
    stats: Mapping[str, Any],
    pictures: jax.Array,
    keys: jax.Array,
    *,
    asked: conditions.Conditions | None,
    **options: Any,
) -> tuple[Any, Any]:
    """The generator's output for the pictures, and its stats afterwards."""
    # Only networks with running statistics behave differently in training.
    if stats:
        options["train"] = True

    remat = recipe.config.remat != "none"

    def apply(variables: Any, pictures: jax.Array) -> tuple[Any, Any]:
        # A loop over the blocks would be recomputed at once, with the activations of all of them.
        with blocks.unrolled(remat):
            return recipe.generator.apply(variables, pictures, mutable=list(stats), **options)

    if remat:
        apply = jax.checkpoint(apply, policy=_REMAT_POLICIES[recipe.config.remat])
    variables = {"params": params, **stats}
    if getattr(recipe.generator, "noise", False):
        variables = noise.seeded(variables, jax.vmap(jax.random.bits)(keys))
    if asked is not None:
        variables = conditions.conditioned(variables, asked)
    return apply(variables, pictures)


def _translate_all(
    recipe: Recipe,
    params: Any,
    stats: Mapping[str, Any],
    inputs: Mapping[str, jax.Array],
    keys: jax.Array,
    *,
    asked: conditions.Conditions | None,
) -> tuple[dict[str, jax.Array], Any]:
    """The generator's outputs for several pictures by name, and its stats after the first one.

    One pass over all of them is a smaller program to compile than a pass over each.
    """
    count = len(inputs)
    if stats or recipe.config.remat != "none":
        # Statistics of a batch are those of pictures of one domain, and each pass is recomputed by itself.
        passes = [_translate(recipe, params, stats, x, keys, asked=asked) for x in inputs.values()]
        return {name: output for name, (output, _) in zip(inputs, passes, strict=True)}, passes[0][1]
    # What belongs to one key stays together, and so on one device.
    pictures = jnp.stack(list(inputs.values()), axis=1)
    keys, asked = jax.tree.map(lambda rows: jnp.repeat(rows, count, axis=0), (keys, asked))
    output, new_stats = _translate(recipe, params, stats, jax.lax.collapse(pictures, 0, 2), keys, asked=asked)
    output = output.reshape(-1, count, *output.shape[1:])
    return {name: output[:, i] for i, name in enumerate(inputs)}, new_stats


def _encode(
    recipe: Recipe,
    params: Any,
    stats: Mapping[str, Any],
    pictures: Mapping[str, jax.Array],
    keys: jax.Array,
    *,
    asked: conditions.Conditions | None,
) -> dict[str, dict[str, jax.Array]]:
    """The activations of the generator's encoder that terms read, by picture and layer."""
    encoded = {}
    for name, taps in recipe.encoded.items():
        activations, _ = _translate(recipe, params, stats, pictures[name], keys, asked=asked, taps=taps)
        # In the order of the config, because jax.checkpoint returns dictionaries sorted by name.
        encoded[name] = {layer: activations[layer] for layer in taps}
    return encoded


def _verdict(
    recipe: Recipe,
    disc: Player,
    frozen: Frozen,
    direction: str,
    view: Mapping[str, jax.Array],
    pictures: Mapping[str, jax.Array],
    features: Features,
) -> tuple[losses.Logits | None, losses.Activations | None]:
    """The discriminator's logits and activations as the generator's terms see them."""
    if not recipe.adversarial:
        return None, None
    judge = judge_of(recipe, disc.params[direction], disc.stats[direction], frozen, view["source"])
    judged = features[recipe.judged[0]] if recipe.judged else {}
    verdict = judge(pictures["fake"], judged.get("fake"))[0]
    activations = None
    if recipe.activations:
        real = judge(view["target"], judged.get("target"))[0]
        activations = losses.Activations(fake=verdict.activations, real=real.activations)
    return losses.Logits(fake=verdict.logits), activations


def _features(recipe: Recipe, frozen: Frozen, pictures: Mapping[str, jax.Array]) -> Features:
    """The activations of the frozen networks for terms and discriminator; each view goes through once."""
    return {
        network: {
            view: _apply(recipe, frozen, network, _viewed(pictures, view), layers) for view, layers in wanted.items()
        }
        for network, wanted in recipe.feature_layers.items()
    }


def _viewed(pictures: Mapping[str, jax.Array], view: str) -> jax.Array:
    """A picture as `FeatureSpec.view` names it: its own size, or halved some times."""
    name, _, halvings = view.partition("/")
    return networks.halved(pictures[name], int(halvings or 0))


def _apply(
    recipe: Recipe, frozen: Frozen, network: str, pictures: jax.Array, layers: Sequence[str]
) -> dict[str, jax.Array]:
    return recipe.features[network].apply({"params": frozen[network]}, pictures, layers=layers)


def _add(
    recipe: Recipe,
    state: TrainState,
    context: losses.Context,
    player: losses.Player,
    direction: str,
    loss: jax.Array,
    metrics: dict[str, jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss and metrics with those of one direction added; the backward ones end in `_backward`."""
    summand, terms = losses.total(
        recipe.objective, context, player=player, step=state.step, multipliers=state.multipliers
    )
    if direction == BACKWARD:
        terms = {f"{name}_backward": value for name, value in terms.items() if name.startswith("loss/")}
    return loss + summand, metrics | terms
