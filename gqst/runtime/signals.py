"""SIGTERM and Ctrl-C as a request to stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from gqst.runtime import processes, progress


class Asked:
    """The signal that asked the run to stop, if any."""

    def __init__(self) -> None:
        """Starts with none."""
        self.signal = ""

    def check(self, step: int) -> None:
        """Notes what another process was asked, when all are to stop at this step; to be called at every step."""
        if processes.stop_at(step):
            self.signal = "SIGTERM"


@contextlib.contextmanager
def noted() -> Iterator[Asked]:
    """Notes SIGTERM and SIGINT in place of dying of them; a second one has its usual effect.

    Where there are several processes, one that is asked tells the others.
    """
    asked = Asked()
    if processes.several():
        # JAX's runtime takes SIGTERM, and lets all of them stop at one step.
        numbers: tuple[signal.Signals, ...] = (signal.SIGINT,)
    else:
        numbers = (signal.SIGTERM, signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, frame: Any) -> None:
        del frame
        kind = signal.Signals(number)
        if processes.several():
            signal.raise_signal(signal.SIGTERM)
        else:
            asked.signal = kind.name
        progress.say(f"{kind.name}: saving after this step")
        signal.signal(kind, before[kind])

    try:
        for number in before:
            signal.signal(number, note)
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
