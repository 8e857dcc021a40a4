"""A generator that takes a style and a structure."""

import functools

import jax
import numpy as np
import pytest
from scipy import ndimage

from gqst.models import conditions
from gqst.models.features import base as features
from gqst.models.generators import any_style


@pytest.fixture(scope="module")
def module():
    return any_style.AnyStyle(filters=4, blocks=1, hidden=3)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.standard_normal((2, 32, 40, 3)), (0, 2, 2, 0))
    return np.float32(0.5 + 0.7 * smooth).clip(0.05, 0.95)


@pytest.fixture(scope="module")
def paintings():
    """Others, in which light and the first of the colours go together."""
    x = np.random.default_rng(3).random((2, 48, 32, 3), np.float32)
    return 0.3 + 0.4 * x * np.float32([1.0, 0.6, 0.3]) + 0.1 * x[..., :1]


@pytest.fixture(scope="module")
def variables(module, pictures):
    """Variables with which styles and structures show."""
    first = jax.jit(module.init)(jax.random.key(0), pictures)
    rng = np.random.default_rng(1)
    lively = jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape).astype(np.float32), first)
    return {"params": {**lively["params"], "encoder": first["params"]["encoder"]}}


@functools.partial(jax.jit, static_argnums=0)
def _apply(module, variables, style, structure, pictures):
    return module.apply(conditions.conditioned(variables, conditions.Conditions(style, structure)), pictures)


@pytest.fixture(scope="module")
def style_of(module, variables):
    return jax.jit(lambda pictures: conditions.style_of(module, variables, pictures))


def _opponents(pictures):
    red, green, blue = np.moveaxis(np.asarray(pictures, np.float64), -1, 0)
    parts = ((red + green + blue) / 3**0.5, (red - green) / 2**0.5, (red + green - 2 * blue) / 6**0.5)
    return np.stack(parts, -1)


def _variances_of_sums(colors):
    return np.stack([(colors[..., i] + colors[..., i - 1]).var((1, 2)) for i in range(3)], -1)


def test_style_and_structure_count_and_only_for_their_own_picture(module, variables, style_of, pictures, paintings):
    style, structure = np.asarray(style_of(paintings)), np.float32([0.4, 0.8])
    fakes = _apply(module, variables, style, structure, pictures)
    assert fakes.shape == pictures.shape and fakes.dtype == np.float32
    others = (
        (style * np.float32([[1], [1.2]]), structure, pictures),
        (style, np.float32([0.4, 0.5]), pictures),
        (style, structure, pictures * np.float32([1, 0.5]).reshape(2, 1, 1, 1)),
    )
    for other in others:
        changed = _apply(module, variables, *other)
        np.testing.assert_allclose(changed[0], fakes[0], atol=1e-4)
        assert np.abs(changed[1] - fakes[1]).max() > 1e-3


def test_style_of_a_picture_by_numpy(module, variables, style_of, pictures):
    style = np.asarray(style_of(pictures))
    # Colours come first: means, variances, and variances of sums.
    colors = _opponents(pictures)
    np.testing.assert_allclose(style[:, :3], colors.mean((1, 2)), atol=1e-5)
    np.testing.assert_allclose(style[:, 3:6], colors.var((1, 2)), atol=1e-5)
    np.testing.assert_allclose(style[:, 6:9], _variances_of_sums(colors), atol=1e-5)
    # Then relu3_1 over four. Within, where no border reaches, the encoder sees what VGG-16 sees.
    wide = np.pad(pictures, ((0, 0), (32, 32), (32, 32), (0, 0)), "reflect")
    apply = functools.partial(features.FEATURES["vgg16"]().apply, layers=("relu3_1",))
    seen = np.asarray(jax.jit(apply)({"params": features.load("vgg16")}, wide)["relu3_1"])[:, 8:-8, 8:-8] / 4
    found = jax.jit(lambda x: module.apply(variables, x, taps=("relu3_1",)))(wide)["relu3_1"]
    np.testing.assert_allclose(found[:, 8:-8, 8:-8] / 4, seen, atol=2e-3)
    own = jax.jit(lambda x: module.apply(variables, x, taps=("relu3_1",)))(pictures)["relu3_1"] / 4
    np.testing.assert_allclose(style[:, 9 : 9 + 256], np.mean(own, (1, 2)), atol=1e-3)
    np.testing.assert_allclose(style[:, 9 + 256 : 9 + 512], np.sqrt(np.var(own, (1, 2)) + 1e-5), atol=1e-3)
    assert style.shape == (2, 9 + 2 * (256 + 16 + 16 + 8 + 4))


def test_colours_get_mean_and_covariance_of_the_style(pictures, paintings):
    x, goal = _opponents(pictures).astype(np.float32), _opponents(paintings)
    mean = goal.mean((1, 2))
    spread = np.concatenate([goal.var((1, 2)), _variances_of_sums(goal)], -1)

    def recolored(x, share):
        return np.asarray(any_style._recolored(x, np.float32(mean), np.float32(spread), np.full(2, share, np.float32)))

    result = recolored(x, 1.0)
    for index in range(2):
        actual = np.cov(result[index].reshape(-1, 3).T)
        wanted = np.cov(goal[index].reshape(-1, 3).T)
        # A twenty-fifth of the style's variance is added to both, so that flat pictures are not blown up.
        np.testing.assert_allclose(actual, wanted, atol=0.06 * wanted.max())
        np.testing.assert_allclose(result[index].mean((0, 1)), mean[index], atol=1e-4)
        assert abs(wanted[0, 1]) > 0.3 * wanted.max() > 10 * abs(np.cov(x[index].reshape(-1, 3).T)[0, 1])
    np.testing.assert_allclose(recolored(x, 0.0), x, atol=1e-6)
    np.testing.assert_allclose(recolored(x, 0.5), (x + result) / 2, atol=1e-5)
    # What is there already is left.
    mean, spread = mean * 0 + x.mean((1, 2)), np.concatenate([x.var((1, 2)), _variances_of_sums(x)], -1)
    np.testing.assert_allclose(recolored(x, 1.0), x, atol=1e-4)
    # Light follows from light alone.
    light = np.polyfit(x[0, ..., 0].ravel(), result[0, ..., 0].ravel(), 1)
    np.testing.assert_allclose(np.polyval(light, x[0, ..., 0]), result[0, ..., 0], atol=1e-4)


def test_channels_get_mean_and_deviation_of_the_style_and_flat_ones_are_not_blown_up():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((1, 20, 30, 3)).astype(np.float32) * np.float32([2.0, 0.5, 1e-6]) + 3
    mean, deviation = np.float32([[1.0, -1.0, 0.0]]), np.float32([[2.0, 0.5, 1.0]])
    mixed = np.asarray(any_style._mixed(x, mean, deviation, np.float32([1.0])))
    np.testing.assert_allclose(mixed.mean((0, 1, 2)), mean[0], atol=1e-3)
    np.testing.assert_allclose(mixed.std((0, 1, 2))[:2], deviation[0, :2], rtol=0.03)
    assert mixed.std((0, 1, 2))[2] < 1e-5
    own = np.float32([x.mean((0, 1, 2))]), np.float32([x.std((0, 1, 2))])
    np.testing.assert_allclose(any_style._mixed(x, *own, np.float32([1.0])), x, atol=1e-4)
    halfway = np.asarray(any_style._mixed(x, mean, deviation, np.float32([0.5])))
    np.testing.assert_allclose(halfway, (x + mixed) / 2, atol=1e-5)


def test_at_first_much_structure_is_the_photograph_itself(module, pictures):
    first = jax.jit(module.init)(jax.random.key(0), pictures)
    style = np.random.default_rng(5).random((3, 9 + 2 * 300), np.float32)
    shares = module.apply(first, style, np.float32([0.6, 0.75, 0.9]), method="shares_of")
    # By hand: logistic functions of 4, and of 5 (structure - 0.6) / 0.3 - 3.
    np.testing.assert_allclose(shares[:, :7], np.full((3, 7), 0.9820), atol=1e-3)
    np.testing.assert_allclose(shares[:, 7], [0.0474, 0.3775, 0.8808], atol=1e-3)


def test_the_photograph_in_the_colours_of_the_painting_is_blended_in(module, variables, style_of, pictures, paintings):
    style = np.asarray(style_of(paintings))

    def painted(shares):
        return np.asarray(jitted(style, np.tile(np.float32(shares), (2, 1))))

    jitted = jax.jit(lambda *asked: module.apply(variables, pictures, *asked, method="painted"))
    whole = painted([1.0] * 7 + [0.0])
    recolored = any_style._recolored(_opponents(pictures).astype(np.float32), style[:, :3], style[:, 3:9], np.ones(2))
    # Columns of OPPONENT are of length 1, and at right angles.
    red, green, blue = np.array([[1, 1, 1], [1, -1, 1], [1, 0, -2]]) / np.sqrt([3, 2, 6])
    photo = np.clip(np.asarray(recolored) @ np.stack([red, green, blue], 1), 0, 1)
    np.testing.assert_allclose(painted([1.0] * 8), photo, atol=1e-4)
    assert np.abs(whole - photo).max() > 0.05
    between = painted([1.0] * 7 + [0.5])
    inside = np.all((whole > 0.01) & (whole < 0.99) & (photo > 0.01) & (photo < 0.99), axis=-1)
    np.testing.assert_allclose(between[inside], (whole[inside] + photo[inside]) / 2, atol=1e-4)
    assert inside.mean() > 0.2
