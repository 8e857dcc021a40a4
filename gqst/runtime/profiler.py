"""A trace of some steps for XProf."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax

_SETTLED = 3
"""Calls to the devices that are left out at first: they compile, and fill the queues."""


class Profile:
    """Traces the calls after the first few of a run."""

    def __init__(self, folder: pathlib.Path, calls: int, say: Callable[[str], None]):
        """Makes a trace of this many calls; 0 makes none.

        Args:
          folder: that the trace is written to.
          calls: to the devices.
          say: is told where the trace lies.
        """
        self._folder = folder
        self._calls = calls
        self._say = say
        self._seen = 0
        self._running = False

    def before_call(self) -> None:
        """Starts the trace where it is due."""
        if self._calls and self._seen == _SETTLED:
            jax.profiler.start_trace(self._folder)
            self._running = True
        self._seen += 1

    def after_call(self, made: Any) -> None:
        """Ends the trace where it is due, when what the call has made is there."""
        if self._running and self._seen >= _SETTLED + self._calls:
            jax.block_until_ready(made)
            self.close()

    def close(self) -> None:
        """Ends the trace if it runs."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            self._say(f"a trace of {self._seen - _SETTLED} calls is in {self._folder}: xprof --logdir {self._folder}")
