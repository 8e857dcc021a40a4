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
    assert better.beats(worse) and not worse.beats(better)


def test_the_first_round_is_the_best_and_equals_do_not_replace_it():
    one = _standing(0.1, 0.0)
    assert one.beats(None)
    assert not one.beats(_standing(0.1, 0.0))


def test_as_json():
    one = _standing(0.1, 0.2)
    assert selection.Standing(**json.loads(json.dumps(one.to_dict()))) == one
