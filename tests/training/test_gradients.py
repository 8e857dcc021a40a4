"""Gradients of the players: what is kept for them, and which pictures they see."""

import jax
import jax.numpy as jnp
import pytest

from gqst.training import gradients, state
from gqst.training.recipe import Recipe
from tests import conftest


@pytest.mark.parametrize("name", ["cyclegan", "pix2pix"])
def test_what_remat_leaves_for_the_gradient(name):
    kept = {}
    for remat in ("none", "blocks", "all"):
        recipe = Recipe(conftest.small(name, "generator.filters=8", f"remat={remat}"), paired=name == "pix2pix")
        train_state = jax.eval_shape(lambda key, r=recipe: state.create(r, key, r.initial), jax.random.key(0))
        view = {k: jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32) for k in ("source", "target")}
        views = dict.fromkeys(recipe.directions, view)

        def pullback(params, views, stats, recipe=recipe):
            return jax.vjp(lambda p: gradients.generate(recipe, p, stats, views)[0], params)[1]

        residuals = jax.eval_shape(pullback, train_state.gen.params, views, train_state.gen.stats)
        kept[remat] = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(residuals))
    assert kept["all"] < 0.9 * kept["blocks"] < 0.6 * kept["none"]
