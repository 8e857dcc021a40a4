"""Baselines against scikit-image."""

import numpy as np
import pytest
import skimage.color
import skimage.data

from gqst.evaluation import baselines


@pytest.mark.parametrize("name", ["coffee", "chelsea"])
def test_lab_is_that_of_scikit_image(name):
    rgb = getattr(skimage.data, name)()[:101:3, ::7].astype(np.float32) / 255.0
    lab = baselines.to_lab(rgb)
    np.testing.assert_allclose(lab, skimage.color.rgb2lab(rgb.astype(np.float64)), atol=1e-3)
    np.testing.assert_allclose(baselines.from_lab(lab), rgb, atol=1e-4)


def test_black_white_and_dark_greys():
    rgb = np.float32([[[0, 0, 0], [1, 1, 1], [0.02, 0.02, 0.02]]])
    lab = baselines.to_lab(rgb)
    np.testing.assert_allclose(lab[0, :2], [[0, 0, 0], [100, 0, 0]], atol=1e-2)
    np.testing.assert_allclose(baselines.from_lab(lab), rgb, atol=1e-4)


def test_colours_of_the_style_in_the_shapes_of_the_source():
    source, style = (
        getattr(skimage.data, n)()[90:154, 90:186].astype(np.float32) / 255.0 for n in ("coffee", "chelsea")
    )
    recolored = baselines.color_transfer(source, style)
    assert (
        recolored.shape == source.shape
        and recolored.dtype == np.float32
        and 0.0 <= recolored.min() <= recolored.max() <= 1.0
    )
    got, wanted = (skimage.color.rgb2lab(x).reshape(-1, 3) for x in (recolored, style))
    # Clipping to [0, 1] moves them a little.
    np.testing.assert_allclose(got.mean(0), wanted.mean(0), atol=1.5)
    np.testing.assert_allclose(got.std(0), wanted.std(0), rtol=0.1, atol=0.5)
    again = baselines.color_transfer(source, source)
    np.testing.assert_allclose(again, source, atol=1e-3)
