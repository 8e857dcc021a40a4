"""Luma, and training and sampling on luma alone."""

import jax
import numpy as np
import pytest
import skimage.color

from gqst.ops import color
from gqst.runtime import devices
from gqst.training import parallel, rounds, state
from gqst.training.recipe import Recipe
from tests import conftest


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.uniform(0.3, 0.7, (2, 2, 16, 16, 3)).astype(np.float32)


def test_recolouring_keeps_the_colour_differences_of_the_source(pair):
    """Against scikit-image's YCbCr, where no value leaves [0, 1]."""
    styled, source = 0.8 * pair[0] + 0.1, pair[1]
    recolored, ycc_source, ycc_styled = (
        skimage.color.rgb2ycbcr(np.asarray(x)) for x in (color.recolor(styled, source), source, styled)
    )
    np.testing.assert_allclose(recolored[..., 1:], ycc_source[..., 1:], atol=0.02)
    np.testing.assert_allclose(recolored[..., 0], ycc_styled[..., 0], atol=0.02)


def test_recolouring_with_the_same_brightness_is_the_source(pair):
    np.testing.assert_allclose(color.recolor(color.grey(pair[1]), pair[1]), pair[1], atol=1e-6)
    black = np.zeros_like(pair[0])
    assert 0.0 <= float(color.recolor(black, pair[1]).min()) <= float(color.recolor(black + 1, pair[1]).max()) <= 1.0


def test_grey_is_luma(pair):
    grey = np.asarray(color.grey(pair[0]))
    assert grey.shape == pair[0].shape
    np.testing.assert_allclose(grey[..., 1], skimage.color.rgb2ycbcr(pair[0])[..., 0] * (1 / 219) - 16 / 219, atol=1e-3)


@pytest.mark.slow  # two compiled steps
def test_training_does_not_see_colours(batch):
    """Pictures of the same brightness and other colours give the same step."""
    recipe = Recipe(conftest.small("style_image", "keep_colors=True", "batch_size=8"), paired=False)
    trainer = parallel.build(recipe, batch_size=8, devices=jax.devices()[:1])
    soft = {key: 0.25 + 0.5 * x for key, x in batch.items()}
    shift = np.float32([0.587, -0.299, 0.0]) * 0.1  # has no luma: 0.299 * 0.587 - 0.587 * 0.299
    other = {key: (x + shift).astype(np.float32) for key, x in soft.items()}
    one, two = (trainer.step(trainer.create(0), trainer.put(b))[1] for b in (soft, other))
    for name, value in one.items():
        assert float(two[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-4), name


def test_a_round_shows_the_colours_of_the_source():
    recipe = Recipe(conftest.small("style_image", "keep_colors=True"), paired=False)
    ema = jax.jit(lambda: state.create(recipe, jax.random.key(0)).ema)()
    ema = jax.tree.map(lambda x: x + 0.02, ema)
    rng = np.random.default_rng(0)
    held_out = {key: rng.uniform(0.3, 0.7, (3, 32, 32, 3)).astype(np.float32) for key in ("source", "target")}
    measure = rounds.Round(
        recipe, held_out, paired=False, batch_size=3, samples=3, mesh=devices.DeviceMesh(jax.devices()[:1])
    )
    columns = measure(ema, 1).columns
    fake, source = columns["fake"], columns["source"]
    inside = (fake > 0.001).all(-1) & (fake < 0.999).all(-1)
    assert inside.mean() > 0.3
    gap = fake - source
    np.testing.assert_allclose(gap[inside].max(-1), gap[inside].min(-1), atol=1e-4)
    assert np.abs(np.asarray(color.luma(fake)) - np.asarray(color.luma(source))).max() > 0.01
