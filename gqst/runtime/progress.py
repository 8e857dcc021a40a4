"""Progress of a run on the terminal: a bar where there is one, else a line now and then."""

import sys
import time
from collections.abc import Mapping
from typing import Any

import tqdm.auto as tqdm

_LINE_SECONDS = 5.0
# How long a round took, and what follows from its other figures.
_NOT_SHOWN = ("seconds", "share", "style_distance", "shortfall")


class Progress:
    """Steps done of a run, with steps/s, images/s and the time left."""

    def __init__(self, steps: int, done: int, *, pictures: int, quiet: bool = False):
        """Starts at `done` of `steps`; `pictures` of each domain go into a step."""
        self._steps = steps
        self._timed_from: int | None = None
        self._done = done
        self._pictures = pictures
        self._quiet = quiet
        self._started = time.monotonic()
        self._last_line = 0.0
        live = not quiet and (sys.stderr.isatty() or _in_notebook())
        self._bar = tqdm.tqdm(total=steps, initial=done, unit="step", dynamic_ncols=True) if live else None

    def advance(self, steps: int) -> None:
        """Counts steps."""
        self._done += steps
        if self._timed_from is None:
            # The first call compiles: the rate is without it.
            self._timed_from, self._started = self._done, time.monotonic()
        if self._bar is not None:
            self._bar.update(steps)

    def go_back(self, step: int) -> None:
        """Counts on from an earlier step."""
        self._timed_from = None if self._timed_from is None else self._timed_from - (self._done - step)
        self._done = step
        if self._bar is not None:
            self._bar.n = step

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows the training losses."""
        losses = {
            name.removeprefix("loss/"): f"{value:.3g}"
            for name, value in metrics.items()
            if name in ("loss/generator", "loss/discriminator")
        }
        counted = self._done - (self._timed_from or 0)
        rate = counted / max(time.monotonic() - self._started, 1e-9)
        if self._bar is not None:
            self._bar.set_postfix({"images/s": f"{rate * self._pictures:.1f}", **losses})
        elif time.monotonic() - self._last_line >= _LINE_SECONDS or step == self._steps:
            self._last_line = time.monotonic()
            left = (self._steps - step) / rate if rate else 0.0
            shown = ", ".join(f"{name} {value}" for name, value in losses.items())
            # Until a second call the rate is not known.
            speed = f"{rate:.2f} steps/s, {rate * self._pictures:.1f} images/s, {_clock(left)} left; "
            self.say(f"step {step}/{self._steps}: {speed if counted else ''}{shown}")

    def round(self, step: int, metrics: Mapping[str, Any], best: bool) -> None:
        """Shows the held-out metrics of a round."""
        shown = ", ".join(
            f"{name} {value:.3f}"
            for name, value in metrics.items()
            if isinstance(value, float) and name not in _NOT_SHOWN
        )
        count = metrics["pictures"]
        self.say(f"round at step {step}, {count} held-out: {shown}" + (" (best)" if best else ""))

    def say(self, text: str) -> None:
        """Prints a line without breaking the bar."""
        if not self._quiet:
            say(text)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()


def say(text: str) -> None:
    """Prints a line on standard error, above a bar if there is one."""
    tqdm.tqdm.write(text, file=sys.stderr)


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Counter:
    """A bar for things that are counted, called with how many are done and how many there are."""

    def __init__(self, what: str, *, quiet: bool = False):
        """A bar titled `what`; it shows on terminals and in notebooks only, and nowhere if `quiet`."""
        self._what = what
        self._quiet = quiet
        self._bar: tqdm.tqdm | None = None

    def __enter__(self) -> "Counter":
        """Itself."""
        return self

    def __call__(self, done: int, total: int) -> None:
        """Shows the count."""
        if self._bar is None:
            live = not self._quiet and (sys.stderr.isatty() or _in_notebook())
            self._bar = tqdm.tqdm(total=total, desc=self._what, disable=not live, leave=False)
        self._bar.update(done - self._bar.n)

    def __exit__(self, *error: object) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()
