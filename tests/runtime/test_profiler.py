"""Which calls are traced."""

import jax
import pytest

from gqst.runtime import profiler


@pytest.fixture
def events(monkeypatch):
    """What the profiler of JAX is asked to do, among the calls of the test."""
    events = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: events.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: events.append("stop"))
    return events


@pytest.mark.parametrize(
    ("traced", "expected"),
    [(0, [0, 1, 2, 3, 4, 5]), (2, [0, 1, 2, "start", 3, 4, "stop", 5]), (9, [0, 1, 2, "start", 3, 4, 5, "stop"])],
)
def test_calls_after_the_first_few_are_traced(events, tmp_path, traced, expected):
    lines = []
    trace = profiler.Profiler(tmp_path, traced, lines.append)
    for call in range(6):
        trace.before_call()
        events.append(call)
        trace.after_call({"loss": jax.numpy.zeros(())})
    trace.close()
    trace.close()
    assert events == expected
    count = min(traced, 3)
    assert lines == ([f"a trace of {count} calls is in {tmp_path}: xprof --logdir {tmp_path}"] if traced else [])
