"""Styles as single files: the generator of a run packed into one, and one as a function of pictures."""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from gqst import storage
from gqst.inference import generator, live
from gqst.models import style_files

_NO_FIGURES = ("best", "seconds", "share", "shortfall")


def pack(
    workdir: str | pathlib.Path,
    path: str | pathlib.Path,
    *,
    which: Any = "best",
    direction: str = "forward",
    dtype: style_files.Dtype = "float16",
    about: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Writes the generator of a run as a style file, and returns its card.

    Args:
      workdir: Folder of the run.
      path: File to write; what it held before is replaced.
      which: Checkpoint: `best`, `last` or a step.
      direction: `forward`, or `backward` where the run has cycles.
      dtype: Type of the weights; float16 changes a pixel by less than 1/255.
      about: Further entries of the card, such as name, data and licence.

    Raises:
      InputError: There is no such run or checkpoint, or its weights cannot be written.
    """
    cfg, variables, step = generator.restored(workdir, which, direction)
    folder = storage.path(workdir)
    card = {**(about or {}), "step": step, "pictures": _counts(folder), "held_out": _held_out(folder, step)}
    style_files.write(path, cfg, variables, card, dtype=dtype)
    return card


def load(
    style: str | pathlib.Path, *, keep_colors: bool = False, memory: int | None = None, seed: int | None = None
) -> generator.Generator:
    """Returns the generator of a style file, as a function of pictures.

    For a picture as the style there is `gqst.Stylizer`.

    Args:
      style: File, or name of a style that comes with gqst.
      keep_colors: Whether to take only the brightness of the style.
      memory: Number of bytes that a program may take beside the pictures; None depends on the device.
      seed: Seed of the generator's noise, as for `load_generator`.

    Raises:
      InputError: There is no such style, or the file is damaged or something else; or a seed is given, and the
        generator has no noise.
      ValueError: The seed does not lie between 0 and 2^32 - 1.
    """
    read = style_files.read(style)
    return generator.Generator(*read, keep_colors=keep_colors, memory=memory, seed=seed)


def _counts(workdir: pathlib.Path) -> dict[str, int]:
    """Numbers of pictures of the run by domain."""
    try:
        prints: Any = json.loads((workdir / "data.json").read_text(encoding="utf-8"))
        return {domain: count for domain, (count, _) in prints.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _held_out(workdir: pathlib.Path, step: int) -> dict[str, float]:
    """Metrics of held-out pictures in the round of this step."""
    figures = {}
    for name, series in live.read_metrics(workdir).items():
        values = [value for at, value in series if at == step and math.isfinite(value)]
        metric = name.removeprefix("eval/")
        if metric != name and metric not in _NO_FIGURES and values:
            figures[metric] = round(values[-1], 4)
    return figures
