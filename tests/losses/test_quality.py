"""Quality terms: which pair, which side of the floor."""

import jax
import numpy as np
import pytest

from gqst import config, metrics
from gqst.losses import base

PAIRS = {
    "fake_target": ("fake", "target"),
    "cycled_source": ("cycled", "source"),
    "identity_target": ("identity", "target"),
    "fake_source": ("fake", "source"),
}


@pytest.fixture(scope="module")
def context() -> base.Context:
    """Five noisy versions of the same two pictures, each noisier than the one before."""
    rng = np.random.default_rng(0)
    clean = np.kron(rng.random((2, 4, 4, 3)), np.ones((1, 4, 4, 1)))
    names = ("source", "target", "fake", "cycled", "identity")
    pictures = {
        name: (clean + 0.03 * i * rng.normal(size=clean.shape)).clip(0, 1).astype(np.float32)
        for i, name in enumerate(names)
    }
    return base.Context(**pictures, keys=jax.random.split(jax.random.key(0), 2))


def _loss(context, **options):
    (entry,) = base.build({"q": config.loss(1.0, term="quality", **options)}, paired=True)
    return np.asarray(jax.jit(entry.term)(context))


@pytest.mark.parametrize("pair", PAIRS)
def test_what_is_lost_is_the_way_to_one(context, pair):
    one, other = (getattr(context, name) for name in PAIRS[pair])
    actual = _loss(context, metric="contrast_structure", pair=pair)
    np.testing.assert_allclose(actual, 1.0 - metrics.contrast_structure(one, other), atol=1e-5)
    assert (actual > 0.01).all()


def test_ssim_and_psnr(context):
    actual = _loss(context, metric="ssim", pair="cycled_source")
    np.testing.assert_allclose(actual, 1.0 - metrics.ssim(context.cycled, context.source), atol=1e-5)
    actual = _loss(context, metric="psnr", pair="fake_target")
    expected = np.log(((np.float64(context.fake) - context.target) ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_nothing_is_lost_above_the_floor(context):
    options = {"metric": "contrast_structure", "pair": "fake_source"}
    values = 1.0 - _loss(context, **options)
    between = float(values.mean())
    assert values.min() < between < values.max()
    actual = _loss(context, **options, floor=between)
    np.testing.assert_allclose(actual, np.maximum(between - values, 0.0), atol=1e-6)
    assert actual.min() == 0.0 < actual.max()


def test_a_structure_that_was_asked_for_is_missed_on_both_sides(context):
    (entry,) = base.build({"asked_structure": config.loss(1.0)}, paired=False)
    measured = np.asarray(metrics.contrast_structure(context.fake, context.source))
    asked = measured + np.array([0.25, -0.125], np.float32)
    actual = entry.term(context.replace(structure=asked))
    np.testing.assert_allclose(actual, [0.25, 0.125], atol=1e-6)
    (entry,) = base.build({"asked_structure": config.loss(1.0, above=0.2)}, paired=False)
    np.testing.assert_allclose(entry.term(context.replace(structure=asked)), [0.25, 0.025], atol=1e-6)
