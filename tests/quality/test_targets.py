"""Targets to weights."""

import math

import pytest

from gqst import config, types
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


def test_a_target_without_a_loss_judges_and_moves_nothing():
    floor = targets.Target("contrast_structure", 0.65)
    new, memory, trail = targets.decide([floor], {}, {"structure": 1.0}, {}, PLAIN)
    assert (new, memory, trail) == ({"structure": 1.0}, {}, [])


@pytest.mark.parametrize(
    ("metric", "value", "measured", "shortfall"),
    [
        ("contrast_structure", 0.6, 0.5, 0.1),
        ("contrast_structure", 0.6, 0.595, 0.0),  # within the tolerance of 0.01
        ("contrast_structure", 0.6, 0.9, 0.0),
        ("psnr", 30.0, 24.0, 0.2),  # in units of 30 dB
        ("psnr", 30.0, 29.8, 0.0),
    ],
)
def test_shortfall(metric, value, measured, shortfall):
    assert targets.Target(metric, value).shortfall(measured) == pytest.approx(shortfall)


def _quality(**options):
    return config.loss(3.0, term="quality", **options)


STRUCTURE = {"metric": "contrast_structure", "pair": "fake_source"}


def test_a_target_steers_the_losses_of_its_metric_and_becomes_their_floor():
    losses = {
        "cycle": config.loss(10.0),
        "structure": _quality(**STRUCTURE, floor=0.4),
        "also": _quality(**STRUCTURE),
        "identity": _quality(metric="contrast_structure", pair="identity_target"),
        "off": config.loss(0.0, term="quality", **STRUCTURE),
    }
    steered, aims = targets.aim(losses, {"contrast_structure": 0.6})
    assert aims == (targets.Target("contrast_structure", 0.6, ("structure", "also")),)
    assert [steered[label].options.get("floor") for label in losses] == [None, 0.6, 0.6, None, None]
    assert losses["structure"].options["floor"] == 0.4  # what was given stays as it is


@pytest.mark.parametrize(
    ("name", "value", "options"),
    [
        ("contrast_structure", 0.6, {**STRUCTURE, "floor": 0.6}),
        ("ssim", 0.5, {"metric": "ssim", "pair": "fake_target", "floor": 0.5}),
        ("psnr", 25.0, {"metric": "psnr", "pair": "fake_target"}),  # a log-MSE has no floor
        ("ssim_cycled", 0.7, {"metric": "ssim", "pair": "cycled_source", "floor": 0.7}),
    ],
)
def test_a_loss_is_added_where_there_is_none(name, value, options):
    steered, aims = targets.aim({"cycle": config.loss(10.0)}, {name: value})
    assert steered[f"target_{name}"] == config.loss(5.0, term="quality", **options)
    assert aims == (targets.Target(name, value, (f"target_{name}",)),)


def test_floors_towards_the_sources_are_judged():
    losses = {
        "structure": _quality(**STRUCTURE, floor=0.65),
        "truth": _quality(metric="ssim", pair="fake_target", floor=0.9),
        "identity": _quality(metric="contrast_structure", pair="identity_target", floor=0.9),
        "off": config.loss(0.0, term="quality", **STRUCTURE, floor=0.9),
        "quality": config.loss(1.0, **STRUCTURE, floor=0.3),  # the label names the term
    }
    same, aims = targets.aim(losses, {})
    assert same == losses
    assert aims == (targets.Target("contrast_structure", 0.65), targets.Target("contrast_structure", 0.3))
    _, aims = targets.aim(losses, {"ssim": 0.5})
    assert [(target.metric, target.value, bool(target.labels)) for target in aims] == [
        ("ssim", 0.5, True),
        ("contrast_structure", 0.65, False),
        ("contrast_structure", 0.3, False),
    ]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"lpips": 0.1}, ["no metric 'lpips' to aim at", "ssim, psnr, contrast_structure, ssim_cycled"]),
        ({"contrast_strucure": 0.6}, ["did you mean 'contrast_structure'?"]),
        ({"ssim": 1.0}, ["ssim=1.0 cannot be met", "between 0 and 1"]),
        ({"psnr": 100.0}, ["psnr=100.0 cannot be met", "between 0 and 100 dB"]),
    ],
)
def test_targets_that_cannot_be_reached(wanted, words):
    with pytest.raises(types.InputError) as caught:
        targets.aim({}, wanted)
    assert all(word in str(caught.value) for word in words), caught.value
