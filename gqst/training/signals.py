"""SIGTERM and Ctrl-C as a request to stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from gqst.training import progress


class Asked:
    """The signal that asked the run to stop, if any."""

    def __init__(self) -> None:
        """Starts with none."""
        self.signal = ""


@contextlib.contextmanager
def noted() -> Iterator[Asked]:
    """Notes SIGTERM and SIGINT in place of dying of them; a second one has its usual effect."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: Any) -> None:
        del frame
        kind = signal.Signals(number)
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
