"""Gradients of the players: what is kept for them, and which pictures they see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gqst.models import conditions
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
    params = jax.jit(recipe.generator.init)(jax.random.key(0), views["forward"]["source"])["params"]
    ask = jax.jit(lambda keys: gradients._asked(recipe, {"forward": params}, views, keys)["forward"])
    asked = ask(keys)
    expected = jax.jit(functools.partial(conditions.style_of, recipe.generator))(
        {"params": params}, views["forward"]["target"]
    )
    np.testing.assert_allclose(asked.style, expected, rtol=1e-5, atol=1e-6)
    assert asked.structure.shape == (40,) and len(set(asked.structure.tolist())) == 40
    assert 0.4 <= asked.structure.min() < 0.41 and 0.49 < asked.structure.max() <= 0.5
    swapped = ask(keys[::-1])
    np.testing.assert_array_equal(swapped.structure, asked.structure[::-1])


@pytest.mark.slow
def test_a_step_moves_the_decoder_and_the_dial_but_not_the_encoder(batch):
    recipe = Recipe(conftest.small("any_style", "losses.asked_structure=1", "losses.identity=1"))
    train_state = state.create(recipe, jax.random.key(0), recipe.initial)
    keys = jax.random.split(jax.random.key(1), 8)
    passed = jax.jit(lambda batch: gradients.of_generator(recipe, train_state, recipe.frozen, batch, keys))
    grads, first = passed(batch)
    assert set(grads.metrics) >= {"loss/asked_structure"}
    parts = grads.grads["forward"].items()
    moved = {part: max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree)) for part, tree in parts}
    assert moved.pop("encoder") == 0.0
    # What blocks give is nothing at first, so that their first convolution is not moved yet.
    assert moved.pop("inner_0") == 0.0
    assert min(moved.values()) > 0.0
    # Other targets, other fakes.
    other = {**batch, "target": batch["target"] ** 3}
    second = passed(other)[1]
    assert np.abs(first.pictures["forward"] - second.pictures["forward"]).max() > 1e-2
