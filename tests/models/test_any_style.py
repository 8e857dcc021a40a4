"""A generator that takes a style and a structure."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gqst.models import blocks, conditions, noise
from gqst.models.features import base as features
from gqst.models.generators import any_style


@pytest.fixture(scope="module")
def module():
    return any_style.AnyStyle(filters=4, blocks=2, embedding=8, hidden=8)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).random((2, 32, 40, 3), np.float32)


@pytest.fixture(scope="module")
def variables(module, pictures):
    """Variables with which styles, structures and noise show."""
    first = jax.jit(module.init)(jax.random.key(0), pictures)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape).astype(np.float32), first)


@pytest.fixture(scope="module")
def asked():
    rng = np.random.default_rng(2)
    return conditions.Conditions(rng.random((2, conditions.COUNT), np.float32), np.float32([0.4, 0.8]))


@functools.partial(jax.jit, static_argnums=0)
def _apply(module, variables, asked, pictures, seed=3):
    seeds = jnp.full(len(pictures), seed, jnp.uint32)
    return module.apply(conditions.conditioned(noise.seeded(variables, seeds), asked), pictures)


@pytest.mark.slow
def test_for_one_style_it_is_a_residual_network(module, variables, asked, pictures):
    fakes = _apply(module, variables, asked, pictures)
    for index, picture in enumerate(pictures):
        folded = module.folded(variables, asked.style[index], asked.structure[index])
        alone = jax.jit(module.network.apply)(noise.seeded(folded, np.array([3], np.uint32)), picture[None])
        np.testing.assert_allclose(alone[0], fakes[index], atol=1e-4)
    assert module.network.norm == "instance" and module.network.affine


def test_style_structure_and_noise_all_count_and_only_for_their_own_picture(module, variables, asked, pictures):
    fakes = _apply(module, variables, asked, pictures)
    for other, first in (
        (asked.replace(style=asked.style * np.float32([[1], [3]])), pictures),
        (asked.replace(structure=np.float32([0.4, 0.5])), pictures),
        (asked, pictures * np.float32([1, 0.5]).reshape(2, 1, 1, 1)),
    ):
        changed = _apply(module, variables, other, first)
        np.testing.assert_allclose(changed[0], fakes[0], atol=1e-4)
        assert np.abs(changed[1] - fakes[1]).max() > 1e-3
    assert np.abs(_apply(module, variables, asked, pictures, seed=4) - fakes).max() > 1e-3


def test_scales_and_shifts_are_those_of_the_predictor_by_norm(module, variables, asked):
    tree = dict(module.apply(variables, asked, method="affine"))
    palette, gain = tree.pop("Palette_0"), tree.pop("Gain_0")
    counts = {name: leaf["scale"].size for name, leaf in variables["params"]["network"].items() if "scale" in leaf}
    assert {name: added["scale"].shape for name, added in tree.items()} == {k: (2, n) for k, n in counts.items()}
    # By hand: the predictor in NumPy.
    dense = {k: jax.tree.map(np.asarray, v) for k, v in variables["params"]["predictor"].items()}
    style = asked.style @ dense["Dense_0"]["kernel"] + dense["Dense_0"]["bias"]
    structure = ((asked.structure - 0.6) / 0.3)[:, None]
    x = (
        np.concatenate([style, 4 * structure, 4 * structure**2], 1) @ dense["Dense_1"]["kernel"]
        + dense["Dense_1"]["bias"]
    )
    flat = np.maximum(x, 0) @ dense["Dense_2"]["kernel"]
    joined = np.concatenate([np.concatenate([tree[n]["scale"], tree[n]["shift"]], 1) for n in sorted(tree)], 1)
    np.testing.assert_allclose(joined, flat[:, 4:], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(palette["share"], 1 / (1 + np.exp(-flat[:, :3] - 1.1)), rtol=1e-3)
    np.testing.assert_allclose(gain["gain"], 2 * (1 - asked.structure[:, None]) * np.exp(flat[:, 3:4]), rtol=1e-3)
    np.testing.assert_array_equal(np.concatenate([palette["mean"], palette["deviation"]], 1), asked.style[:, :6])


def test_style_of_a_picture_by_numpy(pictures):
    params = features.load("vgg16")
    actual = np.asarray(jax.jit(conditions.statistics)(params, pictures))
    halved = pictures.reshape(2, 16, 2, 20, 2, 3).mean((2, 4))
    expected = []
    for x, layers in ((pictures, ("relu1_1", "relu2_1")), (halved, ("relu3_1", "relu4_1"))):
        apply = functools.partial(features.FEATURES["vgg16"]().apply, layers=layers)
        seen = jax.jit(apply)({"params": params}, x)
        for layer in layers:
            expected += [function(np.asarray(seen[layer]), axis=(1, 2)) for function in (np.mean, np.std)]
    np.testing.assert_allclose(actual, np.concatenate(expected, 1), rtol=1e-3, atol=1e-4)

    style = np.asarray(jax.jit(conditions.style_of)(params, pictures))
    assert style.shape == (2, conditions.COUNT)
    red, green, blue = np.moveaxis(pictures, -1, 0)
    opponents = ((red + green + blue) / 3**0.5, (red - green) / 2**0.5, (red + green - 2 * blue) / 6**0.5)
    for index, x in enumerate(opponents):
        np.testing.assert_allclose(style[:, index], x.mean((1, 2)), atol=1e-5)
        np.testing.assert_allclose(style[:, 3 + index], x.std((1, 2)), atol=1e-5)
    mean, deviation = conditions.paintings()
    standard = (np.log(actual + 0.05) - mean) / deviation
    assert np.abs(standard).max() > 4
    np.testing.assert_allclose(style[:, 6:], standard.clip(-4, 4), atol=1e-3)


@pytest.mark.slow
def test_without_conditions_it_can_be_initialised_and_norms_start_plain(module, pictures):
    variables = jax.jit(module.init)(jax.random.key(0), pictures)
    network = variables["params"]["network"]
    assert all(
        jnp.all(leaf["scale"] == 1) and jnp.all(leaf["shift"] == 0) for n, leaf in network.items() if "Norm" in n
    )
    assert blocks.AFFINE not in variables
