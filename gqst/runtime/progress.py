"""Progress on standard error: a bar on terminals and in notebooks, a line now and then elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import Any

import tqdm.auto as tqdm

_LINE_SECONDS = 5.0
# Timing, and figures that follow from others.
_NOT_SHOWN = ("seconds", "share", "style_distance", "shortfall")


class Progress:
    """Progress of a run, with steps/s, images/s and the time left."""

    def __init__(self, steps: int, done: int, *, pictures: int, quiet: bool = False):
        """Starts the display.

        Args:
          steps: Number of steps of the run.
          done: Number of steps already done.
          pictures: Number of pictures of each domain in a step.
          quiet: Whether to show nothing.
        """
        self._steps = steps
        self._timed_from: int | None = None  # the step from which the rate is measured
        self._done = done
        self._pictures = pictures
        self._quiet = quiet
        self._started = time.monotonic()
        self._last_line = 0.0
        show_bar = not quiet and _can_show_bar()
        self._bar = tqdm.tqdm(total=steps, initial=done, unit="step", dynamic_ncols=True) if show_bar else None

    def advance(self, steps: int) -> None:
        """Adds steps to the count."""
        self._done += steps
        if self._timed_from is None:
            # The first call compiles and is left out of the rate.
            self._timed_from, self._started = self._done, time.monotonic()
        if self._bar is not None:
            self._bar.update(steps)

    def rewind(self, step: int) -> None:
        """Continues the count from an earlier step; the rate still includes the steps taken back."""
        self._timed_from = None if self._timed_from is None else self._timed_from - (self._done - step)
        self._done = step
        if self._bar is not None:
            self._bar.n = step

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows the losses of a training step."""
        losses = {
            name.removeprefix("loss/"): f"{value:.3g}"
            for name, value in metrics.items()
            if name in ("loss/generator", "loss/discriminator")
        }
        timed = self._done - (self._timed_from or 0)
        rate = timed / max(time.monotonic() - self._started, 1e-9)
        if self._bar is not None:
            self._bar.set_postfix({"images/s": f"{rate * self._pictures:.1f}", **losses})
        elif time.monotonic() - self._last_line >= _LINE_SECONDS or step == self._steps:
            self._last_line = time.monotonic()
            left = (self._steps - step) / rate if rate else 0.0
            shown = ", ".join(f"{name} {value}" for name, value in losses.items())
            # The rate is unknown until the second call.
            speed = f"{rate:.2f} steps/s, {rate * self._pictures:.1f} images/s, {_clock(left)} left; "
            self.say(f"step {step}/{self._steps}: {speed if timed else ''}{shown}")

    def log_round(self, step: int, metrics: Mapping[str, Any], best: bool) -> None:
        """Shows the metrics of a round."""
        shown = ", ".join(
            f"{name} {value:.3f}"
            for name, value in metrics.items()
            if isinstance(value, float) and name not in _NOT_SHOWN
        )
        count = metrics["pictures"]
        self.say(f"round at step {step}, {count} held-out: {shown}" + (" (best)" if best else ""))

    def say(self, text: str) -> None:
        """Prints a line above the bar, unless quiet."""
        if not self._quiet:
            say(text)

    def close(self) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()


def say(text: str) -> None:
    """Prints a line on standard error, above the bar if there is one."""
    tqdm.tqdm.write(text, file=sys.stderr)


def _can_show_bar() -> bool:
    in_notebook = "ipykernel" in sys.modules
    return sys.stderr.isatty() or in_notebook


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Counter:
    """Counts things, with things/s and the time left; to be called with the numbers of things done and in all."""

    def __init__(self, title: str, *, unit: str = "picture", quiet: bool = False):
        """Prepares a bar on terminals and in notebooks, and a line now and then elsewhere; nothing if `quiet`."""
        self._title = title
        self._unit = unit
        self._quiet = quiet
        self._bar: tqdm.tqdm | None = None
        self._first: int | None = None
        self._started = self._last_line = time.monotonic()

    def __enter__(self) -> "Counter":
        """Returns itself."""
        return self

    def __call__(self, done: int, total: int) -> None:
        """Updates the count."""
        if self._quiet:
            return
        now = time.monotonic()
        if self._first is None:
            self._first, self._started = done, now
            if _can_show_bar():
                self._bar = tqdm.tqdm(
                    total=total, initial=done, desc=self._title, unit=f" {self._unit}s", leave=False, dynamic_ncols=True
                )
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif now - self._last_line >= _LINE_SECONDS and done > self._first:
            self._last_line = now
            rate = (done - self._first) / max(now - self._started, 1e-9)
            left = _clock((total - done) / rate)
            say(f"{self._title}: {done:,} of {total:,}, {rate:.2g} {self._unit}s/s, {left} left")

    def __exit__(self, *error: object) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()
