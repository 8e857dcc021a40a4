"""The figures of an evaluation as text, JSON and CSV."""

import csv
import io
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from gqst.evaluation import results
from gqst.pictures import files

_HIGHER = frozenset({"ssim", "psnr", "ms_ssim", "pixel_accuracy", "contrast_structure", "content_retention"})
_FEW = 100


def text(about: Mapping[str, str | int], measured: Mapping[str, results.Measured]) -> str:
    """A table: a row for each metric, a column for the outputs and for each baseline.

    Args:
      about: what was measured; `network` is that of the distances of sets.
      measured: `outputs` and baselines.
    """
    outputs = measured["outputs"]
    lines = [f"{key}: {value}" for key, value in about.items()]
    lines.append(f"pictures: {outputs.count}" + (f" against {outputs.style} of the style" if outputs.style else ""))
    names = [name for name in results.DEFINITIONS if any(name in m.means for m in measured.values())]
    head = ["metric", "against", *measured]
    rows = [[_titled(name), _against(measured, name), *(_cell(m, name) for m in measured.values())] for name in names]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines.append("")
    for row in (head, ["-" * width for width in widths], *rows):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    lines.append("")
    lines.append("+ more is better, - less is better, ~ neither; [95 % interval]")
    lines.extend(f"{name}: {_definition(name, about)}" for name in names)
    if "frechet" in outputs.means and min(outputs.count, outputs.style) < _FEW:
        lines.append(f"frechet is biased upwards by so few pictures (fewer than {_FEW} of a set): rather look at kid")
    return "\n".join(lines)


def write_json(path: pathlib.Path, about: Mapping[str, str | int], measured: Mapping[str, results.Measured]) -> None:
    """Every mean under its metric's name, then counts, intervals, definitions, baselines and every picture."""
    outputs = measured["outputs"]
    whole: dict[str, Any] = {name: _number(value) for name, value in outputs.means.items()}
    whole["about"] = dict(about)
    whole["count"] = outputs.count
    whole["style_count"] = outputs.style
    whole["intervals"] = {name: [_number(x) for x in ends] for name, ends in outputs.intervals.items()}
    whole["against"] = dict(outputs.against)
    whole["definitions"] = {name: _definition(name, about) for name in outputs.means}
    whole["baselines"] = {
        title: {name: _number(value) for name, value in found.means.items()} | {"count": found.count}
        for title, found in measured.items()
        if title != "outputs"
    }
    whole["pictures"] = {
        picture: {name: _number(value) for name, value in values.items()}
        for picture, values in outputs.pictures.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, json.dumps(whole, indent=2, allow_nan=False) + "\n")


def write_csv(path: pathlib.Path, outputs: results.Measured) -> None:
    """A row for each picture, and at the end one of the means, where metrics of the set stand too."""
    names = list(outputs.means)
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(["picture", *names])
    for picture, values in outputs.pictures.items():
        rows.writerow([picture, *(values.get(name, "") for name in names)])
    rows.writerow(["(all)", *(outputs.means[name] for name in names)])
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, buffer.getvalue())


def _definition(name: str, about: Mapping[str, str | int]) -> str:
    return results.DEFINITIONS[name].format(network=about["network"])


def _titled(name: str) -> str:
    return name + (" +" if name in _HIGHER else " ~" if name == "color_shift" else " -")


def _against(measured: Mapping[str, results.Measured], name: str) -> str:
    return next(found.against[name] for found in measured.values() if name in found.against)


def _cell(found: results.Measured, name: str) -> str:
    if name not in found.means:
        return ""
    value = _short(found.means[name])
    ends = found.intervals.get(name)
    return value if ends is None else f"{value} [{_short(ends[0])}, {_short(ends[1])}]"


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _number(value: float) -> float | None:
    """A number as JSON has it; null for what is infinite, as the psnr of equal pictures."""
    return value if math.isfinite(value) else None
