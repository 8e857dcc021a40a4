"""Folders of runs as training leaves them, made up."""

import json
import math
import pathlib

import numpy as np
import pytest

from gqst import overrides
from gqst.pictures import files, grid
from gqst.report import pictures

DIFFERENT = 5  # rounds of a made-up run whose pictures differ


@pytest.fixture
def workdir(tmp_path: pathlib.Path) -> pathlib.Path:
    """A run of 40 steps with a round every 10, one alarm, one roll-back and a target."""
    return made_up_run(tmp_path / "runs" / "a<b&c")


def made_up_run(
    folder: pathlib.Path, *, steps: int = 40, round_every: int = 10, log_every: int = 2, side: int = 32, rows: int = 2
) -> pathlib.Path:
    """Writes the files of a run into a new folder and returns it; the third round is the best."""
    (folder / "samples").mkdir(parents=True)
    changes = (f"steps={steps}", "image_size=64", "targets={'contrast_structure': 0.7}")
    (folder / "config.json").write_text(overrides.to_json(overrides.load("style_image", *changes)))
    (folder / "data.json").write_text(
        json.dumps({"train/source": [12, "0123456789abcdef"], "validation/source": [4, "ff"]})
    )
    (folder / "environment.json").write_text(json.dumps({"gqst": "0.1.0", "devices": "1 x cpu"}))
    rng = np.random.default_rng(0)
    lines: list[dict] = []
    for step in range(log_every, steps + 1, log_every):
        lines.append({"step": step, "loss/content": 1 / step, "loss/style": 2 + math.sin(step)})
    pixels = rng.random((rows, side, side, 3))
    for number, step in enumerate(range(0, steps + 1, round_every)):
        structure = 0.5 + 0.25 * step / steps
        held_out = {"contrast_structure": structure, "style_distance": 0.5 + 0.1 * abs(number - 3)}
        held_out |= {"shortfall": max(0.7 - structure, 0.0), "pictures": rows, "seconds": 1.0}
        lines.append({"step": step} | {f"eval/{name}": value for name, value in held_out.items()})
        lines[-1]["eval/best"] = number in (1, 3)
        path = folder / f"samples/{step:07d}.png"
        if number < DIFFERENT:
            columns = {"source": pixels, "fake": (pixels + number / 9) % 1, "target": pixels[::-1]}
            files.write_png(path, grid.picture_grid(columns))
        else:
            path.hardlink_to(folder / f"samples/{number % DIFFERENT * round_every:07d}.png")
    lines.sort(key=lambda line: line["step"])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    decisions = [
        {"step": 10, "alarm": "collapse", "message": "fakes look alike <script>"},
        {"step": 0, "rollback": "collapse", "from": 10, "rate": 0.5},
        *(
            {"step": step, "metric": "contrast_structure", "label": "structure", "measured": 0.6, "smoothed": 0.61}
            | {"target": 0.7, "old": 1.0, "new": 1.0 + step / steps, "reason": "below"}
            for step in range(round_every, steps + 1, round_every)
        ),
    ]
    (folder / "decisions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in decisions))
    extremes = grid.picture_grid({"source": pixels, "fake": 1 - pixels})
    labels = [
        {"metric": "contrast_structure" if i else "my<metric", "value": 0.2 + i, "kind": kind}
        for i, kind in enumerate(("worst", "best"))
    ]
    extremes.info[pictures.LABELS] = json.dumps({"step": 30, "labels": labels})
    files.write_png(folder / pictures.WORST_AND_BEST, extremes)
    return folder
