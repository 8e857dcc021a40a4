"""The files of a run, read for its report."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from gqst import config, overrides, types
from gqst.quality import selection

HELD_OUT = "eval/"
"""Prefix of the held-out metrics in `metrics.jsonl`."""

Points = list[tuple[int, float]]
"""Steps and values, in the order of the steps."""


@dataclasses.dataclass(frozen=True)
class History:
    """What a run has left in its folder so far.

    Attributes:
      workdir: Folder of the run.
      place: The folder as its user named it.
      config: The experiment.
      base: Name of the bundled config that differs least from it.
      differences: Values by dotted key that differ from that config: the bundled one's, and the run's.
      losses: Training metrics by name.
      rounds: Held-out metrics by name.
      best: Steps of the rounds that were the best so far when they were measured; the last one is the best.
      decisions: Lines of `decisions.jsonl`.
      samples: Sample grids by step.
      data: Number of pictures and hash of their names by split and domain.
      environment: Versions and devices; empty for runs that did not note them.
      step: Newest step that left a metric.
    """

    workdir: pathlib.Path
    place: pathlib.Path
    config: config.Config
    base: str
    differences: dict[str, tuple[Any, Any]]
    losses: dict[str, Points]
    rounds: dict[str, Points]
    best: list[int]
    decisions: list[dict[str, Any]]
    samples: dict[int, pathlib.Path]
    data: dict[str, Any]
    environment: dict[str, Any]
    step: int

    @property
    def name(self) -> str:
        """Name of the run: that of its folder."""
        return self.place.resolve().name

    @property
    def alarms(self) -> list[dict[str, Any]]:
        """Alarms and roll-backs, in their order."""
        return [line for line in self.decisions if "alarm" in line or "rollback" in line]

    @property
    def steered(self) -> dict[str, list[dict[str, Any]]]:
        """Decisions about weights by label of the loss."""
        found: dict[str, list[dict[str, Any]]] = {}
        for line in self.decisions:
            if "target" in line and "label" in line:
                found.setdefault(str(line["label"]), []).append(line)
        return found

    @property
    def standings(self) -> list[selection.Standing]:
        """Measurements by which rounds are ranked, of all rounds but that before the first step."""
        shortfalls = dict(self.rounds.get("shortfall", []))
        return [
            selection.Standing(step, distance, shortfalls.get(step, 0.0))
            for step, distance in self.rounds.get("style_distance", [])
            if step
        ]


def read(workdir: pathlib.Path, *, place: pathlib.Path | None = None) -> History:
    """Returns the history of a run; lines that a kill has cut off are left out.

    Args:
      workdir: Folder of the run.
      place: The folder of which it is a copy, if it is one.

    Raises:
      InputError: The folder holds no run.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise types.InputError(f"{place or workdir} holds no run: there is no config.json in it")
    cfg = overrides.from_json(path.read_text(encoding="utf-8"), origin=str(path))
    base, differences = _nearest(cfg)
    losses: dict[str, Points] = {}
    rounds: dict[str, Points] = {}
    best: list[int] = []
    for line in _lines(workdir / "metrics.jsonl"):
        step = line["step"]
        is_round = any(name.startswith(HELD_OUT) for name in line)
        for name, value in line.items():
            if name == f"{HELD_OUT}best":
                # A run that went back takes steps again.
                best = [earlier for earlier in best if earlier < step] + ([step] if value else [])
            elif name != "step" and isinstance(value, int | float) and math.isfinite(value):
                points = (rounds if is_round else losses).setdefault(name.removeprefix(HELD_OUT), [])
                while points and points[-1][0] >= step:
                    points.pop()
                points.append((step, float(value)))
    every = [points[-1][0] for points in (*losses.values(), *rounds.values()) if points]
    grids = {int(p.stem): p for p in sorted((workdir / "samples").glob("*.png")) if p.stem.isdecimal()}
    return History(
        workdir=workdir,
        place=place or workdir,
        config=cfg,
        base=base,
        differences=differences,
        losses=losses,
        rounds=rounds,
        best=best,
        decisions=list(_lines(workdir / "decisions.jsonl")),
        samples=grids,
        data=_object(workdir / "data.json"),
        environment=_object(workdir / "environment.json"),
        step=max(every, default=0),
    )


def _nearest(cfg: config.Config) -> tuple[str, dict[str, tuple[Any, Any]]]:
    """The bundled config that differs in the fewest values, and these."""
    found = {
        name: overrides.differences(overrides.load(path), cfg, ignore=()) for name, path in overrides.bundled().items()
    }
    name = min(found, key=lambda name: len(found[name]), default="")
    return name, found.get(name, {})


def _lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The objects with a step in a file of JSON lines, which may be missing."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, Mapping) and isinstance(value.get("step"), int):
                yield dict(value)


def _object(path: pathlib.Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
