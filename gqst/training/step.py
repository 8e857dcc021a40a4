"""One training step as a pure function of the state and a batch."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gqst import types
from gqst.losses import base as losses
from gqst.models import base as models
from gqst.training import colors, pool, recipes, state

Frozen = Mapping[str, Any]
Step = Callable[[state.TrainState, types.Batch, Frozen], tuple[state.TrainState, types.Metrics]]
Pictures = dict[str, dict[str, jax.Array]]
Features = dict[str, dict[str, dict[str, jax.Array]]]
"""Activations by network, picture and layer."""


def build(recipe: recipes.Recipe, *, axis_name: str | None = None) -> Step:
    """The training step (state, batch, frozen) -> (state, metrics) of a recipe.

    Both players' gradients are taken at the parameters before the step, on the same fakes: what CycleGAN's
    alternating updates come to, and G's forward pass then serves both. In the default global view there are
    no collectives; all means over pictures are means over the whole batch.

    Args:
      recipe: the static parts.
      axis_name: of pmap, where each device sees its share of the batch.
    """
    recipe = recipe.over(axis_name)

    def step(now: state.TrainState, batch: types.Batch, frozen: Frozen) -> tuple[state.TrainState, types.Metrics]:
        keys = _picture_keys(jax.random.fold_in(now.key, now.step), batch["source"].shape[0], axis_name)
        views = _views(recipe, batch)

        def gen_loss(params: Any) -> tuple[jax.Array, Any]:
            made, gen_stats = generate(recipe, params, now.gen.stats, views)
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
            return loss, (made, seen, gen_stats, metrics)

        gen_grad = jax.value_and_grad(gen_loss, has_aux=True)
        (loss_g, (made, seen, gen_stats, metrics)), grads_g = gen_grad(now.gen.params)
        metrics["loss/generator"] = loss_g
        metrics["learning_rate/generator"] = now.rate * recipe.gen_rate(now.step)
        gen, metrics["gradient_norm/generator"] = _update(now.gen, grads_g, recipe.gen_tx, now.rate, axis_name)
        gen = gen.replace(stats=gen_stats)
        disc, pools = now.disc, now.pool
        if recipe.adversarial:
            shown, pools = _show(now.pool, made, keys, axis_name)

            def disc_loss(params: Any) -> tuple[jax.Array, Any]:
                loss, metrics, stats = jnp.zeros(()), dict[str, jax.Array](), {}
                for direction in recipe.directions:
                    view, fake = views[direction], shown[direction]
                    judge = judge_of(recipe, params[direction], now.disc.stats[direction], frozen, view["source"])
                    known = _known(recipe, seen[direction])
                    real, stats[direction] = judge(view["target"], known("target"), update_stats=True)
                    # The pool may have put other fakes in the place of those that were seen.
                    verdict, _ = judge(fake, None if pools else known("fake"))
                    logits = losses.Logits(fake=verdict.logits, real=real.logits)
                    context = losses.Context(
                        source=view["source"],
                        target=view["target"],
                        fake=fake,
                        keys=keys,
                        logits=logits,
                        score=functools.partial(_score, judge),
                    )
                    loss, metrics = _add(recipe, now, context, "discriminator", direction, loss, metrics)
                return loss, (stats, metrics)

            disc_grad = jax.value_and_grad(disc_loss, has_aux=True)
            (loss_d, (stats, more)), grads_d = disc_grad(now.disc.params)
            metrics |= more
            metrics["loss/discriminator"] = loss_d
            metrics["learning_rate/discriminator"] = now.rate * recipe.disc_rate(now.step)
            norm = "gradient_norm/discriminator"
            disc, metrics[norm] = _update(now.disc, grads_d, recipe.disc_tx, now.rate, axis_name)
            disc = disc.replace(stats=stats)
        metrics = {name: mean_over_devices(value, axis_name) for name, value in metrics.items()}
        metrics["finite"] = jnp.isfinite(sum(metrics.values()))
        new = now.replace(
            step=now.step + 1,
            gen=gen,
            disc=disc,
            ema=_average(now.ema, gen, recipe.ema_decay, now.step),
            pool=pools,
        )
        return new, metrics

    return step


def repeat(step: Step) -> Step:
    """The step over stacked batches, leaves [k, b, ...], in one call; metrics are means over the k steps."""

    def steps(now: state.TrainState, batches: types.Batch, frozen: Frozen) -> tuple[state.TrainState, types.Metrics]:
        new, metrics = jax.lax.scan(lambda held, batch: step(held, batch, frozen), now, batches)
        means = {name: jnp.mean(value) for name, value in metrics.items()}
        return new, means | {"finite": jnp.all(metrics["finite"])}

    return steps


def generate(
    recipe: recipes.Recipe, params: Any, stats: Mapping[str, Any], views: Pictures
) -> tuple[Pictures, dict[str, Any]]:
    """All pictures that the terms need: by direction fake, and identity and cycled if needed; and the new stats.

    Only the sources go into the stats: they are what the generator will see when it is used.
    """
    made: Pictures = {}
    new = {}
    for direction, view in views.items():
        own = (recipe.generator.apply, params[direction], stats[direction])
        fake, new[direction] = _translate(*own, view["source"])
        made[direction] = {"fake": fake}
        if recipe.identity:
            made[direction]["identity"], _ = _translate(*own, view["target"])
        if recipe.keep_colors:
            made[direction] = {name: colors.grey(x) for name, x in made[direction].items()}
    if recipe.cycled:
        for direction in recipe.directions:
            other = _opposite(direction)
            cycled, _ = _translate(recipe.generator.apply, params[other], stats[other], made[direction]["fake"])
            made[direction]["cycled"] = colors.grey(cycled) if recipe.keep_colors else cycled
    return made, new


def mean_over_devices(x: Any, axis_name: str | None) -> Any:
    """The mean over pmap's devices; in the global view the tree itself, whose means are global already."""
    return x if axis_name is None else jax.lax.pmean(x, axis_name)


def _views(recipe: recipes.Recipe, batch: types.Batch) -> Pictures:
    """The batch as each direction sees it."""
    source, target = (colors.grey(x) if recipe.keep_colors else x for x in (batch["source"], batch["target"]))
    ends, turned = {"source": source, "target": target}, {"source": target, "target": source}
    return {d: ends if d == recipes.FORWARD else turned for d in recipe.directions}


def _opposite(direction: str) -> str:
    return recipes.BACKWARD if direction == recipes.FORWARD else recipes.FORWARD


def _picture_keys(key: jax.Array, count: int, axis_name: str | None) -> jax.Array:
    """A key for each picture by its place in the global batch, whatever the number of devices."""
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * count
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(count))


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


def _known(recipe: recipes.Recipe, seen: Features) -> Callable[[str], Any]:
    """What the discriminator's feature network has seen already, by picture; None if it has none."""
    return lambda picture: None if recipe.judged is None else seen[recipe.judged[0]][picture]


def _score(judge: Any, pictures: jax.Array) -> tuple[jax.Array, ...]:
    return judge(pictures)[0].logits


def _translate(apply: Any, params: Any, stats: Mapping[str, Any], pictures: jax.Array) -> tuple[Any, Any]:
    """What a generator makes of the pictures, and its stats after them."""
    # Only a network with averages of its own behaves differently in training.
    flags = {"train": True} if stats else {}
    return apply({"params": params, **stats}, pictures, mutable=list(stats), **flags)


def _encode(
    recipe: recipes.Recipe, params: Any, stats: Mapping[str, Any], pictures: Mapping[str, jax.Array]
) -> dict[str, dict[str, jax.Array]]:
    """The activations of the generator's encoder that terms look at, by picture and layer."""
    made = {}
    for name, taps in recipe.encoded.items():
        apply = functools.partial(recipe.generator.apply, taps=taps)
        made[name], _ = _translate(apply, params, stats, pictures[name])
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
    known = _known(recipe, seen)
    verdict = judge(pictures["fake"], known("fake"))[0]
    activations = None
    if recipe.activations:
        real = judge(view["target"], known("target"))[0]
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


def _show(
    pools: Mapping[str, state.Pool], made: Pictures, keys: jax.Array, axis_name: str | None
) -> tuple[dict[str, jax.Array], Mapping[str, state.Pool]]:
    """The fakes that the discriminators are shown, by direction, and the pools afterwards."""
    shown = {d: jax.lax.stop_gradient(pictures["fake"]) for d, pictures in made.items()}
    new = {}
    for direction, past in pools.items():
        shown[direction], new[direction] = pool.draw(past, shown[direction], keys, axis_name=axis_name)
    return shown, new


def _update(
    player: state.Player, grads: Any, tx: optax.GradientTransformation, rate: jax.Array, axis_name: str | None
) -> tuple[state.Player, jax.Array]:
    """The player after one optimiser step at `rate` times its learning rate, and the global norm of its gradient."""
    grads = mean_over_devices(grads, axis_name)
    updates, opt_state = tx.update(grads, player.opt_state, player.params)
    updates = jax.tree.map(lambda update: rate * update, updates)
    params = optax.apply_updates(player.params, updates)
    return player.replace(params=params, opt_state=opt_state), optax.tree.norm(grads)


def _average(ema: Mapping[str, Any], gen: state.Player, decay: float, step: jax.Array) -> Any:
    """The running average after a step; it forgets faster at first, so that it is not stuck at the start."""
    held = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    variables = {direction: {"params": gen.params[direction], **gen.stats[direction]} for direction in ema}
    return jax.tree.map(lambda old, new: held * old + (1.0 - held) * new, ema, variables)
