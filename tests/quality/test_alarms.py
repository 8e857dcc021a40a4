"""Alarms, on real photographs that are spoilt."""

import numpy as np
import pytest

from gqst.pictures import decode, folders
from gqst.quality import alarms


@pytest.fixture(scope="module")
def photos():
    """The bundled photographs, 48 px."""
    photos = folders.listing("demo:photos/train", option="photos")
    pictures = [photos.load(i).resize((48, 48)) for i in range(len(photos))]
    return np.stack([np.asarray(p, np.float32) / 255.0 for p in pictures])


def _kinds(photos, fakes, *, settled=True):
    return {alarm.kind for alarm in alarms.of_pictures(photos, fakes, settled=settled)}


def test_a_style_raises_none(photos):
    sepia = np.clip(photos.mean(-1, keepdims=True) ** 0.7 * np.float32([1.0, 0.85, 0.6]), 0, 1)
    assert _kinds(photos, sepia) == set()
    noisy = np.clip(photos + np.random.default_rng(0).normal(0, 0.1, photos.shape), 0, 1)
    assert _kinds(photos, noisy) == set()


def test_inversion(photos):
    assert _kinds(photos, 1.0 - photos) == {"inversion"}
    # Contrast and structure of a mostly flat picture do not show it: the rocket before the night sky.
    assert alarms.luma_correlation(photos, 1.0 - photos) == pytest.approx(-1.0, abs=1e-4)
    assert alarms.luma_correlation(photos, photos) == pytest.approx(1.0, abs=1e-4)


def test_collapse(photos):
    assert _kinds(photos, np.broadcast_to(photos[:1], photos.shape)) >= {"collapse"}
    assert alarms.diversity(photos, photos) == pytest.approx(1.0)
    assert alarms.diversity(photos, 0.5 * photos) == pytest.approx(0.5, rel=1e-4)
    assert alarms.diversity(photos[:1], photos[:1]) == 1.0


def test_doing_nothing_is_an_alarm_only_once_settled(photos):
    assert _kinds(photos, photos) == {"does_nothing"}
    assert _kinds(photos, photos, settled=False) == set()
    assert _kinds(photos, np.clip(photos + 0.02, 0, 1)) == set()


def test_what_is_no_number(photos):
    fakes = photos.copy()
    fakes[0, 0, 0, 0] = np.nan
    assert _kinds(photos, fakes) == {"not_finite"}


def test_a_discriminator_that_wins():
    won = {"loss/adversarial_discriminator": 0.004, "loss/adversarial": 7.0}
    assert [a.kind for a in alarms.of_training(won, {})] == ["discriminator_wins"]
    assert alarms.of_training({"loss/adversarial_discriminator": 0.9, "loss/r1_discriminator": 0.0}, {}) == []
    # Wasserstein's is no probability.
    assert alarms.of_training({"loss/adversarial_discriminator": -3.0}, {}) == []


@pytest.mark.parametrize(
    ("share", "norm", "kinds"),
    # A last layer of zeros, as at the start, has a gradient itself; where all that was asked is reached, nothing has.
    [(0.0, 2.0, []), (11 / 12, 2.0, []), (1.0, 2.0, ["dead"]), (1.0, 0.0, [])],
)
def test_a_generator_that_learns_no_more(share, norm, kinds):
    last = {"without_gradient/generator": share, "gradient_norm/generator": norm}
    raised = alarms.of_training({"without_gradient/generator": 1.0, "gradient_norm/generator": 1.0}, last)
    assert [alarm.kind for alarm in raised] == kinds


def test_sides_that_eight_does_not_divide(photos):
    odd = photos[:, :45, :43]
    assert decode.to_bytes(odd[0]).shape == (45, 43, 3)
    assert alarms.diversity(odd, odd) == pytest.approx(1.0)


def test_stamps_are_an_alarm_once_settled(photos):
    stamped, brushed = np.full(len(photos), 0.7), np.full(len(photos), 0.3)
    tinted = np.clip(photos * np.float32([1.0, 0.7, 0.4]), 0, 1)
    for settled, values, own, kinds in (
        (True, stamped, brushed, {"repetition"}),
        (True, brushed, brushed, set()),
        (False, stamped, brushed, set()),
        # A photograph of boards repeats itself.
        (True, stamped, stamped + 0.1, set()),
    ):
        raised = alarms.of_pictures(photos, tinted, settled=settled, repetition=(values, own))
        assert {alarm.kind for alarm in raised} == kinds
