"""The pictures of a report: sources and fakes of some rounds, small enough for one page."""

import base64
import dataclasses
import io
import json
import math
from typing import Any

from PIL import Image

from gqst.pictures import decode, grid
from gqst.report import history

WORST_AND_BEST = "worst_and_best.png"
"""File in a run's folder with the worst and the best held-out pictures of its best round."""

LABELS = "gqst:labels"
"""Key of the text in that file that says which metric chose each row."""

_ROUNDS = 10
_ROWS = 8
_BYTES = 9_000_000
_QUALITY = 85


@dataclasses.dataclass(frozen=True)
class Rounds:
    """Sample pictures of some rounds, as data URIs.

    Attributes:
      steps: Steps of the rounds.
      fakes: Fakes by round and row.
      sources: Sources by row; empty if the grids do not say where their pictures are, each then being one fake.
      others: Further columns of the last of these rounds by title, such as the target, by row.
    """

    steps: list[int]
    fakes: list[list[str]]
    sources: list[str]
    others: dict[str, list[str]]


def chosen(run: history.History) -> list[int]:
    """Returns the steps of the rounds whose pictures are shown: the first, the last, the best, and some between."""
    steps = sorted(run.samples)
    if len(steps) > _ROUNDS:
        spaced = {steps[round(i * (len(steps) - 1) / (_ROUNDS - 2))] for i in range(_ROUNDS - 1)}
        steps = sorted(spaced | {step for step in run.best[-1:] if step in run.samples})
    return steps


def of_rounds(run: history.History) -> Rounds:
    """Returns the sample pictures of the chosen rounds; a damaged grid is left out."""
    steps, grids = [], []
    for step in chosen(run):
        try:
            columns = grid.tiles(run.samples[step]) or {"fake": [_whole(run, step)]}
        except (decode.UnreadableError, OSError, ValueError):
            continue
        steps.append(step)
        grids.append({title: column[:_ROWS] for title, column in columns.items()})
    if not grids:
        return Rounds([], [], [], {})
    # Runs that were resumed by a newer gqst have grids of both kinds.
    whole = any("source" not in columns for columns in grids)
    if whole:
        grids = [{"fake": [_whole(run, step)]} for step in steps]
    last = grids[-1]
    count = sum(len(columns["fake"]) for columns in grids) + sum(map(len, last.values()))
    most = _BYTES // max(count, 1)
    return Rounds(
        steps=steps,
        fakes=[[data_uri(picture, most) for picture in columns["fake"]] for columns in grids],
        sources=[] if whole else [data_uri(picture, most) for picture in last["source"]],
        others={
            title: [data_uri(picture, most) for picture in column]
            for title, column in last.items()
            if title not in ("source", "fake")
        },
    )


def worst_and_best(run: history.History) -> tuple[int, list[tuple[dict[str, Any], str, str]]]:
    """Returns the step, and for each picture its label, source and fake; none if the run has noted none.

    A label has `metric`, `value` and `kind`, "worst" or "best".
    """
    path = run.workdir / WORST_AND_BEST
    try:
        columns = grid.tiles(path)
        with Image.open(path) as image:
            told = json.loads(image.info[LABELS])
        pairs = zip(told["labels"], columns["source"], columns["fake"], strict=True)
        most = _BYTES // 4 // max(2 * len(told["labels"]), 1)
        return told["step"], [(label, data_uri(source, most), data_uri(fake, most)) for label, source, fake in pairs]
    except (decode.UnreadableError, OSError, ValueError, KeyError, TypeError):
        return 0, []


def data_uri(picture: Image.Image, most: int) -> str:
    """Returns a picture as WebP in a data URI of at most `most` bytes, which a large one is scaled down for."""
    while True:
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, format="WEBP", quality=_QUALITY)
        text = base64.b64encode(buffer.getvalue()).decode()
        if len(text) <= most or min(picture.size) <= 64:
            return f"data:image/webp;base64,{text}"
        # A little smaller than in proportion: fine detail, which costs most, is the last to go.
        scale = max(0.9 * math.sqrt(most / len(text)), 0.3)
        picture = picture.resize([max(1, round(scale * side)) for side in picture.size], Image.Resampling.LANCZOS)


def _whole(run: history.History, step: int) -> Image.Image:
    with Image.open(run.samples[step]) as image:
        return image.convert("RGB")
