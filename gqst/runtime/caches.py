"""Files that are kept between runs, and can be made anew at any time."""

import os
import pathlib


def folder(kind: str) -> pathlib.Path:
    """Returns the folder of one kind of files, below XDG_CACHE_HOME or ~/.cache; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "gqst" / kind
