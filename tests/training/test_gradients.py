"""Gradients of the players: what is kept for them, and which pictures they see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gqst.models import conditions
from gqst.models.features import base as features
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


@pytest.mark.slow
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


def test_every_picture_is_asked_for_the_style_of_its_target_and_a_structure_of_its_key():
    recipe = Recipe(conftest.small("any_style", "generator.structures=(0.4, 0.5)"))
    rng = np.random.default_rng(0)
    views = {"forward": {k: rng.random((2, 32, 32, 3), np.float32) for k in ("source", "target")}}
    keys = jax.random.split(jax.random.key(1), 40)
    asked = gradients._asked(recipe, recipe.frozen, views, keys)["forward"]
    expected = conditions.style_of(features.load("vgg16"), views["forward"]["target"])
    np.testing.assert_allclose(asked.style, expected, rtol=1e-5)
    assert asked.structure.shape == (40,) and len(set(asked.structure.tolist())) == 40
    assert 0.4 <= asked.structure.min() < 0.41 and 0.49 < asked.structure.max() <= 0.5
    swapped = gradients._asked(recipe, recipe.frozen, views, keys[::-1])["forward"]
    np.testing.assert_array_equal(swapped.structure, asked.structure[::-1])


@pytest.mark.slow
def test_a_step_moves_what_styles_are_turned_into(batch):
    recipe = Recipe(conftest.small("any_style", "losses.asked_structure=1", "generator.noise=False"))
    train_state = state.create(recipe, jax.random.key(0), recipe.initial)
    keys = jax.random.split(jax.random.key(1), 8)
    grads, _ = gradients.of_generator(recipe, train_state, recipe.frozen, batch, keys)
    assert set(grads.metrics) >= {"loss/asked_structure"}
    predictor = grads.grads["forward"]["predictor"]
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(predictor))
    # Other targets, other fakes: no term that is left looks at them.
    other = {**batch, "target": batch["target"] ** 3}
    loud = jax.tree.map(lambda x: x * 30, train_state.gen.params["forward"]["predictor"])
    params = {**train_state.gen.params["forward"], "predictor": loud}
    train_state = train_state.replace(gen=train_state.gen.replace(params={"forward": params}))
    one, two = (gradients.of_generator(recipe, train_state, recipe.frozen, b, keys)[1] for b in (batch, other))
    assert np.abs(one.pictures["forward"] - two.pictures["forward"]).max() > 1e-2
