"""Writes the tables of docs/metrics.md and docs/configs.md from the registry of metrics and from the configs.

Run `python docs/make_tables.py` at the root of the repository; tests/test_docs.py fails while a table is out of date.
"""

import ast
import inspect
import math
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

import gqst
from gqst import config, losses, metrics, registry
from gqst.data import sources
from gqst.models import base

DOCS = pathlib.Path(__file__).resolve().parent
CONFIGS = DOCS.parent / "configs"
_SIGNS = {"higher": "+", "lower": "-", "neither": "~"}
_AGAINST = {"source": "source", "truth": "truth", "style": "style (a set)"}


def pages() -> dict[pathlib.Path, str]:
    """Returns the text of every page that has tables, with the tables as they should be."""
    made = {"metrics": _metrics(), "configs": _configs(), "descriptions": _descriptions(), "members": _members()}
    texts = {}
    for path in (DOCS / "metrics.md", DOCS / "configs.md"):
        text = path.read_text(encoding="utf-8")
        for name, table in made.items():
            between = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
            text = re.sub(between, lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", text, flags=re.S)
        texts[path] = text
    return texts


def names() -> list[str]:
    """Returns the names of all bundled configs."""
    return sorted(path.stem for path in CONFIGS.glob("*.py"))


def _metrics() -> str:
    rows = []
    for metric in metrics.METRICS.values():
        low, high = metric.range
        values = f"{_number(low)} to {_number(high)}" + (f" {metric.unit}" if metric.unit == "dB" else "")
        aim = f"{_number(metric.aim.limits[0])} to {_number(metric.aim.limits[1])}" if metric.aim else ""
        against = "source, after a cycle" if metric.output == "cycled" else _AGAINST[metric.reference]
        against += ", or truth" if metric.truth_if_known else ""
        smallest = str(metric.smallest) if metric.smallest > 1 else ""
        against += " and style" if metric.with_style else ""
        rounds = "always" if metric.always else "by default" if metric.name in config.Config().metrics else "if named"
        name = f"`{metric.name}` {_SIGNS[metric.better]}"
        rows.append((name, values, against, rounds, aim, smallest, metric.describe("the network")))
    return _table(("metric", "range", "against", "in rounds", "targets", "px", "definition"), rows)


def _configs() -> str:
    rows = []
    for name in names():
        cfg = gqst.load_config(name)
        losses = ", ".join(f"`{label}`" for label, loss in cfg.losses.items() if loss.on)
        game = any((loss.term or label) == "adversarial" for label, loss in cfg.losses.items() if loss.on)
        generator = f"`{cfg.generator.name}`"
        discriminator = f"`{cfg.discriminator.name}`" if game else "none"
        rows.append(
            (
                f"[`{name}`](#{name})",
                f"{cfg.steps:,}",
                str(cfg.batch_size),
                str(cfg.image_size),
                generator,
                discriminator,
                losses,
            )
        )
    return _table(("config", "steps", "batch", "px", "generator", "discriminator", "losses"), rows)


def _descriptions() -> str:
    return "\n".join(_description(name) for name in names())


def _description(name: str) -> str:
    text = ast.get_docstring(ast.parse((CONFIGS / f"{name}.py").read_text(encoding="utf-8")))
    assert text is not None, f"configs/{name}.py has no docstring"
    for word in ("Command:", "Cost:", "Expected:"):
        text = text.replace(word, f"**{word[:-1]}:**")
    return f"### {name}\n\n{text}\n"


def _members() -> str:
    """A table for each family that a config chooses from, with the options of its members and their defaults."""
    families: dict[str, tuple[registry.Registry, tuple[str, ...]]] = {
        "Data sources (`data`)": (sources.SOURCES, ()),
        "Generators (`generator`)": (base.GENERATORS, ("dtype",)),
        "Discriminators (`discriminator`)": (base.DISCRIMINATORS, ("dtype",)),
        "Losses (`losses`)": (losses.TERMS, ()),
    }
    texts = []
    for title, (family, given) in families.items():
        rows = [(f"`{name}`", _options(family.options(name, given=given))) for name in sorted(family)]
        texts.append(f"### {title}\n\n" + _table(("name", "options"), rows))
    return "\n".join(texts)


def _options(parameters: Mapping[str, inspect.Parameter]) -> str:
    return ", ".join(
        f"`{key}`" if parameter.default is inspect.Parameter.empty else f"`{key}={parameter.default!r}`"
        for key, parameter in parameters.items()
    )


def _number(x: float) -> str:
    return "∞" if x == math.inf else "-∞" if x == -math.inf else f"{x:.3g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def lines() -> Iterator[str]:
        for row in (head, ["---"] * len(head), *rows):
            yield "| " + " | ".join(row) + " |"

    return "\n".join(lines()).replace("| --- ", "|---").replace("--- |", "---|") + "\n"


if __name__ == "__main__":
    for page, content in pages().items():
        page.write_text(content, encoding="utf-8")
