"""Targets to weights."""

import math

import pytest

from gqst import config
from gqst.quality import targets

TARGET = targets.Target("contrast_structure", 0.6, ("structure",))
PLAIN = config.Control(gain=2.0, smoothing=0.0, dead_band=0.0, limit=100.0)


def _decide(measured, *, weight=1.0, smoothed=None, target=TARGET, control=PLAIN):
    return targets.decide([target], {target.metric: measured}, {"structure": weight}, smoothed or {}, control)


def test_a_weight_moves_by_the_exponential_of_the_error():
    new, _, (said,) = _decide(0.4, weight=3.0)
    assert new["structure"] == pytest.approx(3.0 * math.exp(2.0 * 0.2))
    assert (said.reason, said.old, said.measured, said.target) == ("below", 3.0, 0.4, 0.6)
    new, _, (said,) = _decide(0.7, weight=3.0)
    assert new["structure"] == pytest.approx(3.0 * math.exp(-2.0 * 0.1)) and said.reason == "above"


def test_the_measurement_is_smoothed_from_the_second_round_on():
    control = config.Control(gain=2.0, smoothing=0.25, dead_band=0.0, limit=100.0)
    _, memory, _ = _decide(0.4, control=control)
    assert memory == {"contrast_structure": 0.4}
    new, memory, (said,) = _decide(0.8, smoothed=memory, control=control)
    # 0.25 * 0.4 + 0.75 * 0.8 = 0.7
    assert memory["contrast_structure"] == pytest.approx(0.7) and said.smoothed == pytest.approx(0.7)
    assert new["structure"] == pytest.approx(math.exp(-0.2))


def test_within_the_dead_band_nothing_moves_and_beyond_it_there_is_no_jump():
    control = config.Control(gain=2.0, smoothing=0.0, dead_band=0.05, limit=100.0)
    new, _, (said,) = _decide(0.56, control=control)
    assert new["structure"] == 1.0 and said.reason == "in the dead band"
    new, _, _ = _decide(0.549, control=control)
    assert new["structure"] == pytest.approx(math.exp(2.0 * 0.001))


def test_the_rate_is_limited_both_ways():
    control = config.Control(gain=50.0, smoothing=0.0, dead_band=0.0, limit=2.0)
    assert _decide(0.0, control=control)[0]["structure"] == pytest.approx(2.0)
    assert _decide(1.0, control=control)[0]["structure"] == pytest.approx(0.5)


def test_bounds_hold_and_are_told():
    control = config.Control(gain=50.0, smoothing=0.0, dead_band=0.0, limit=2.0, bounds=(0.8, 1.5))
    new, _, (said,) = _decide(0.0, weight=1.4, control=control)
    assert new["structure"] == 1.5 and said.reason == "at the bound"
    new, _, (said,) = _decide(1.0, weight=1.0, control=control)
    assert new["structure"] == 0.8 and said.reason == "at the bound"


def test_psnr_counts_in_units_of_30_db():
    target = targets.Target("psnr", 30.0, ("structure",))
    new, _, _ = _decide(27.0, target=target)
    assert new["structure"] == pytest.approx(math.exp(2.0 * 0.1))


def test_what_is_no_number_moves_nothing_and_is_not_remembered():
    new, memory, (said,) = _decide(math.nan, smoothed={"contrast_structure": 0.5})
    assert new["structure"] == 1.0 and memory == {"contrast_structure": 0.5} and said.reason == "not a number"


def test_every_loss_of_a_target_moves_and_others_stay():
    target = targets.Target("ssim", 0.6, ("one", "two"))
    new, _, trail = targets.decide([target], {"ssim": 0.5}, {"one": 1.0, "two": 2.0, "other": 3.0}, {}, PLAIN)
    factor = math.exp(0.2)
    assert new == pytest.approx({"one": factor, "two": 2.0 * factor, "other": 3.0}) and len(trail) == 2


@pytest.mark.parametrize("target", [0.45, 0.6, 0.75])
def test_it_brings_a_slow_plant_to_the_target(target):
    """A metric that follows the weight with a lag and noise: 1 - exp(-weight), half-way a round."""
    settings, aim = config.Control(), targets.Target("ssim", target, ("w",))
    weights, memory, level = {"w": 0.2}, {}, 0.2
    values = []
    for n in range(60):
        level += 0.5 * (1.0 - math.exp(-weights["w"]) - level)
        weights, memory, _ = targets.decide([aim], {"ssim": level + 0.01 * (-1) ** n}, weights, memory, settings)
        values.append(level)
    assert max(abs(v - target) for v in values[-10:]) < 0.02
