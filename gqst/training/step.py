"""One training step as a pure function of the state and a batch."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gqst import types
from gqst.runtime import devices
from gqst.training import gradients
from gqst.training.recipe import Recipe
from gqst.training.state import Player, Pool, TrainState, create, draw

Step = Callable[[TrainState, types.Batch, gradients.Frozen], tuple[TrainState, types.Metrics]]


def build(recipe: Recipe, *, axis_name: str | None = None) -> Step:
    """Returns the training step (state, batch, frozen) -> (state, metrics) of a recipe.

    Both players' gradients are taken at the parameters before the step, on the same fakes. This equals CycleGAN's
    alternating updates, and one forward pass of G serves both players. In the default global view there are no
    collectives; all means over pictures are means over the whole batch.

    Args:
      recipe: Static parts of the step.
      axis_name: Axis of pmap, under which each device sees its share of the batch; None in the global view.
    """
    recipe = recipe.over(axis_name)
    parts = recipe.config.accumulate

    def step(state: TrainState, batch: types.Batch, frozen: gradients.Frozen) -> tuple[TrainState, types.Metrics]:
        keys = _picture_keys(jax.random.fold_in(state.key, state.step), batch["source"].shape[0], axis_name)

        def gen_pass(batch: types.Batch, keys: jax.Array) -> tuple[gradients.Gradients, gradients.Fakes]:
            grads, fakes = gradients.of_generator(recipe, state, frozen, batch, keys)
            if parts > 1:
                # Features would take up the memory that splitting the batch saves.
                return grads, fakes._replace(features={})
            if state.pool:
                # The pool may show other fakes in place of those whose features these are.
                targets = {direction: {"target": seen["target"]} for direction, seen in fakes.features.items()}
                return grads, fakes._replace(features=targets)
            return grads, fakes

        def disc_pass(batch: types.Batch, keys: jax.Array, fakes: gradients.Fakes) -> tuple[gradients.Gradients, None]:
            return gradients.of_discriminator(recipe, state, frozen, batch, keys, fakes), None

        grads, fakes = _in_parts(parts, gen_pass, batch, keys)
        metrics = dict(grads.metrics)
        metrics["learning_rate/generator"] = state.rate * recipe.gen_rate(state.step)
        gen, update_metrics = _update(state.gen, grads, recipe.gen_tx, state.rate, axis_name)
        metrics |= {f"{name}/generator": value for name, value in update_metrics.items()}
        disc, pools = state.disc, state.pool
        if recipe.adversarial:
            shown, pools = _shown(state.pool, fakes.pictures, keys, axis_name)
            grads, _ = _in_parts(parts, disc_pass, batch, keys, fakes._replace(pictures=shown))
            metrics |= grads.metrics
            metrics["learning_rate/discriminator"] = state.rate * recipe.disc_rate(state.step)
            disc, update_metrics = _update(state.disc, grads, recipe.disc_tx, state.rate, axis_name)
            metrics |= {f"{name}/discriminator": value for name, value in update_metrics.items()}
        metrics = {name: mean_over_devices(value, axis_name) for name, value in metrics.items()}
        metrics["finite"] = jnp.isfinite(sum(metrics.values()))
        new_state = state.replace(
            step=state.step + 1,
            gen=gen,
            disc=disc,
            ema=_average(state.ema, gen, recipe.config.ema_decay, state.step),
            pool=pools,
        )
        return new_state, metrics

    return step


def train_step(recipe: Recipe) -> Callable[[TrainState, types.Batch], tuple[TrainState, types.Metrics]]:
    """Returns the compiled step (state, batch) -> (state, metrics) on the default device, for a loop of your own.

    The arrays of the state are donated: keep the returned one.
    """
    jitted = jax.jit(build(recipe), donate_argnums=0, compiler_options=devices.compile_options(1))
    frozen = jax.device_put(recipe.frozen)
    return lambda state, batch: jitted(state, batch, frozen)


def repeat(step: Step) -> Step:
    """Returns the step over stacked batches, leaves [k, b, ...], in one call; metrics are means over the k steps."""

    def steps(state: TrainState, batches: types.Batch, frozen: gradients.Frozen) -> tuple[TrainState, types.Metrics]:
        new_state, metrics = jax.lax.scan(lambda state, batch: step(state, batch, frozen), state, batches)
        means = {name: jnp.mean(value) for name, value in metrics.items()}
        return new_state, means | {"finite": jnp.all(metrics["finite"])}

    return steps


def abstract_arguments(recipe: Recipe) -> tuple[TrainState, types.Batch, gradients.Frozen]:
    """Returns state, batch and frozen parameters as the step takes them, the first two as shapes and types."""
    cfg = recipe.config
    state = jax.eval_shape(lambda: create(recipe, jax.random.key(0)))
    pictures = jax.ShapeDtypeStruct((cfg.batch_size, cfg.image_size, cfg.image_size, 3), jnp.float32)
    return state, {"source": pictures, "target": pictures}, recipe.frozen


def mean_over_devices(x: Any, axis_name: str | None) -> Any:
    """Returns the mean over pmap's devices; in the global view the tree itself, whose means are global already."""
    return x if axis_name is None else jax.lax.pmean(x, axis_name)


def _in_parts(parts: int, compute: Callable[..., tuple[Any, Any]], *whole: Any) -> tuple[Any, Any]:
    """The results of `compute` on the parts of a batch in turn: the mean of its first tree, the rows of its second.

    Part i has the rows i, i + parts, ..., so that every part has an equal share of each device's rows.
    """
    if parts == 1:
        return compute(*whole)

    def split(rows: jax.Array) -> jax.Array:
        return jnp.moveaxis(rows.reshape(-1, parts, *rows.shape[1:]), 1, 0)

    def join(rows: jax.Array) -> jax.Array:
        return jnp.moveaxis(rows, 0, 1).reshape(-1, *rows.shape[2:])

    def body(sums: Any, part: Any) -> tuple[Any, Any]:
        summands, rows = compute(*part)
        return jax.tree.map(jnp.add, sums, summands), rows

    split_batch = jax.tree.map(split, whole)
    shapes, _ = jax.eval_shape(compute, *jax.tree.map(lambda rows: rows[0], split_batch))
    sums, rows = jax.lax.scan(body, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), split_batch)
    return jax.tree.map(lambda x: x / parts, sums), jax.tree.map(join, rows)


def _picture_keys(key: jax.Array, count: int, axis_name: str | None) -> jax.Array:
    """A key for each picture from its index in the global batch, independent of the number of devices."""
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * count
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(count))


def _shown(
    pools: Mapping[str, Pool], fakes: Mapping[str, jax.Array], keys: jax.Array, axis_name: str | None
) -> tuple[dict[str, jax.Array], Mapping[str, Pool]]:
    """The fakes that the discriminators are shown, by direction, and the pools afterwards."""
    shown, new_pools = dict(fakes), {}
    for direction, pool in pools.items():
        shown[direction], new_pools[direction] = draw(pool, fakes[direction], keys, axis_name=axis_name)
    return shown, new_pools


def _update(
    player: Player,
    gradient: gradients.Gradients,
    tx: optax.GradientTransformation,
    rate: jax.Array,
    axis_name: str | None,
) -> tuple[Player, types.Metrics]:
    """The player after one optimiser step at `rate` times its learning rate, and metrics of its gradient.

    These are its global norm, and the share of the kernels whose gradient is zero.
    """
    grads = mean_over_devices(gradient.grads, axis_name)
    updates, opt_state = tx.update(grads, player.opt_state, player.params)
    updates = jax.tree.map(lambda update: rate * update, updates)
    params = optax.apply_updates(player.params, updates)
    leaves = jax.tree.leaves(grads)
    squares = [optax.tree.vdot(leaf, leaf) for leaf in leaves]
    # Biases before a norm have no gradient.
    kernels = [square for square, leaf in zip(squares, leaves, strict=True) if leaf.ndim > 1]
    metrics = {
        "gradient_norm": jnp.sqrt(sum(squares)),
        "without_gradient": jnp.float32(sum(square == 0.0 for square in kernels)) / max(len(kernels), 1),
    }
    return player.replace(params=params, stats=gradient.stats, opt_state=opt_state), metrics


def _average(ema: Mapping[str, Any], gen: Player, decay: float, step: jax.Array) -> Any:
    """The running average after a step; it forgets faster at first, so that initial values do not linger."""
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    variables = {direction: {"params": gen.params[direction], **gen.stats[direction]} for direction in ema}
    # A step of `kept` from the new variables to the average: the other way round, 1 - (1 - kept) would be rounded.
    return optax.incremental_update(ema, variables, kept)
