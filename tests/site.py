"""The pages of the documentation, in the order of its navigation."""

import tomllib
from collections.abc import Iterator
from typing import Any

from tests import conftest

DOCS = conftest.ROOT / "docs"


def settings() -> dict[str, Any]:
    return tomllib.loads((conftest.ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]


def pages() -> list[str]:
    return list(_flat(settings()["nav"]))


def _flat(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from _flat(part)
