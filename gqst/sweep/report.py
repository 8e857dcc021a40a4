"""The trials of a study as text, CSV and a plot of their Pareto front."""

import csv
import io
import pathlib
from collections.abc import Sequence

from gqst.pictures import files
from gqst.sweep import search


def text(spaces: Sequence[search.Space], trials: Sequence[search.Trial]) -> str:
    """Returns a table of all trials, those on the Pareto front first and marked."""
    head = ["", "trial", "style distance", "quality", "state", *(space.key for space in spaces)]
    rows = [
        ["*" if t.front else "", str(t.number), _short(t.style_distance), _short(t.quality), t.state]
        + [_value(t.values.get(space.key)) for space in spaces]
        for t in sorted(trials, key=_rank)
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in (head, *rows):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    lines.append("* no other trial has both less style distance and more quality on held-out pictures")
    return "\n".join(lines)


def write(folder: pathlib.Path, spaces: Sequence[search.Space], trials: Sequence[search.Trial]) -> None:
    """Writes `table.csv` and `front.png`."""
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(["trial", "front", "state", "style_distance", "quality", *(space.key for space in spaces)])
    for t in trials:
        values = [t.values.get(space.key, "") for space in spaces]
        rows.writerow([t.number, int(t.front), t.state, _blank(t.style_distance), _blank(t.quality), *values])
    files.write_text(folder / "table.csv", buffer.getvalue())
    _plot(folder / "front.png", trials)


def _plot(path: pathlib.Path, trials: Sequence[search.Trial]) -> None:
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    measured = [
        (t, t.style_distance, t.quality) for t in trials if t.style_distance is not None and t.quality is not None
    ]
    for label, chosen, color, marker in (
        ("pruned or failed", [m for m in measured if m[0].state != "complete"], "0.8", "x"),
        ("complete", [m for m in measured if m[0].state == "complete" and not m[0].front], "0.5", "o"),
        ("Pareto front", [m for m in measured if m[0].front], "C3", "o"),
    ):
        if chosen:
            axes.scatter([m[1] for m in chosen], [m[2] for m in chosen], label=label, color=color, marker=marker)
    for trial, distance, quality in measured:
        if trial.front:
            axes.annotate(str(trial.number), (distance, quality), xytext=(4, 4), textcoords="offset points")
    axes.set_xlabel("style distance of held-out fakes (lower is better)")
    axes.set_ylabel("quality of held-out fakes (higher is better)")
    if measured:
        axes.legend()
    with files.atomic(path) as part:
        figure.savefig(part, format="png", dpi=120)


def _rank(trial: search.Trial) -> tuple[bool, bool, float]:
    return not trial.front, trial.style_distance is None, trial.style_distance or 0.0


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _blank(value: float | None) -> float | str:
    return "" if value is None else value
