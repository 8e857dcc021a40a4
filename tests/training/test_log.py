"""Files for people: metrics, events, grids."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from gqst.pictures import grid
from gqst.training import log, rounds


def _lines(folder: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _events(folder: pathlib.Path) -> list[event_pb2.Event]:
    """The records of all event files: each is a length, its checksum, the event, its checksum."""
    events = []
    for path in sorted((folder / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def test_scalars_are_lines_and_events(tmp_path):
    out = log.Log(tmp_path, step=0)
    out.scalars(5, {"loss/cycle": 0.25, "eval/best": True, "eval/pictures": 3, "note": "text"})
    assert _lines(tmp_path) == [
        {"step": 5, "loss/cycle": 0.25, "eval/best": True, "eval/pictures": 3, "note": "text"}
    ]  # at once, not when it is closed
    out.close()
    said = {v.tag: (e.step, v.simple_value) for e in _events(tmp_path) for v in e.summary.value}
    assert said["loss/cycle"] == (5, 0.25) and said["eval/pictures"] == (5, 3.0)
    assert "note" not in said


def test_lines_after_the_restored_step_are_dropped(tmp_path):
    out = log.Log(tmp_path, step=0)
    for step in (5, 10, 15, 20):
        out.scalars(step, {"x": float(step)})
    out.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 8, "x": 1')  # killed while writing
    out = log.Log(tmp_path, step=10)
    out.scalars(12, {"x": 12.0})
    out.close()
    assert [line["step"] for line in _lines(tmp_path)] == [5, 10, 12]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("junk", ["[]", "3", "{}", "", '{"x": 1}', "nonsense"])
def test_lines_that_are_none_are_dropped(tmp_path, junk):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n' + junk + "\n")
    log.Log(tmp_path, step=3).close()
    assert _lines(tmp_path) == [{"step": 1}]


def test_samples_are_a_file_and_an_event(tmp_path):
    out = log.Log(tmp_path, step=0)
    columns = {"fake": np.random.default_rng(0).random((1, 130, 140, 3), np.float32)}
    path = out.samples(7, columns)
    out.close()
    assert path == tmp_path / "samples" / "0000007.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), grid.picture_grid(columns))
    (shown,) = [v.image for e in _events(tmp_path) for v in e.summary.value if v.tag == "samples"]
    assert (shown.height, shown.width) == (28 + 130 + 8, 8 + 140 + 8)


def test_the_worst_and_the_best_are_kept_with_their_labels(tmp_path):
    out = log.Log(tmp_path, step=0)
    pixels = np.linspace(0, 1, 2 * 128 * 128 * 3, dtype=np.float32).reshape(2, 128, 128, 3)
    labels = [{"metric": "ssim", "value": 0.1, "kind": "worst"}, {"metric": "ssim", "value": 0.9, "kind": "best"}]
    out.worst_and_best(30, rounds.Extremes(labels, {"source": pixels, "fake": 1 - pixels}))
    out.worst_and_best(40, rounds.Extremes([], {"source": pixels[:0], "fake": pixels[:0]}))  # none differ
    out.close()
    with Image.open(tmp_path / "worst_and_best.png") as picture:
        assert json.loads(picture.info["gqst:labels"]) == {"step": 30, "labels": labels}
