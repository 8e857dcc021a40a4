"""The results of an evaluation as text, JSON and CSV."""

import csv
import io
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from gqst import metrics
from gqst.evaluation import results
from gqst.pictures import files

_SIGNS = {"higher": "+", "lower": "-", "neither": "~"}
_FEW = 100


def text(about: Mapping[str, str | int], measured: Mapping[str, results.Result]) -> str:
    """Returns a table with a row for each metric and a column for the outputs and each baseline.

    Args:
      about: Lines above the table by key; `network` is the feature network of the metrics of sets.
      measured: Results by title: `outputs`, then the baselines.
    """
    outputs = measured["outputs"]
    lines = [f"{key}: {value}" for key, value in about.items()]
    style = f" against {outputs.style_count} of the style" if outputs.style_count else ""
    lines.append(f"pictures: {outputs.count}{style}")
    shown = [m for m in metrics.METRICS.values() if any(m.name in result.means for result in measured.values())]
    head = ["metric", "against", *measured]
    rows = [
        [
            f"{metric.name} {_SIGNS[metric.better]}",
            next(result.against[metric.name] for result in measured.values() if metric.name in result.against),
            *(_cell(result, metric.name) for result in measured.values()),
        ]
        for metric in shown
    ]
    lines.append("")
    if rows:
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        for row in (head, ["-" * width for width in widths], *rows):
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        lines += ["", "+ more is better, - less is better, ~ neither; [95 % interval]"]
    lines.extend(f"{metric.name}: {metric.describe(str(about['network']))}" for metric in shown)
    lines.extend(f"{name}: {note}" for name, note in _noted(outputs.notes).items())
    if "frechet" in outputs.means and min(outputs.count, outputs.style_count) < _FEW:
        lines.append(f"frechet is biased upwards by so few pictures (fewer than {_FEW} of a set): rather look at kid")
    return "\n".join(lines)


def write_json(path: pathlib.Path, about: Mapping[str, str | int], measured: Mapping[str, results.Result]) -> None:
    """Writes every mean under its metric's name, then counts, intervals, definitions, baselines and every picture."""
    outputs = measured["outputs"]
    content: dict[str, Any] = {name: _number(value) for name, value in outputs.means.items()}
    content["about"] = dict(about)
    content["count"] = outputs.count
    content["style_count"] = outputs.style_count
    content["intervals"] = {name: [_number(x) for x in ends] for name, ends in outputs.intervals.items()}
    content["against"] = dict(outputs.against)
    content["definitions"] = {name: metrics.METRICS[name].describe(str(about["network"])) for name in outputs.means}
    content["notes"] = dict(outputs.notes)
    content["baselines"] = {
        title: {name: _number(value) for name, value in result.means.items()} | {"count": result.count}
        for title, result in measured.items()
        if title != "outputs"
    }
    content["pictures"] = {
        picture: {name: _number(value) for name, value in values.items()}
        for picture, values in outputs.pictures.items()
    }
    files.make_folder(path)
    files.write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: pathlib.Path, outputs: results.Result) -> None:
    """Writes a row for each picture, then one with the means and the metrics of the whole set."""
    names = list(outputs.means)
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(["picture", *names])
    for picture, values in outputs.pictures.items():
        rows.writerow([picture, *(values.get(name, "") for name in names)])
    rows.writerow(["(all)", *(outputs.means[name] for name in names)])
    files.make_folder(path)
    # Names in bytes that are no UTF-8 are written escaped.
    files.write_text(path, buffer.getvalue().encode("utf-8", "backslashreplace").decode())


def _noted(notes: Mapping[str, str]) -> dict[str, str]:
    """Notes by the metrics that they are of, those with the same words together."""
    together: dict[str, list[str]] = {}
    for name, note in notes.items():
        together.setdefault(note, []).append(name)
    return {", ".join(names): note for note, names in together.items()}


def _cell(result: results.Result, name: str) -> str:
    if name not in result.means:
        return ""
    value = _short(result.means[name])
    ends = result.intervals.get(name)
    return value if ends is None else f"{value} [{_short(ends[0])}, {_short(ends[1])}]"


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _number(value: float) -> float | None:
    """The number, or None (null in JSON) if it is not finite, as the PSNR of equal pictures is."""
    return value if math.isfinite(value) else None
