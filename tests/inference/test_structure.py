"""The strength at which a picture keeps its structure."""

import jax
import numpy as np
import pytest

import gqst
from gqst.inference import structure
from gqst.ops import color


@pytest.fixture(scope="module")
def floor():
    return structure.Floor(jax.devices()[0])


def _pair(height=150, width=290, seed=0):
    rng = np.random.default_rng(seed)
    source = np.kron(rng.random((height // 10, width // 10, 3)), np.ones((10, 10, 1)))
    styled = np.clip(source + 0.5 * rng.standard_normal(source.shape), 0, 1)
    return [np.round(x * 255).astype(np.uint8) for x in (source, styled)]


def _by_metric(blended, source):
    a, b = (np.float32(x)[None] / np.float32(255) for x in (blended, source))
    return float(gqst.metrics.contrast_structure(a, b)[0])


@pytest.mark.parametrize("size", [(150, 290), (20, 30)])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_structure_in_tiles_is_that_of_the_whole(floor, size, strength):
    source, styled = _pair(*size)
    blended = structure.blend(source, styled, strength)
    found = floor.structure(source, styled, strength)
    assert found == pytest.approx(_by_metric(blended, source), abs=1e-4)


def test_the_strongest_blend_that_holds_the_floor(floor):
    source, styled = _pair()
    blended, strength, found = floor.strongest(source, styled, 0.6)
    assert found >= 0.6 and 0 < strength < 1
    assert _by_metric(blended, source) == pytest.approx(found, abs=1e-4)
    assert floor.structure(source, styled, strength + 1 / structure.STEPS) < 0.6


def test_a_floor_that_holds_leaves_the_strength_and_one_that_cannot_hold_gives_the_source(floor):
    source, styled = _pair(60, 60)
    blended, strength, _ = floor.strongest(source, styled, 0.0, most=0.9)
    assert strength == 0.9
    np.testing.assert_array_equal(blended, structure.blend(source, styled, 0.9))
    blended, strength, found = floor.strongest(source, styled, 1.0)
    assert (strength, found) == (0.0, 1.0)
    np.testing.assert_array_equal(blended, source)


def test_pictures_smaller_than_the_window_are_refused(floor):
    with pytest.raises(ValueError, match="structure needs pictures of at least 11 px a side, got 10x30"):
        floor.structure(*_pair(10, 30), 1.0)


def test_a_blend_is_the_mean_of_logits():
    a, b = np.float32([[0.2, 0.0, 0.5]]), np.float32([[0.7, 1.0, 0.5]])
    logit = lambda x: np.log(x / (1 - x))  # noqa: E731
    expected = 1 / (1 + np.exp(-(0.75 * logit(0.2) + 0.25 * logit(0.7))))
    for xp in (np, jax.numpy):
        blended = np.asarray(color.blend(a, b, np.float32(0.25), xp=xp))
        np.testing.assert_allclose(blended[0, 0], expected, atol=1e-6)
        assert blended[0, 2] == pytest.approx(0.5) and 0 < blended[0, 1] < 0.5
        np.testing.assert_array_equal(color.blend(a, b, np.float32(0), xp=xp), a)
        np.testing.assert_array_equal(color.blend(a, b, np.float32(1), xp=xp), b)
