"""SIGTERM and Ctrl-C as requests to stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from gqst.runtime import processes, progress


class StopRequest:
    """A request to stop the run, if there has been one.

    Attributes:
      signal: Name of the signal that requested it; empty if none has.
    """

    def __init__(self) -> None:
        """Starts without a request."""
        self.signal = ""

    def check(self, step: int) -> None:
        """Adopts the request of another process at the step where all are to stop; call it at every step."""
        if processes.reached_stop(step):
            self.signal = "SIGTERM"


@contextlib.contextmanager
def listen() -> Iterator[StopRequest]:
    """Turns SIGTERM and SIGINT into a request to stop; a second signal has its usual effect.

    In a distributed run the request reaches all processes.
    """
    request = StopRequest()
    if processes.is_distributed():
        # JAX's runtime handles SIGTERM and lets all processes stop at one step.
        numbers: tuple[signal.Signals, ...] = (signal.SIGINT,)
    else:
        numbers = (signal.SIGTERM, signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.getsignal(number) for number in numbers}

    def handle(number: int, frame: Any) -> None:
        del frame
        received = signal.Signals(number)
        if processes.is_distributed():
            signal.raise_signal(signal.SIGTERM)
        else:
            request.signal = received.name
        progress.say(f"{received.name}: saving after this step")
        signal.signal(received, previous[received])

    try:
        for number in previous:
            signal.signal(number, handle)
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
