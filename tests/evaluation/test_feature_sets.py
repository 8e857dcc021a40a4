"""Sets of features: bounded rows, and their file."""

import numpy as np
import pytest

from gqst import types
from gqst.evaluation import feature_sets

ABOUT = {"network": "efficientnet_lite0", "size": "48x40"}


def _set(rows: np.ndarray) -> feature_sets.FeatureSet:
    features = feature_sets.FeatureSet()
    for part in np.array_split(rows, 3):
        features.add(part)
    return features


def test_rows_are_bounded_and_moments_are_those_of_all(monkeypatch):
    monkeypatch.setattr(feature_sets, "MAX_ROWS", 10)
    rows = np.random.default_rng(0).normal(size=(200, 3))
    features = _set(rows)
    assert features.rows.shape == (10, 3)
    assert {row.tobytes() for row in features.rows} <= {row.tobytes() for row in rows}
    assert not np.array_equal(features.rows, rows[:10])
    assert features.moments.count == 200
    np.testing.assert_allclose(features.moments.covariance, np.cov(rows.T), rtol=1e-10)


def test_a_file_gives_back_what_was_saved(tmp_path):
    features = _set(np.random.default_rng(0).normal(size=(9, 3)))
    path = tmp_path / "deep" / "style.npz"
    features.save(path, ABOUT)
    loaded = feature_sets.FeatureSet.load(path, ABOUT)
    np.testing.assert_array_equal(loaded.rows, features.rows)
    np.testing.assert_array_equal(loaded.moments.covariance, features.moments.covariance)
    assert loaded.moments.count == 9


def test_a_file_of_few_features_keeps_their_small_factor(tmp_path):
    features = _set(np.random.default_rng(0).normal(size=(9, 20)).astype(np.float32))
    features.save(tmp_path / "style.npz", ABOUT)
    loaded = feature_sets.FeatureSet.load(tmp_path / "style.npz", ABOUT)
    assert loaded.moments.factor.shape == (9, 20)
    np.testing.assert_array_equal(loaded.moments.factor, features.moments.factor)


def test_features_under_other_conditions_are_refused(tmp_path):
    path = tmp_path / "style.npz"
    _set(np.ones((4, 3))).save(path, ABOUT)
    with pytest.raises(types.InputError, match="holds statistics for size 48x40, not 32x32"):
        feature_sets.FeatureSet.load(path, {**ABOUT, "size": "32x32"})
