"""The ranking of rounds."""

import json

import pytest

from gqst.quality import selection


def _standing(style_distance: float, shortfall: float) -> selection.Standing:
    return selection.Standing(step=1, style_distance=style_distance, shortfall=shortfall)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (_standing(0.1, 0.0), _standing(0.2, 0.0)),  # both meet the floors: the nearer style
        (_standing(0.9, 0.0), _standing(0.1, 0.01)),  # meeting them comes first
        (_standing(0.9, 0.1), _standing(0.1, 0.2)),  # then the smaller shortfall
        (_standing(0.1, 0.2), _standing(0.2, 0.2)),
        (_standing(0.1, 0.0), _standing(0.2, -1.0)),  # there is no credit for more than was asked
    ],
)
def test_ranking(better, worse):
    assert better.rank < worse.rank
    assert selection.front([worse, better])[0] == better


def test_equal_rounds_do_not_replace_the_first():
    first, second = selection.Standing(1, 0.1, 0.0), selection.Standing(2, 0.1, 0.0)
    assert selection.front([first]) == selection.front([first, second]) == [first]


def test_as_json():
    one = _standing(0.1, 0.2)
    assert selection.Standing(**json.loads(json.dumps(one.to_dict()))) == one


def test_the_front_is_what_no_other_round_dominates():
    measured = [(0.5, 0.3), (0.6, 0.0), (0.4, 0.3), (0.7, 0.0), (0.45, 0.1), (0.45, 0.1)]
    rounds = [selection.Standing(step, *values) for step, values in enumerate(measured)]
    # By hand: (0.5, 0.3) falls to (0.4, 0.3), (0.7, 0) to (0.6, 0); of two equal ones the first stays.
    assert [s.step for s in selection.front(rounds)] == [1, 4, 2]
    assert selection.front([]) == []


def test_a_run_has_stalled_when_neither_gets_better():
    better_style = [selection.Standing(i, 1.0 / (i + 1), 0.2) for i in range(6)]
    assert not selection.stalled(better_style, 2)
    better_quality = [selection.Standing(i, 1.0 + i, 0.2 / (i + 1)) for i in range(6)]
    assert not selection.stalled(better_quality, 2)
    level = [selection.Standing(0, 0.5, 0.1)] + [selection.Standing(i, 0.5 + 0.1 * i, 0.1) for i in (1, 2)]
    assert selection.stalled(level, 2) and not selection.stalled(level, 3)
