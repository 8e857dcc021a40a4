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
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))

        def pullback(params, views, stats, keys, recipe=recipe):
            return jax.vjp(lambda p: gradients.generate(recipe, p, stats, views, keys)[0], params)[1]

        residuals = jax.eval_shape(pullback, train_state.gen.params, views, train_state.gen.stats, keys)
        kept[remat] = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(residuals))
    assert kept["all"] < 0.9 * kept["blocks"] < 0.6 * kept["none"]


def test_every_picture_has_noise_of_its_own_key():
    recipe = Recipe(conftest.small("cut", "generator.noise=True"))
    train_state = state.create(recipe, jax.random.key(0), recipe.initial)
    picture = jnp.full((2, 32, 32, 3), 0.4)
    a, b = jax.random.split(jax.random.key(1))

    def fake(*keys):
        views = {"forward": {"source": picture, "target": picture}}
        given = train_state.gen.params, train_state.gen.stats, views, jnp.stack(keys)
        return gradients.generate(recipe, *given)[0]["forward"]["fake"]

    one, two = fake(a, b), fake(b, a)
    assert jnp.abs(one[0] - one[1]).max() > 1e-3
    assert jnp.allclose(one, two[::-1], atol=1e-5)
