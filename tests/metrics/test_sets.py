"""Distances between sets against SciPy and by hand."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from gqst.metrics import sets


def _flat(*colour: float, size: int = 8, count: int = 1) -> np.ndarray:
    return np.broadcast_to(np.float32(colour), (count, size, size, 3))


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        # The mean of |cos| over the sphere is a half: half the length of the way between two colours.
        (_flat(0, 0, 0), _flat(1, 1, 1), math.sqrt(3) / 2),
        (_flat(0, 0, 0), _flat(1, 0, 0), 0.5),
        (_flat(0, 0.2, 0), _flat(0, 0.8, 0), 0.3),
        (_flat(0.2, 0.4, 0), _flat(0.2, 0.4, 1), 0.5),
        (_flat(0.3, 0.3, 0.3), _flat(0.3, 0.3, 0.3, size=5, count=3), 0.0),
    ],
)
def test_flat_colours_by_hand(one, other, distance):
    assert sets.palette_distance(one, other) == pytest.approx(distance, rel=0.03, abs=1e-9)
    assert sets.palette_distance(other, one) == pytest.approx(distance, rel=0.03, abs=1e-9)


def test_it_is_the_mean_of_scipys_distance_over_directions():
    rng = np.random.default_rng(0)
    one = rng.beta(2.0, 5.0, (3, 16, 16, 3)).astype(np.float32)
    other = rng.beta((1.0, 3.0, 2.0), 2.0, (2, 20, 12, 3)).astype(np.float32)
    directions = rng.normal(size=(400, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    expected = np.mean(
        [scipy.stats.wasserstein_distance(one.reshape(-1, 3) @ d, other.reshape(-1, 3) @ d) for d in directions]
    )
    assert sets.palette_distance(one, other) == pytest.approx(expected, rel=0.03)


def test_positions_and_counts_do_not_matter():
    rng = np.random.default_rng(0)
    pictures = rng.random((2, 16, 16, 3), np.float32)
    shuffled = rng.permutation(pictures.reshape(-1, 3)).reshape(1, 32, 16, 3)
    assert sets.palette_distance(pictures, shuffled) == pytest.approx(0.0, abs=1e-6)
    twice = np.concatenate([pictures, pictures])
    assert sets.palette_distance(pictures, twice) < 2e-3


def test_palettes_of_one_mean_may_lie_apart():
    """Half black and half white against grey: every pixel has half the way from black to white to go."""
    both = np.concatenate([_flat(0, 0, 0), _flat(1, 1, 1)])
    distance = sets.palette_distance(both, _flat(0.5, 0.5, 0.5))
    assert distance == pytest.approx(math.sqrt(3) / 4, rel=0.03)


def test_a_shift_moves_every_quantile():
    pictures = 0.5 * np.random.default_rng(0).random((1, 16, 16, 3), np.float32)
    shifted = pictures + np.float32([0.0, 0.3, 0.0])
    assert sets.palette_distance(pictures, shifted) == pytest.approx(0.15, rel=0.03)


def test_kid_by_hand():
    """By the definition, with sums over pairs spelt out."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(6, 4)), rng.normal(loc=0.5, size=(9, 4))

    def k(x, y):
        return (np.dot(x, y) / 4 + 1) ** 3

    within_one = np.mean([k(one[i], one[j]) for i in range(6) for j in range(6) if i != j])
    within_other = np.mean([k(other[i], other[j]) for i in range(9) for j in range(9) if i != j])
    between = np.mean([k(x, y) for x in one for y in other])
    estimate = sets.kid(one, other)
    assert estimate.value == pytest.approx(1000 * (within_one + within_other - 2 * between), rel=1e-6)
    assert (estimate.subsets, estimate.size) == (1, 6) and math.isnan(estimate.error)


def test_kid_over_subsets():
    rng = np.random.default_rng(0)
    one, same = rng.normal(size=(2, 120, 16))
    far = rng.normal(loc=0.5, size=(90, 16))
    estimate, nothing = sets.kid(one, far), sets.kid(one, same)
    assert (estimate.subsets, estimate.size) == (100, 50)
    assert estimate == sets.kid(one, far)
    # Unbiased: equal distributions are 0 but for chance; others agree with the whole sets.
    assert abs(nothing.value) < 0.1 * estimate.value
    assert estimate.value == pytest.approx(sets.kid(one, far, size=1000).value, rel=0.05)
    assert 0 < estimate.error < 0.1 * estimate.value


def test_kid_needs_two():
    with pytest.raises(ValueError, match="at least 2 rows a set, got 1 and 5"):
        sets.kid(np.zeros((1, 3)), np.zeros((5, 3)))


def _moments(rows, *cuts):
    moments = sets.Moments()
    for part in np.split(rows, cuts):
        moments.add(part)
    return moments


def test_moments_are_those_of_numpy_however_they_came():
    rows = np.random.default_rng(0).normal(3.0, 2.0, (50, 6)).astype(np.float32)
    moments = _moments(rows, 1, 1, 7, 30)
    assert moments.count == 50
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(moments.covariance, np.cov(rows.astype(np.float64).T), rtol=1e-9)
    with pytest.raises(ValueError, match="at least 2 rows"):
        _ = _moments(rows[:1]).covariance


@pytest.mark.parametrize("count", [5, 50])
def test_the_factor_is_a_root_of_the_covariance_with_no_more_rows_than_it_needs(count):
    rows = np.random.default_rng(0).normal(size=(count, 6))
    factor = _moments(rows, 3).factor
    assert factor.shape == (min(count, 6), 6)
    np.testing.assert_allclose(factor.T @ factor, np.cov(rows.T), atol=1e-12)


@pytest.mark.parametrize("count", [200, 9])
def test_frechet_is_that_with_scipys_matrix_root(count):
    """Also where there are fewer rows than dimensions and the covariances have no inverse."""
    rng = np.random.default_rng(1)
    mix = rng.normal(size=(16, 16))
    one = rng.normal(size=(count, 16)) @ mix
    other = rng.normal(0.5, 1.5, size=(count + 7, 16))
    covariances = [np.cov(x.T) for x in (one, other)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    gap = one.mean(0) - other.mean(0)
    expected = gap @ gap + np.trace(covariances[0] + covariances[1] - 2.0 * np.real(root))
    got = sets.frechet(_moments(one), _moments(other))
    assert got == pytest.approx(expected, rel=1e-4)
    assert sets.frechet(_moments(one), _moments(one)) == pytest.approx(0.0, abs=1e-4)


def test_frechet_of_gaussians_on_a_line_by_hand():
    """(m1 - m2)^2 + (s1 - s2)^2 of rows -1, 1 (deviation sqrt 2) and 3, 9 (deviation 3 sqrt 2)."""
    one, other = (_moments(np.float64([[a], [b]])) for a, b in ((-1, 1), (3, 9)))
    assert sets.frechet(one, other) == pytest.approx(36.0 + 8.0)


def test_art_fid_by_hand():
    assert sets.art_fid(0.25, 15.0) == pytest.approx(20.0)
