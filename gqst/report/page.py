"""The report of a run as one HTML page, which holds all it shows and asks nothing of anywhere."""

import html
import json
import pathlib
import shlex
from collections.abc import Iterable
from typing import Any

from gqst import metrics, overrides
from gqst.pictures import files
from gqst.quality import selection
from gqst.report import charts, document, history, pictures

FILE = "report.html"
"""Name of the page in a run's folder."""

# Held-out numbers that describe the round, not its pictures.
_OF_THE_ROUND = ("pictures", "seconds", "share", "best")
_LATER = ("repetition", "palette_distance", "shortfall")


def write(
    workdir: pathlib.Path,
    *,
    other: pathlib.Path | None = None,
    path: pathlib.Path | None = None,
    place: pathlib.Path | None = None,
) -> pathlib.Path:
    """Writes the report of a run, whole or not at all, and returns its path.

    Args:
      workdir: Folder of the run.
      other: Folder of a run to compare it with.
      path: File to write; None is `report.html` in the run's folder.
      place: Folder that the page names as the run's, where `workdir` is a copy of it.

    Raises:
      InputError: A folder holds no run.
    """
    run = history.read(workdir, place=place)
    path = path or workdir / FILE
    files.write_text(path, render(run, history.read(other) if other is not None else None))
    return path


def render(run: history.History, other: history.History | None = None) -> str:
    """Returns the page of a run, with the curves and pictures of another one beside its own."""
    sections = {
        "Pictures": _viewer(run, other),
        "Quality": document.cards(_quality(run, other)),
        "Targets": document.cards(_targets(run)),
        "Best round": document.cards([_pareto(run)]),
        "Worst and best": _worst_and_best(run),
        "Losses": document.cards(_losses(run, other)),
        "Alarms": _alarms(run),
        "Config": _config(run, other),
        "Data and environment": _surroundings(run, other),
        "Commands": _commands(run),
    }
    split = "validation split" if _validates(run) else "training split"
    return document.document(
        run.name if other is None else f"{run.name} beside {other.name}",
        header=_facts(run),
        sections=sections,
        footer=f"gqst {html.escape(str(run.environment.get('gqst', '')))}: all figures of quality are of held-out "
        f"pictures, the {split}'s; none of a test split.",
        script="page.js",
    )


def _facts(run: history.History) -> str:
    latest = {name: points[-1][1] for name, points in run.rounds.items()}
    at_best = {name: dict(points).get(run.best[-1]) for name, points in run.rounds.items()} if run.best else latest
    rollbacks = sum("rollback" in line for line in run.decisions)
    facts = [
        ("Step", f"{run.step:,} of {run.config.steps:,}", ""),
        ("Best round", f"{run.best[-1]:,}" if run.best else "none yet", ""),
    ]
    for name in ("style_distance", "contrast_structure"):
        if (value := at_best.get(name)) is not None:
            facts.append((html.escape(_title(name)), charts.short(value), ""))
    if (shortfall := at_best.get("shortfall")) is not None and run.config.targets:
        facts.append(
            ("Targets", "met", "good") if shortfall <= 0 else ("Short of targets by", charts.short(shortfall), "bad")
        )
    facts.append(("Alarms", f"{len(run.alarms) - rollbacks:,}", "bad" if len(run.alarms) > rollbacks else ""))
    if rollbacks:
        facts.append(("Roll-backs", f"{rollbacks:,}", "bad"))
    return document.facts(facts)


def _viewer(run: history.History, other: history.History | None) -> str:
    shown = pictures.of_rounds(run)
    if not shown.steps:
        return ""
    lefts = [{"name": "source", "pictures": shown.sources}] if shown.sources else []
    lefts += [{"name": title, "pictures": column} for title, column in shown.others.items()]
    if other is not None:
        beside = pictures.of_rounds(other)
        if beside.steps and len(beside.fakes[-1]) == len(shown.fakes[-1]):
            step = other.best[-1] if other.best and other.best[-1] in beside.steps else beside.steps[-1]
            column = beside.fakes[beside.steps.index(step)]
            lefts.insert(0, {"name": f"{other.name}, step {step:,}", "pictures": column})
    data = {"steps": shown.steps, "fakes": shown.fakes, "lefts": lefts, "best": run.best[-1] if run.best else None}
    # A name may hold anything, also the end of a script.
    text = json.dumps(data).replace("<", "\\u003c")
    return (
        '<div class="viewer"><div class="compare"><img class="under" alt=""><img class="over" alt=""><i></i>'
        '<b class="left"></b><b class="right"></b>'
        '<input class="split" type="range" value="50" aria-label="Divider between before and after"></div>'
        '<label class="bar">Round <input class="round" type="range" min="0"> <output></output></label>'
        '<label class="bar">Left side <select class="before"></select></label><div class="thumbs"></div></div>'
        f'<script type="application/json" id="data">{text}</script>'
    )


def _quality(run: history.History, other: history.History | None) -> Iterable[str]:
    names = [name for name in run.rounds if name not in _OF_THE_ROUND]
    if not any(value for _, value in run.rounds.get("shortfall", [])):
        names = [name for name in names if name != "shortfall"]
    marks = _marks(run)
    for name in sorted(names, key=lambda name: (name != "style_distance", name in _LATER)):
        levels = {"target": run.config.targets[name]} if name in run.config.targets else {}
        drawn = _both(run.name, run.rounds[name], other, other.rounds.get(name, []) if other is not None else [])
        yield charts.lines(_title(name), drawn, levels=levels, marks=marks, note=_better(name))


def _targets(run: history.History) -> Iterable[str]:
    for label, decisions in run.steered.items():
        metric = str(decisions[-1]["metric"])
        series = {
            key: [(line["step"], float(line[key])) for line in decisions if isinstance(line.get(key), int | float)]
            for key in ("measured", "smoothed", "new")
        }
        yield charts.lines(
            f"{_title(metric)}, steered by {label}",
            [charts.Line("measured", series["measured"], 1), charts.Line("smoothed", series["smoothed"], 2)],
            levels={"target": float(decisions[-1]["target"])},
            note=f"Last decision: {decisions[-1]['reason']}.",
        )
        yield charts.lines(
            f"Weight of {label}",
            [charts.Line("multiplier", series["new"], 3)],
            note="Grows while the metric is below its target, shrinks while it is above.",
        )


def _pareto(run: history.History) -> str:
    standings = run.standings
    if len({standing.shortfall for standing in standings}) < 2:
        # Without a shortfall the curve of the style distance says the same.
        return ""
    front = {standing.step for standing in selection.front(standings)}
    best, last = (run.best[-1] if run.best else None), standings[-1].step
    dots = []
    for s in standings:
        kind = "best" if s.step == best else "last" if s.step == last else "front" if s.step in front else ""
        told = f"step {s.step:,}: style distance {charts.short(s.style_distance)}, short by {charts.short(s.shortfall)}"
        dots.append(charts.Dot(s.style_distance, s.shortfall, kind, told + (f" ({kind})" if kind else "")))
    note = "Rounds that no other beats in both are blue; the best is the large green one, the last the ring."
    return charts.scatter("Rounds", dots, x="style distance", y="shortfall of targets", note=note)


def _worst_and_best(run: history.History) -> str:
    step, shown = pictures.worst_and_best(run)
    cards = [
        f'<figure class="pair"><figcaption><h3>{html.escape(_title(label["metric"]))} {charts.short(label["value"])}, '
        f'{label["kind"]}</h3></figcaption><div><img src="{source}" alt="source"><img src="{fake}" alt="fake"></div>'
        "</figure>"
        for label, source, fake in shown
    ]
    if not cards:
        return ""
    return f'<p class="quiet">Of the held-out pictures of round {step:,}: source and fake.</p>' + document.cards(cards)


def _losses(run: history.History, other: history.History | None) -> Iterable[str]:
    marks = _marks(run)
    for name, points in run.losses.items():
        beside = other.losses.get(name, []) if other is not None else []
        yield charts.lines(name, _both(run.name, points, other, beside), marks=marks)


def _alarms(run: history.History) -> str:
    if not run.alarms:
        return "<p>None.</p>"
    rows = []
    for line in run.alarms:
        step, kind, told = line["step"], line.get("alarm"), line.get("message", "")
        if kind is None:
            told = f"back to step {step:,}, learning rates times {line.get('rate')}"
            step, kind = line.get("from", step), f"roll-back: {line['rollback']}"
        rows.append([f"{step:,}", kind, told])
    return document.table(["step", "kind", "what"], rows)


def _config(run: history.History, other: history.History | None) -> str:
    head = ["key", f"bundled {run.base}", run.name]
    content = f"<p>The bundled config that is nearest to it is <code>{html.escape(run.base)}</code>.</p>"
    if other is not None:
        changed = overrides.differences(other.config, run.config, ignore=())
        content = "<p>Where the two runs differ:</p>" if changed else "<p>Both runs have the same config.</p>"
        if changed:
            content += document.table(
                ["key", other.name, run.name], [[k, _value(a), _value(b)] for k, (a, b) in changed.items()]
            )
        content += (
            f"<p>Where {html.escape(run.name)} differs from the bundled <code>{html.escape(run.base)}</code>:</p>"
        )
    if run.differences:
        content += document.table(
            head, [[key, _value(old), _value(new)] for key, (old, new) in run.differences.items()]
        )
    every = [[key, _value(value)] for key, value in overrides.flat(run.config).items()]
    whole = document.table(["key", "value"], every)
    return f"{content}<details><summary>All {len(every)} values</summary>{whole}</details>"


def _surroundings(run: history.History, other: history.History | None) -> str:
    runs = [run] if other is None else [run, other]
    names = list(dict.fromkeys(name for each in runs for name in each.environment))
    rows = [[name, *(str(each.environment.get(name, "")) for each in runs)] for name in names]
    splits = list(dict.fromkeys(name for each in runs for name in each.data))
    rows += [[f"pictures, {split}", *(_counted(each.data.get(split)) for each in runs)] for split in splits]
    return document.table(["", *(each.name for each in runs)], rows) if rows else ""


def _counted(entry: Any) -> str:
    if not isinstance(entry, list) or len(entry) != 2:
        return ""
    return f"{entry[0]:,} (names: {str(entry[1])[:12]})"


def _commands(run: history.History) -> str:
    place = shlex.quote(str(run.place))
    style = "" if run.config.generator.name != "any_style" else " --style PAINTING"
    told = {
        "Go on": f"python -m gqst.train --config {place}/config.json --workdir {place}",
        "Stylise": f"python -m gqst.stylize --workdir {place}{style} --input PHOTOS --output OUT",
        "Evaluate": f"python -m gqst.evaluate --workdir {place}",
        "This page": f"python -m gqst.report {place}",
    }
    return "".join(f"<p>{name}</p><pre>{html.escape(command)}</pre>" for name, command in told.items())


def _both(
    name: str, points: history.Points, other: history.History | None, beside: history.Points
) -> list[charts.Line]:
    lines = [charts.Line(name, points, 1)]
    return lines if other is None else [*lines, charts.Line(other.name, beside, 2, dashed=True)]


def _marks(run: history.History) -> dict[int, str]:
    return {
        line.get("from", line["step"]): f"roll-back: {line['rollback']}" for line in run.decisions if "rollback" in line
    }


def _better(name: str) -> str:
    better = metrics.METRICS[name].better if name in metrics.METRICS else "neither"
    if name in ("style_distance", "shortfall", "structure_error"):
        better = "lower"
    return "" if better == "neither" else f"{better.capitalize()} is better."


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _validates(run: history.History) -> bool:
    return any(name.startswith("validation") for name in run.data)


def _value(value: Any) -> str:
    return "absent" if value is None else json.dumps(value)
