"""One training step as a pure function of the state and a batch."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gqst import types
from gqst.training import gradients, pool, recipes, state

Step = Callable[[state.TrainState, types.Batch, gradients.Frozen], tuple[state.TrainState, types.Metrics]]


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
    parts = recipe.accumulate

    def step(
        now: state.TrainState, batch: types.Batch, frozen: gradients.Frozen
    ) -> tuple[state.TrainState, types.Metrics]:
        keys = _picture_keys(jax.random.fold_in(now.key, now.step), batch["source"].shape[0], axis_name)

        def gen_pass(batch: types.Batch, keys: jax.Array) -> tuple[gradients.Found, gradients.Made]:
            found, made = gradients.of_generator(recipe, now, frozen, batch, keys)
            if parts > 1:
                # What was seen would take the memory that cutting the batch saves.
                return found, made._replace(seen={})
            if now.pool:
                # It may put other fakes in the place of those that were seen.
                return found, made._replace(seen={d: {"target": known["target"]} for d, known in made.seen.items()})
            return found, made

        def disc_pass(batch: types.Batch, keys: jax.Array, made: gradients.Made) -> tuple[gradients.Found, None]:
            return gradients.of_discriminator(recipe, now, frozen, batch, keys, *made), None

        found, made = _in_parts(parts, gen_pass, batch, keys)
        metrics = dict(found.metrics)
        metrics["learning_rate/generator"] = now.rate * recipe.gen_rate(now.step)
        gen, told = _update(now.gen, found, recipe.gen_tx, now.rate, axis_name)
        metrics |= {f"{name}/generator": value for name, value in told.items()}
        disc, pools = now.disc, now.pool
        if recipe.adversarial:
            shown, pools = _show(now.pool, made.fakes, keys, axis_name)
            found, _ = _in_parts(parts, disc_pass, batch, keys, made._replace(fakes=shown))
            metrics |= found.metrics
            metrics["learning_rate/discriminator"] = now.rate * recipe.disc_rate(now.step)
            disc, told = _update(now.disc, found, recipe.disc_tx, now.rate, axis_name)
            metrics |= {f"{name}/discriminator": value for name, value in told.items()}
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

    def steps(
        now: state.TrainState, batches: types.Batch, frozen: gradients.Frozen
    ) -> tuple[state.TrainState, types.Metrics]:
        new, metrics = jax.lax.scan(lambda held, batch: step(held, batch, frozen), now, batches)
        means = {name: jnp.mean(value) for name, value in metrics.items()}
        return new, means | {"finite": jnp.all(metrics["finite"])}

    return steps


def mean_over_devices(x: Any, axis_name: str | None) -> Any:
    """The mean over pmap's devices; in the global view the tree itself, whose means are global already."""
    return x if axis_name is None else jax.lax.pmean(x, axis_name)


def _in_parts(parts: int, compute: Callable[..., tuple[Any, Any]], *whole: Any) -> tuple[Any, Any]:
    """What `compute` makes of a batch, a part of it after the other: the means of one tree, the rows of another.

    Part i has the rows i, i + parts, ...: of a batch over devices, a share of each device's.
    """
    if parts == 1:
        return compute(*whole)

    def cut(rows: jax.Array) -> jax.Array:
        return jnp.moveaxis(rows.reshape(-1, parts, *rows.shape[1:]), 1, 0)

    def joined(rows: jax.Array) -> jax.Array:
        return jnp.moveaxis(rows, 0, 1).reshape(-1, *rows.shape[2:])

    def one(sums: Any, part: Any) -> tuple[Any, Any]:
        means, rows = compute(*part)
        return jax.tree.map(jnp.add, sums, means), rows

    cuts = jax.tree.map(cut, whole)
    shapes, _ = jax.eval_shape(compute, *jax.tree.map(lambda rows: rows[0], cuts))
    sums, rows = jax.lax.scan(one, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), cuts)
    return jax.tree.map(lambda x: x / parts, sums), jax.tree.map(joined, rows)


def _picture_keys(key: jax.Array, count: int, axis_name: str | None) -> jax.Array:
    """A key for each picture by its place in the global batch, whatever the number of devices."""
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * count
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(count))


def _show(
    pools: Mapping[str, state.Pool], fakes: Mapping[str, jax.Array], keys: jax.Array, axis_name: str | None
) -> tuple[dict[str, jax.Array], Mapping[str, state.Pool]]:
    """The fakes that the discriminators are shown, by direction, and the pools afterwards."""
    shown, new = dict(fakes), {}
    for direction, past in pools.items():
        shown[direction], new[direction] = pool.draw(past, fakes[direction], keys, axis_name=axis_name)
    return shown, new


def _update(
    player: state.Player,
    found: gradients.Found,
    tx: optax.GradientTransformation,
    rate: jax.Array,
    axis_name: str | None,
) -> tuple[state.Player, types.Metrics]:
    """The player after one optimiser step at `rate` times its learning rate, and what its gradient tells.

    That is its global norm, and the share of the kernels that get none.
    """
    grads = mean_over_devices(found.grads, axis_name)
    updates, opt_state = tx.update(grads, player.opt_state, player.params)
    updates = jax.tree.map(lambda update: rate * update, updates)
    params = optax.apply_updates(player.params, updates)
    leaves = jax.tree.leaves(grads)
    squares = [optax.tree.vdot(leaf, leaf) for leaf in leaves]
    # Biases before a norm have none.
    kernels = [square for square, leaf in zip(squares, leaves, strict=True) if leaf.ndim > 1]
    told = {
        "gradient_norm": jnp.sqrt(sum(squares)),
        "without_gradient": jnp.float32(sum(square == 0.0 for square in kernels)) / max(len(kernels), 1),
    }
    return player.replace(params=params, stats=found.stats, opt_state=opt_state), told


def _average(ema: Mapping[str, Any], gen: state.Player, decay: float, step: jax.Array) -> Any:
    """The running average after a step; it forgets faster at first, so that it is not stuck at the start."""
    held = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    variables = {direction: {"params": gen.params[direction], **gen.stats[direction]} for direction in ema}
    return jax.tree.map(lambda old, new: held * old + (1.0 - held) * new, ema, variables)
