"""Lines of progress where there is no bar."""

import time

import pytest

from gqst.runtime import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def _last(capsys) -> str:
    lines = capsys.readouterr().err.splitlines()
    return lines[-1] if lines else ""


def test_a_line_with_the_rate_since_the_first_call(capsys, clock):
    bar = progress.Progress(7220, 0, pictures=4)
    bar.advance(10)  # compiles
    bar.log(10, {"loss/generator": 1.23456, "loss/discriminator": 0.5, "loss/cycle": 9.0})
    assert _last(capsys) == "step 10/7220: generator 1.23, discriminator 0.5"
    clock[0] += 5
    bar.advance(10)
    bar.log(20, {})
    assert _last(capsys) == "step 20/7220: 2.00 steps/s, 8.0 images/s, 1:00:00 left; "
    clock[0] += 1
    bar.log(20, {})
    assert _last(capsys) == ""  # too soon
    bar.log(7220, {})
    assert _last(capsys).startswith("step 7220/7220")  # the last one in any case


def test_steps_taken_back_stay_in_the_rate(capsys, clock):
    bar = progress.Progress(100, 0, pictures=1)
    bar.advance(10)
    clock[0] += 10
    bar.advance(20)
    bar.rewind(10)
    bar.log(10, {})
    assert "2.00 steps/s" in _last(capsys)


def test_a_round(capsys):
    bar = progress.Progress(100, 0, pictures=1)
    metrics = {"kid": 0.12345, "seconds": 3.0, "shortfall": 0.0, "pictures": 8}
    bar.log_round(20, metrics, best=True)
    assert _last(capsys) == "round at step 20, 8 held-out: kid 0.123 (best)"


def test_quiet(capsys):
    bar = progress.Progress(10, 0, pictures=1, quiet=True)
    bar.advance(10)
    bar.log(10, {})
    bar.say("word")
    with progress.Counter("reading", quiet=True) as counter:
        counter(1, 2)
    bar.close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("seconds", "shown"), [(59.9, "0:59"), (61, "1:01"), (3661, "1:01:01")])
def test_the_clock(seconds, shown):
    assert progress._clock(seconds) == shown
