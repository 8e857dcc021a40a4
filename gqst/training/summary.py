"""A summary of a config as text, before anything is trained."""

import dataclasses
from typing import Any

import jax

from gqst import config
from gqst.data import sources
from gqst.losses import base as losses
from gqst.models import base as models
from gqst.runtime import progress
from gqst.training import gradients, step
from gqst.training.recipe import FORWARD, Recipe
from gqst.training.state import TrainState


def describe(cfg: config.Config) -> str:
    """Returns data counts (every picture is read), parameters, shapes and losses with their weights, as text.

    Raises:
      InputError: Config or data cannot be used.
    """
    dataset = sources.load(cfg)
    recipe = Recipe(cfg, paired=dataset.paired)
    state, metrics = trace(recipe)
    with progress.Counter("reading pictures") as counter:
        counts = sources.check(dataset, counter)
    size = cfg.image_size
    lines = [f"data: {cfg.data.name}, {'paired' if dataset.paired else 'unpaired'}"]
    for name, (readable, unreadable) in counts.items():
        lines.append(f"  {name}: {readable} pictures" + (f", {unreadable} unreadable" if unreadable else ""))
    lines.append(f"batch: {cfg.batch_size} x {size} x {size} x 3, source and target, {cfg.compute_dtype}")
    for role, choice, params in (
        ("generator", cfg.generator, state.gen.params),
        ("discriminator", cfg.discriminator, state.disc.params),
    ):
        for direction, tree in params.items():
            lines.append(f"{role} {direction}: {choice.name}, {models.parameter_count(tree):,} parameters")
    if recipe.adversarial:
        lines.append(f"logits: {', '.join(map(str, _logit_shapes(recipe, state)))}")
    lines.append(f"directions: {' and '.join(recipe.directions)}")
    lines.append("losses:")
    lines.extend(f"  {line}" for line in _losses(recipe.objective))
    size_in_mib = state_bytes(state) / 2**20
    lines.append(f"train state: {size_in_mib:.1f} MiB; {cfg.steps} steps; {len(metrics)} metrics")
    return "\n".join(lines)


def trace(recipe: Recipe) -> tuple[TrainState, Any]:
    """Returns state and metrics of one step as shapes, with nothing computed."""
    return jax.eval_shape(step.build(recipe), *step.abstract_arguments(recipe))


def state_bytes(state: TrainState) -> int:
    """Returns the size of a state in bytes, of arrays or of shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def _logit_shapes(recipe: Recipe, state: TrainState) -> list[Any]:
    """The shapes of the discriminator's logits for a batch."""
    _, batch, _ = step.abstract_arguments(recipe)

    def verdict(params: Any, stats: Any, pictures: jax.Array) -> models.Verdict:
        return gradients.judge_of(recipe, params, stats, recipe.frozen, pictures)(pictures)[0]

    shapes = jax.eval_shape(verdict, state.disc.params[FORWARD], state.disc.stats[FORWARD], batch["source"])
    return [logits.shape for logits in shapes.logits]


def _losses(objective: losses.Objective) -> list[str]:
    lines = []
    for entry in objective:
        options = ", ".join(f"{key}={value}" for key, value in dataclasses.asdict(entry.term).items())
        line = f"{entry.label} ({entry.term.player}): weight {entry.weight}"
        lines.append(line + (f"; {options}" if options else ""))
    return lines
