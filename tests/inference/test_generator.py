"""A generator restored from its run."""

import numpy as np
import pytest

import gqst
from gqst import types


def test_a_batch_is_its_pictures(generator):
    pictures = np.random.default_rng(0).random((3, 40, 36, 3), np.float32)
    together = generator(pictures)
    assert together.shape == pictures.shape and together.dtype == np.float32
    np.testing.assert_allclose(together[1], generator(pictures[1]), atol=1e-5)
    with pytest.raises(ValueError, match="got shape"):
        generator(pictures[..., :1])


def test_keeping_the_colours(workdir, generator):
    """The brightness is the style's, the differences between channels are the source's."""
    picture = np.random.default_rng(0).uniform(0.4, 0.6, (40, 36, 3)).astype(np.float32)
    kept, styled = gqst.load_generator(workdir, which=generator.step, keep_colors=True)(picture), generator(picture)
    weights = np.float32([0.299, 0.587, 0.114])
    np.testing.assert_allclose(kept, np.clip(picture + ((styled - picture) @ weights)[..., None], 0, 1), atol=1e-5)


def test_best_last_and_a_step(workdir):
    assert gqst.load_generator(workdir).step == 1
    assert gqst.load_generator(workdir, which="last").step == 2
    first = gqst.load_generator(workdir, which=1)
    assert first.step == 1
    picture = np.random.default_rng(0).random((40, 36, 3), np.float32)
    np.testing.assert_array_equal(gqst.load_generator(workdir)(picture), first(picture))
    assert np.abs(gqst.load_generator(workdir, which=2)(picture) - first(picture)).max() > 1e-4


def test_runs_checkpoints_and_directions_that_do_not_exist(workdir):
    with pytest.raises(types.InputError, match=r"no checkpoint 7 in .*; there are: 1, 2"):
        gqst.load_generator(workdir, which=7)
    with pytest.raises(types.InputError, match="has no direction 'backward'; it has: forward"):
        gqst.load_generator(workdir, direction="backward")
    with pytest.raises(types.InputError, match=r"it has no config\.json"):
        gqst.load_generator(workdir.parent)
