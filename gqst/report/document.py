"""The parts of pages: the document around them, tables, cards."""

import html
import importlib.resources
from collections.abc import Iterable, Mapping, Sequence


def document(title: str, *, header: str, sections: Mapping[str, str], footer: str, script: str = "") -> str:
    """Returns a page that asks for nothing.

    Args:
      title: Title as text; all other arguments are HTML.
      header: What stands below the title.
      sections: Content by heading; empty ones are left out.
      footer: The last line.
      script: Name of a script of this package to put at the end.
    """
    kept = {heading: content for heading, content in sections.items() if content}
    ids = {heading: heading.lower().replace(" ", "-") for heading in kept}
    links = "".join(f'<a href="#{ids[heading]}">{heading}</a>' for heading in kept)
    body = "".join(
        f'<section aria-labelledby="{ids[heading]}"><h2 id="{ids[heading]}">{heading}</h2>{content}</section>'
        for heading, content in kept.items()
    )
    end = f"<script>{_resource(script)}</script>" if script else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)} - gqst</title>"
        '<link rel="icon" href="data:,">'
        f"<style>{_resource('page.css')}</style></head><body>"
        f"<header><h1>{html.escape(title)}</h1>{header}<nav>{links}</nav></header>"
        f"<main>{body}</main><footer>{footer}</footer>{end}</body></html>\n"
    )


def facts(rows: Iterable[tuple[str, str, str]]) -> str:
    """Returns a row of figures: name, value, and "good", "bad" or nothing."""
    cells = "".join(f'<div><dt>{name}</dt><dd class="{kind}">{value}</dd></div>' for name, value, kind in rows)
    return f'<dl class="facts">{cells}</dl>'


def cards(contents: Iterable[str]) -> str:
    """Returns cards side by side, as many as there is room for; nothing for none."""
    joined = "".join(contents)
    return f'<div class="cards">{joined}</div>' if joined else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of texts."""
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table></div>'


def _resource(name: str) -> str:
    return importlib.resources.files("gqst.report").joinpath(name).read_text(encoding="utf-8")
