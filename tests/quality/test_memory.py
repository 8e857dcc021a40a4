"""The memory of rounds: the best, going back, and what a checkpoint's note carries."""

import json

import pytest

from gqst import config
from gqst.quality import alarms, memory, selection, targets

COLLAPSE = alarms.Alarm("collapse", "fakes look alike")
TARGET = targets.Target("ssim", 0.8, ("similar",))


def _memory(**options) -> memory.Memory:
    return memory.Memory(config.Config(**options), [TARGET])


def _standing(step: int, distance: float) -> selection.Standing:
    return selection.Standing(step=step, style_distance=distance, shortfall=0.0)


def test_the_best_round_and_those_worth_a_checkpoint():
    history = _memory(keep_checkpoints=1)
    assert history.best is None and history.kept == []
    assert [history.rank(_standing(*x)) for x in ((10, 3.0), (20, 1.0), (30, 2.0))] == [True, True, False]
    assert history.best == _standing(20, 1.0) and history.kept == [20]


def test_a_grave_alarm_counts_only_after_a_good_round():
    history = _memory()
    warning = alarms.Alarm("does_nothing", "fakes are their sources")
    assert history.judge([COLLAPSE], 10) is None and history.good is None
    assert history.judge([warning], 20) is None and history.good == 20
    assert history.judge([warning, COLLAPSE], 30) == COLLAPSE and history.good == 20


def test_going_back_forgets_later_rounds_and_halves_the_rate():
    history = _memory()
    for step in (10, 20, 30):
        history.rank(_standing(step, 40.0 - step))
        history.judge([], step)
    history.go_back(20)
    assert [s.step for s in history.standings] == [10, 20] and history.good == 20
    assert (history.rollbacks, history.rate) == (1, 0.5)
    history.go_back(10)
    assert history.best == _standing(10, 30.0) and history.rate == 0.25


@pytest.mark.parametrize(("rounds", "stalled"), [(None, False), (2, True), (3, False)])
def test_a_run_ends_after_rounds_without_progress(rounds, stalled):
    history = _memory(stop_after=rounds)
    for step, distance in ((10, 2.0), (20, 1.0), (30, 1.5), (40, 1.2)):
        history.rank(_standing(step, distance))
    assert history.stalled is stalled


def test_a_note_in_json_carries_everything():
    history = _memory()
    history.rank(_standing(10, 2.0))
    history.judge([], 10)
    history.go_back(10)
    multipliers, trail = history.weigh({"ssim": 0.5}, {"similar": 1.0})
    assert multipliers["similar"] > 1.0 and trail[0].reason == "below"
    resumed = _memory()
    resumed.recall(json.loads(json.dumps(history.note())))
    assert resumed.note() == history.note()
    # The smoothed measurements go on as well.
    assert resumed.weigh({"ssim": 0.9}, multipliers) == history.weigh({"ssim": 0.9}, multipliers)
