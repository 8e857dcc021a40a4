"""Signals to this process as requests to stop."""

import signal
import threading

import pytest

from gqst.runtime import processes, signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_a_request_and_the_second_acts(capsys, number):
    usual = []
    before = signal.signal(number, lambda *of: usual.append(of[0]))
    try:
        with signals.listen() as request:
            assert request.signal == ""
            signal.raise_signal(number)
            assert request.signal == number.name and not usual
            assert f"{number.name}: saving after this step" in capsys.readouterr().err
            signal.raise_signal(number)
            assert usual == [number]
        signal.raise_signal(number)
        assert usual == [number] * 2
    finally:
        signal.signal(number, before)


def test_the_request_of_another_process_is_taken_over_at_its_step(monkeypatch):
    monkeypatch.setattr(processes, "reached_stop", lambda step: step == 7)
    request = signals.StopRequest()
    request.check(6)
    assert request.signal == ""
    request.check(7)
    assert request.signal == "SIGTERM"


def test_a_thread_leaves_the_handlers_alone():
    before = signal.getsignal(signal.SIGTERM)
    during = []

    def run() -> None:
        with signals.listen():
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert during == [before]
