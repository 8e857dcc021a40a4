"""The parts of an evaluation that need no network."""

import math
import warnings

import numpy as np
import pytest

from gqst.evaluation import evaluator, feature_sets


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
        interval = evaluator._interval(np.asarray(values))
    assert interval == ((0.25, 0.25) if values == [0.25] * 3 else None)


def _features(rows):
    features = feature_sets.FeatureSet()
    features.add(np.asarray(rows, np.float32))
    return features


def test_few_or_equal_pictures_have_no_distance():
    rows = np.random.default_rng(0).random((20, 4), np.float32)
    assert evaluator._no_sets(_features(rows[:10]), _features(rows[10:])) is None
    few = evaluator._no_sets(_features(rows[:9]), _features(rows))
    assert few == "not reported, 9 pictures of a set are fewer than 10"
    assert evaluator._no_sets(_features(rows), _features(rows[::-1])) == "not reported, both sets are the same pictures"
