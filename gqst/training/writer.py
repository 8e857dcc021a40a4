"""What a run writes for people: metrics as JSON lines and TensorBoard events, sample grids as PNG."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorboardX
from jaxtyping import Float

from gqst.pictures import files, grid


class Writer:
    """The metrics, decisions and samples of one run; to be closed.

    Attributes:
      decisions: lines of the trail so far.
    """

    def __init__(self, workdir: pathlib.Path, *, step: int, decisions: int = 0):
        """Opens the files of a run that goes on after `step`: what they say of later steps is dropped.

        Args:
          workdir: folder of the run.
          step: done so far.
          decisions: lines of `decisions.jsonl` so far.
        """
        self._samples = workdir / "samples"
        self._samples.mkdir(exist_ok=True)
        path = workdir / "metrics.jsonl"
        _drop_after(path, step)
        self._lines = path.open("a", buffering=1, encoding="utf-8")
        trail = workdir / "decisions.jsonl"
        _keep_lines(trail, decisions)
        self._trail = trail.open("a", buffering=1, encoding="utf-8")
        self.decisions = decisions
        self._events = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=step + 1 if step else None, flush_secs=30
        )

    def scalars(self, step: int, metrics: Mapping[str, Any]) -> None:
        """One JSON line, and an event for each number."""
        self._lines.write(json.dumps({"step": step, **metrics}) + "\n")
        for name, value in metrics.items():
            if isinstance(value, int | float):
                self._events.add_scalar(name, value, step)

    def decision(self, step: int, said: Mapping[str, Any]) -> None:
        """One line of the trail of what quality changed, and events for the numbers of a target's decision."""
        self._trail.write(json.dumps({"step": step, **said}) + "\n")
        self.decisions += 1
        if "target" in said:
            for name in ("measured", "smoothed", "target"):
                self._events.add_scalar(f"target/{said['metric']}/{name}", said[name], step)
            self._events.add_scalar(f"multiplier/{said['label']}", said["new"], step)

    def samples(self, step: int, columns: Mapping[str, Float[np.ndarray, "n h w 3"]]) -> pathlib.Path:
        """Writes the grid of these as `samples/<step>.png` and as an event; the file's path."""
        path, picture = self._path(step), np.asarray(grid.picture_grid(columns))
        files.write_png(path, picture)
        self._events.add_image("samples", picture, step, dataformats="HWC")
        return path

    def _path(self, step: int) -> pathlib.Path:
        return self._samples / f"{step:07d}.png"

    def close(self) -> None:
        """Writes out what is left and closes the files."""
        self._lines.close()
        self._trail.close()
        self._events.close()


class Mute(Writer):
    """Writes nothing, in the place of a writer: of all processes the first one writes."""

    def __init__(self, workdir: pathlib.Path, *, step: int, decisions: int = 0):
        """Opens nothing."""
        self._samples = workdir / "samples"
        self.decisions = decisions

    def scalars(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Nothing."""

    def decision(self, step: int, said: Mapping[str, Any]) -> None:
        """Counts."""
        self.decisions += 1

    def samples(self, step: int, columns: Mapping[str, Float[np.ndarray, "n h w 3"]]) -> pathlib.Path:
        """The path that the first process writes to."""
        return self._path(step)

    def close(self) -> None:
        """Nothing."""


def _drop_after(path: pathlib.Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            said = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            continue  # cut off by a kill
        if said <= step:
            kept.append(line + "\n")
    files.write_text(path, "".join(kept))


def _keep_lines(path: pathlib.Path, count: int) -> None:
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        files.write_text(path, "".join(lines[:count]))
