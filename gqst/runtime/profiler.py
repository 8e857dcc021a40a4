"""A trace of some steps for XProf."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax

_WARM_UP_CALLS = 3  # they compile, and fill the queues


class Profiler:
    """Traces some calls to the devices, after the first few of a run."""

    def __init__(self, folder: pathlib.Path, calls: int, say: Callable[[str], None]):
        """Prepares a trace; nothing is traced if `calls` is 0.

        Args:
          folder: Folder for the trace.
          calls: Number of calls to trace.
          say: Callback for the line that says where the trace is.
        """
        self._folder = folder
        self._calls = calls
        self._say = say
        self._seen = 0
        self._running = False

    def before_call(self) -> None:
        """Starts the trace if it is due."""
        if self._calls and self._seen == _WARM_UP_CALLS:
            jax.profiler.start_trace(self._folder)
            self._running = True
        self._seen += 1

    def after_call(self, outputs: Any) -> None:
        """Ends the trace if it is due, once the outputs of the call have been computed."""
        if self._running and self._seen >= _WARM_UP_CALLS + self._calls:
            jax.block_until_ready(outputs)
            self.close()

    def close(self) -> None:
        """Ends the trace if it is running."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            calls = self._seen - _WARM_UP_CALLS
            self._say(f"a trace of {calls} calls is in {self._folder}: xprof --logdir {self._folder}")
