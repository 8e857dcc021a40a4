"""The log of a run: metrics as JSON lines and TensorBoard events, decisions as JSON lines, grids of pictures as PNG."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorboardX
from jaxtyping import Float

from gqst.pictures import files, grid
from gqst.report import pictures
from gqst.training.rounds import Extremes


class Log:
    """The metrics, decisions and samples of one run; to be closed.

    Attributes:
      decisions: Number of lines in `decisions.jsonl`.
    """

    def __init__(self, workdir: pathlib.Path, *, step: int, decisions: int = 0):
        """Opens the files of a run that continues after `step`; lines of later steps are dropped.

        Args:
          workdir: Folder of the run.
          step: Number of steps taken so far.
          decisions: Number of lines of `decisions.jsonl` to keep.
        """
        self._workdir = workdir
        self._samples = workdir / "samples"
        self._samples.mkdir(exist_ok=True)
        metrics, trail = workdir / "metrics.jsonl", workdir / "decisions.jsonl"
        _drop_after(metrics, step)
        _keep_lines(trail, decisions)
        self._metrics = metrics.open("a", buffering=1, encoding="utf-8")
        self._trail = trail.open("a", buffering=1, encoding="utf-8")
        self.decisions = decisions
        self._events = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=step + 1 if step else None, flush_secs=30
        )

    def scalars(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes one JSON line, and an event for each number."""
        self._metrics.write(json.dumps({"step": step, **metrics}) + "\n")
        for name, value in metrics.items():
            if isinstance(value, int | float):
                self._events.add_scalar(name, value, step)

    def decision(self, step: int, decision: Mapping[str, Any]) -> None:
        """Writes one line of `decisions.jsonl`, and events for the numbers of a target's decision."""
        self._trail.write(json.dumps({"step": step, **decision}) + "\n")
        self.decisions += 1
        if "target" in decision:
            for name in ("measured", "smoothed", "target"):
                self._events.add_scalar(f"target/{decision['metric']}/{name}", decision[name], step)
            self._events.add_scalar(f"multiplier/{decision['label']}", decision["new"], step)

    def samples(self, step: int, columns: Mapping[str, Float[np.ndarray, "n h w 3"]]) -> pathlib.Path:
        """Writes the grid of these pictures as `samples/<step>.png` and as an event; returns the file's path."""
        path, picture = self._path(step), grid.picture_grid(columns)
        files.write_png(path, picture)
        self._events.add_image("samples", np.asarray(picture), step, dataformats="HWC")
        return path

    def worst_and_best(self, step: int, extremes: Extremes) -> None:
        """Writes the grid of these pictures, which are those of the best round so far, for the report."""
        if extremes.labels:
            picture = grid.picture_grid(extremes.columns)
            picture.info[pictures.LABELS] = json.dumps({"step": step, "labels": extremes.labels})
            files.write_png(self._workdir / pictures.WORST_AND_BEST, picture)

    def close(self) -> None:
        """Flushes and closes the files."""
        self._metrics.close()
        self._trail.close()
        self._events.close()

    def _path(self, step: int) -> pathlib.Path:
        return self._samples / f"{step:07d}.png"


class NullLog(Log):
    """A log that writes nothing, for all processes but the first."""

    def __init__(self, workdir: pathlib.Path, *, step: int, decisions: int = 0):
        """Opens nothing."""
        self._samples = workdir / "samples"
        self.decisions = decisions

    def scalars(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Does nothing."""

    def decision(self, step: int, decision: Mapping[str, Any]) -> None:
        """Counts the decision."""
        self.decisions += 1

    def samples(self, step: int, columns: Mapping[str, Float[np.ndarray, "n h w 3"]]) -> pathlib.Path:
        """Returns the path that the first process writes to."""
        return self._path(step)

    def worst_and_best(self, step: int, extremes: Extremes) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class Mean:
    """The mean of metrics since it was last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, values: Mapping[str, float]) -> None:
        """Adds the metrics of one step."""
        self._count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """Returns the means by name, and starts anew."""
        means = {name: value / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


def _drop_after(path: pathlib.Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            line_step = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            continue  # cut off by a kill
        if line_step <= step:
            kept.append(line + "\n")
    files.write_text(path, "".join(kept))


def _keep_lines(path: pathlib.Path, count: int) -> None:
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        files.write_text(path, "".join(lines[:count]))
