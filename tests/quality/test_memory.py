"""The memory of rounds: the best, going back, and what a checkpoint's note carries."""

import json

import pytest

from gqst import config
from gqst.quality import alarms, memory, selection, targets

COLLAPSE = alarms.Alarm("collapse", "fakes look alike")
TARGET = targets.Target("ssim", 0.8, ("similar",))


def _steering(**options) -> memory.Steering:
    return memory.Steering(config.Config(**options), [TARGET])


def _standing(step: int, distance: float) -> selection.Standing:
    return selection.Standing(step=step, style_distance=distance, shortfall=0.0)


def test_the_best_round_and_those_worth_a_checkpoint():
    steering = _steering(keep_checkpoints=1)
    assert steering.best is None and steering.kept == []
    assert [steering.rank(_standing(*x)) for x in ((10, 3.0), (20, 1.0), (30, 2.0))] == [True, True, False]
    assert steering.best == _standing(20, 1.0) and steering.kept == [20]


def test_a_grave_alarm_counts_only_after_a_good_round():
    steering = _steering()
    warning = alarms.Alarm("does_nothing", "fakes are their sources")
    assert steering.judge([COLLAPSE], 10) is None and steering.good is None
    assert steering.judge([warning], 20) is None and steering.good == 20
    assert steering.judge([warning, COLLAPSE], 30) == COLLAPSE and steering.good == 20


def test_going_back_forgets_later_rounds_and_halves_the_rate():
    steering = _steering()
    for step in (10, 20, 30):
        steering.rank(_standing(step, 40.0 - step))
        steering.judge([], step)
    steering.go_back(20)
    assert [s.step for s in steering.standings] == [10, 20] and steering.good == 20
    assert (steering.rollbacks, steering.rate) == (1, 0.5)
    steering.go_back(10)
    assert steering.best == _standing(10, 30.0) and steering.rate == 0.25


@pytest.mark.parametrize(("rounds", "stalled"), [(None, False), (2, True), (3, False)])
def test_a_run_ends_after_rounds_without_progress(rounds, stalled):
    steering = _steering(stop_after=rounds)
    for step, distance in ((10, 2.0), (20, 1.0), (30, 1.5), (40, 1.2)):
        steering.rank(_standing(step, distance))
    assert steering.stalled is stalled


def test_a_note_in_json_carries_everything():
    steering = _steering()
    steering.rank(_standing(10, 2.0))
    steering.judge([], 10)
    steering.go_back(10)
    multipliers, trail = steering.weigh({"ssim": 0.5}, {"similar": 1.0})
    assert multipliers["similar"] > 1.0 and trail[0].reason == "below"
    resumed = _steering()
    resumed.recall(json.loads(json.dumps(steering.note())))
    assert resumed.note() == steering.note()
    # The smoothed measurements go on as well.
    assert resumed.weigh({"ssim": 0.9}, multipliers) == steering.weigh({"ssim": 0.9}, multipliers)
