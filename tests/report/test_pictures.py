"""Pictures of a report."""

import base64
import dataclasses
import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from gqst.pictures import files
from gqst.report import history, pictures
from tests.report.conftest import made_up_run


def _picture(uri: str) -> np.ndarray:
    head, _, content = uri.partition(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))), np.float32)


def test_sources_and_fakes_of_the_rounds(workdir: pathlib.Path):
    shown = pictures.of_rounds(history.read(workdir))
    assert shown.steps == [0, 10, 20, 30, 40]
    assert [len(fakes) for fakes in shown.fakes] == [2] * 5 and len(shown.sources) == 2
    # The first round shows the sources as they are; the target column has them in the other order.
    assert np.abs(_picture(shown.fakes[0][1]) - _picture(shown.sources[1])).mean() < 1
    assert np.abs(_picture(shown.fakes[2][1]) - _picture(shown.sources[1])).mean() > 20
    assert np.abs(_picture(shown.others["target"][0]) - _picture(shown.sources[1])).mean() < 1


def test_few_of_many_rounds_are_shown_with_the_first_the_last_and_the_best(workdir: pathlib.Path):
    run = history.read(workdir)
    run = dataclasses.replace(run, samples=dict.fromkeys(range(0, 5_000, 10), workdir), best=[1230])
    steps = pictures.chosen(run)
    assert len(steps) <= 10 and steps[0] == 0 and steps[-1] == 4_990 and 1_230 in steps and steps == sorted(set(steps))


def test_a_grid_that_does_not_say_where_its_pictures_are_is_shown_whole(workdir: pathlib.Path):
    whole = Image.fromarray(np.zeros((90, 60, 3), np.uint8))
    files.write_png(workdir / "samples/0000010.png", whole)
    (workdir / "samples/0000020.png").write_bytes(b"no picture")
    shown = pictures.of_rounds(history.read(workdir))
    assert shown.steps == [0, 10, 30, 40] and shown.sources == [] and shown.others == {}
    assert [len(fakes) for fakes in shown.fakes] == [1] * 4 and _picture(shown.fakes[1][0]).shape == (90, 60, 3)


def test_pictures_are_scaled_down_to_what_the_page_may_hold(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pictures, "_BYTES", 500_000)
    # Noise is what WebP can shorten least.
    folder = made_up_run(tmp_path / "run", side=160, rows=8)
    shown = pictures.of_rounds(history.read(folder))
    uris = [uri for fakes in shown.fakes for uri in fakes] + shown.sources + shown.others["target"]
    assert sum(map(len, uris)) < 510_000 and 60 < len(_picture(uris[0])) < 160


def test_the_worst_and_the_best_with_their_labels(workdir: pathlib.Path):
    step, shown = pictures.worst_and_best(history.read(workdir))
    assert step == 30 and [label["kind"] for label, _, _ in shown] == ["worst", "best"]
    _, source, fake = shown[0]
    assert np.abs(_picture(source) + _picture(fake) - 255).mean() < 12
    (workdir / pictures.WORST_AND_BEST).write_bytes(b"half a fi")
    assert pictures.worst_and_best(history.read(workdir)) == (0, [])
