"""The report of a run that is training, rewritten beside it."""

import logging
import pathlib
import threading
import time

from gqst.report import page

_SHARE = 0.01
"""Share of the time that writing reports may take."""

_log = logging.getLogger("gqst")


class Refresher:
    """Writes the report in a thread; to be closed, which writes the last one.

    A report that cannot be written is told once, and costs nothing else.
    """

    def __init__(self, workdir: pathlib.Path, place: pathlib.Path | None = None):
        """Writes nothing yet; the arguments are those of `page.write`."""
        self._workdir, self._place = workdir, place
        self._thread: threading.Thread | None = None
        self._next = 0.0
        self._failed = False

    def __call__(self) -> None:
        """Starts to write, unless it is being written or was written a short time ago."""
        if time.monotonic() < self._next or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._write, name="gqst-report", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Waits for the report that is being written, and writes the last one."""
        if self._thread is not None:
            self._thread.join()
        self._write()

    def _write(self) -> None:
        started = time.monotonic()
        try:
            page.write(self._workdir, place=self._place)
        # Whatever is wrong with it, the training is worth more.
        except Exception as error:
            if not self._failed:
                _log.warning("%s cannot be written: %s", self._workdir / page.FILE, error)
            self._failed = True
        now = time.monotonic()
        self._next = now + (now - started) / _SHARE
