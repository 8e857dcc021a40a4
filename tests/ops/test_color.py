"""Luma, grey and recolouring against scikit-image."""

import numpy as np
import pytest
import skimage.color

from gqst.ops import color


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
