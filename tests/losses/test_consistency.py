"""Pixel terms by hand."""

import jax
import numpy as np
import pytest

from gqst import config
from gqst.losses import base


@pytest.fixture
def context() -> base.Context:
    pictures = np.random.default_rng(0).random((5, 2, 6, 7, 3), np.float32)
    names = ("source", "target", "fake", "cycled", "identity")
    return base.Context(**dict(zip(names, pictures, strict=True)), keys=jax.random.split(jax.random.key(0), 2))


def _term(name: str):
    (entry,) = base.build({name: config.loss(1.0)}, paired=True)
    return entry.term


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [("cycle", "cycled", "source"), ("identity", "identity", "target"), ("l1", "fake", "target")],
)
def test_mean_absolute_errors(context, name, one, other):
    expected = np.abs(np.float64(getattr(context, one)) - getattr(context, other)).mean((1, 2, 3))
    actual = _term(name)(context)
    assert actual.shape == (2,) and actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    equal = context.replace(**{one: getattr(context, other)})
    np.testing.assert_array_equal(_term(name)(equal), 0.0)


def test_total_variation(context):
    """Each picture's mean step down plus its mean step to the right."""
    fake = np.zeros((2, 4, 5, 3), np.float32)
    fake[0, 2:] = 0.5  # one edge across: 1 of 3 steps down is 0.5
    fake[1, :, 1] = 1.0  # a line down: 2 of 4 steps to the right are 1
    actual = _term("total_variation")(context.replace(fake=fake))
    np.testing.assert_allclose(actual, [0.5 / 3, 2 / 4], rtol=1e-6)
    np.testing.assert_array_equal(_term("total_variation")(context.replace(fake=0 * fake + 0.3)), 0.0)
