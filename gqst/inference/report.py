"""What became of the pictures that were to be stylised: for people, and as JSON."""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from gqst.pictures import files

Outcome = Literal["written", "skipped", "failed", "planned"]

_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Entry:
    """What became of one picture.

    Attributes:
      source: File that was read.
      output: File of the result.
      outcome: `written`; `skipped`, since it existed; `failed`; or `planned`, in a dry run.
      reason: Why it failed; None otherwise.
      size: Width and height of the result in pixels; None if unknown.
      strength: Strength of the style.
      structure: contrast_structure to the source, if a floor was asked for.
      notes: What the reader should be told about the picture.
    """

    source: pathlib.Path
    output: pathlib.Path
    outcome: Outcome
    reason: str | None = None
    size: tuple[int, int] | None = None
    strength: float | None = None
    structure: float | None = None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of all pictures.

    Attributes:
      entries: One for each picture, in the order in which they were given.
      left_out: Files in folders that were not taken, by reason.
      seconds: Time from the first picture to the last.
      compiled: Number of programs that were compiled, or taken from the cache.
    """

    entries: Sequence[Entry]
    left_out: Mapping[str, Sequence[pathlib.Path]]
    seconds: float = 0.0
    compiled: int = 0

    def count(self, outcome: Outcome) -> int:
        """Returns the number of pictures with an outcome."""
        return sum(entry.outcome == outcome for entry in self.entries)

    @property
    def rate(self) -> float:
        """Pictures written in a second."""
        return self.count("written") / max(self.seconds, 1e-9)


def text(report: Report, output: pathlib.Path, *, checkpoint: int) -> str:
    """Returns a few lines: numbers by outcome and reason, notes, and what folders held beside pictures.

    Args:
      report: What became of the pictures.
      output: Where the results are.
      checkpoint: Step of the generator's checkpoint.
    """
    written = report.count("written")
    lines = [
        f"{_pictures(written)} written to {output} (checkpoint of step {checkpoint})"
        + (f" in {_clock(report.seconds)} ({report.rate:.2g} pictures/s)" if written > 1 else "")
        + (f", {report.count('skipped'):,} already existed" if report.count("skipped") else "")
        + (f", {report.count('failed'):,} left out:" if report.count("failed") else "")
    ]
    failed = _grouped([(entry.reason or "", entry.source) for entry in report.entries if entry.outcome == "failed"])
    lines += [f"  {len(paths):,}: {reason}: {_some(paths)}" for reason, paths in failed.items()]
    notes = _grouped([(note, entry.source) for entry in report.entries for note in entry.notes])
    lines += [f"note: {_pictures(len(paths))}: {note}: {_some(paths)}" for note, paths in notes.items()]
    lowered = [entry.strength for entry in report.entries if entry.structure is not None and entry.strength is not None]
    if lowered:
        mean = sum(lowered) / len(lowered)
        lines.append(f"strength: {mean:.3f} on average, {min(lowered):.3f} at least")
    if report.left_out:
        lines.append("not taken from folders: " + left_out(report.left_out))
    return "\n".join(lines)


def plan(report: Report) -> str:
    """Returns what a dry run found: a line for each picture, then numbers."""
    lines = []
    for entry in report.entries:
        size = f" ({entry.size[0]}x{entry.size[1]})" if entry.size is not None else ""
        told = f": {entry.reason}" if entry.reason else ": exists already" if entry.outcome == "skipped" else ""
        lines.append(f"{entry.source}{size} -> {entry.output}{told}")
    sizes = len({entry.size for entry in report.entries if entry.outcome == "planned"})
    lines.append(
        f"{_pictures(report.count('planned'))} of {sizes:,} {'size' if sizes == 1 else 'sizes'} would be stylised"
        + (f", {report.count('skipped'):,} exist already" if report.count("skipped") else "")
        + (f", {report.count('failed'):,} cannot be read" if report.count("failed") else "")
    )
    if report.left_out:
        lines.append("not taken from folders: " + left_out(report.left_out))
    return "\n".join(lines)


def left_out(files_by_reason: Mapping[str, Sequence[pathlib.Path]]) -> str:
    """Returns how many files of folders were not taken, by reason."""
    return "; ".join(f"{len(paths):,}: {reason}" for reason, paths in files_by_reason.items())


def write_json(path: pathlib.Path, report: Report, about: Mapping[str, Any]) -> None:
    """Writes totals and every picture as JSON, whole or not at all.

    Args:
      path: The file.
      report: What became of the pictures.
      about: What was asked for: run, checkpoint, options.
    """
    totals = collections.Counter(entry.outcome for entry in report.entries)
    content = {
        **about,
        "totals": {"pictures": len(report.entries), **totals},
        "reasons": dict(collections.Counter(entry.reason for entry in report.entries if entry.reason)),
        "notes": dict(collections.Counter(note for entry in report.entries for note in entry.notes)),
        "left_out": {reason: [str(p) for p in paths] for reason, paths in report.left_out.items()},
        "seconds": round(report.seconds, 3),
        "pictures_per_second": round(report.rate, 3),
        "compiled": report.compiled,
        "pictures": [_as_dict(entry) for entry in report.entries],
    }
    files.make_folder(path)
    # In ASCII, so that names in bytes that are no UTF-8 can be written too.
    files.write_text(path, json.dumps(content, indent=1) + "\n")


def _as_dict(entry: Entry) -> dict[str, Any]:
    known = {key: value for key, value in vars(entry).items() if value not in (None, ())}
    return {**known, "source": str(entry.source), "output": str(entry.output)}


def _grouped(pairs: Sequence[tuple[str, pathlib.Path]]) -> dict[str, list[pathlib.Path]]:
    groups: dict[str, list[pathlib.Path]] = {}
    for key, path in pairs:
        groups.setdefault(key, []).append(path)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def _some(paths: Sequence[pathlib.Path]) -> str:
    return ", ".join(map(str, paths[:_SHOWN])) + (", ..." if len(paths) > _SHOWN else "")


def _pictures(count: int) -> str:
    return f"{count:,} {'picture' if count == 1 else 'pictures'}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
