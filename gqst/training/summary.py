"""What a config comes to, before anything is trained."""

from typing import Any

import jax
import jax.numpy as jnp

from gqst import config
from gqst.data import sources
from gqst.losses import base as losses
from gqst.models import base as models
from gqst.runtime import progress
from gqst.training import gradients, recipes, state, step


def describe(cfg: config.Config) -> str:
    """Data counts (every picture is read), parameters, shapes and losses with their weights, as text.

    Raises:
      InputError: config or data cannot be used.
    """
    dataset = sources.build(cfg.data, validation=cfg.validation)
    recipe = recipes.build(cfg, paired=dataset.paired)
    now, metrics = trace(cfg, recipe)
    with progress.Counter("reading pictures") as counter:
        counts = sources.check(dataset, counter)
    size = cfg.image_size
    lines = [f"data: {cfg.data.name}, {'paired' if dataset.paired else 'unpaired'}"]
    for name, (readable, unreadable) in counts.items():
        lines.append(f"  {name}: {readable} pictures" + (f", {unreadable} unreadable" if unreadable else ""))
    lines.append(f"batch: {cfg.batch_size} x {size} x {size} x 3, source and target, {cfg.compute_dtype}")
    for role, choice, params in (
        ("generator", cfg.generator, now.gen.params),
        ("discriminator", cfg.discriminator, now.disc.params),
    ):
        for direction, tree in params.items():
            lines.append(f"{role} {direction}: {choice.name}, {models.parameter_count(tree):,} parameters")
    if recipe.adversarial:
        lines.append(f"logits: {', '.join(map(str, _logit_shapes(cfg, recipe, now)))}")
    lines.append(f"directions: {' and '.join(recipe.directions)}")
    lines.append("losses:")
    lines.extend(f"  {line}" for line in _losses(recipe.objective))
    held = state_bytes(now) / 2**20
    lines.append(f"train state: {held:.1f} MiB; {cfg.steps} steps; {len(metrics)} metrics")
    return "\n".join(lines)


def trace(cfg: config.Config, recipe: recipes.Recipe) -> tuple[state.TrainState, Any]:
    """The state and metrics of one step as shapes, with nothing computed."""
    now = jax.eval_shape(lambda: state.create(recipe, jax.random.key(0)))
    shape = (cfg.batch_size, cfg.image_size, cfg.image_size, 3)
    picture = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(step.build(recipe), now, {"source": picture, "target": picture}, recipe.frozen)


def state_bytes(now: state.TrainState) -> int:
    """The bytes of a state, of arrays or of shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(now))


def _logit_shapes(cfg: config.Config, recipe: recipes.Recipe, now: state.TrainState) -> list[Any]:
    """The shapes of what the discriminator says of a batch."""
    picture = jax.ShapeDtypeStruct((cfg.batch_size, cfg.image_size, cfg.image_size, 3), jnp.float32)

    def verdict(params: Any, stats: Any, pictures: jax.Array) -> models.Verdict:
        return gradients.judge_of(recipe, params, stats, recipe.frozen, pictures)(pictures)[0]

    made = jax.eval_shape(verdict, now.disc.params[recipes.FORWARD], now.disc.stats[recipes.FORWARD], picture)
    return [logits.shape for logits in made.logits]


def _losses(objective: losses.Objective) -> list[str]:
    lines = []
    for entry in objective:
        options = ", ".join(f"{key}={value}" for key, value in entry.options.items())
        line = f"{entry.label} ({entry.player}): weight {entry.weight}"
        lines.append(line + (f"; {options}" if options else ""))
    return lines
