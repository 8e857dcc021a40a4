"""The parts of an evaluation that need no network."""

import math
import warnings

import numpy as np
import pytest

from gqst.evaluation import evaluator


def test_the_interval_is_that_of_efrons_percentiles():
    values = np.random.default_rng(1).normal(3.0, 2.0, 40)
    draws = np.random.default_rng(2).choice(values, (20_000, 40)).mean(1)
    low, high = evaluator._interval(values)
    # 1,000 resamples leave the ends uncertain by some hundredths.
    np.testing.assert_allclose((low, high), np.quantile(draws, (0.025, 0.975)), atol=0.1)
    assert low < values.mean() < high
    assert evaluator._interval(values) == (low, high)


@pytest.mark.parametrize("values", [[0.25], [0.25, 0.25, 0.25], [math.inf, math.inf], [0.5, math.inf], [0.5, math.nan]])
def test_intervals_of_few_equal_or_infinite_values(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = evaluator._interval(np.asarray(values))
    if math.isfinite(sum(values)):
        assert (low, high) == (0.25, 0.25)
    else:
        assert not math.isfinite(high)
