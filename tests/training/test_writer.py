"""Files for people: metrics, events, grids."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from gqst.data import transforms
from gqst.training import writer


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
    out = writer.Writer(tmp_path, step=0)
    out.scalars(5, {"loss/cycle": 0.25, "eval/best": True, "eval/pictures": 3, "note": "text"})
    assert _lines(tmp_path) == [
        {"step": 5, "loss/cycle": 0.25, "eval/best": True, "eval/pictures": 3, "note": "text"}
    ]  # at once, not when it is closed
    out.close()
    said = {v.tag: (e.step, v.simple_value) for e in _events(tmp_path) for v in e.summary.value}
    assert said["loss/cycle"] == (5, 0.25) and said["eval/pictures"] == (5, 3.0)
    assert "note" not in said


def test_lines_after_the_restored_step_are_dropped(tmp_path):
    out = writer.Writer(tmp_path, step=0)
    for step in (5, 10, 15, 20):
        out.scalars(step, {"x": float(step)})
    out.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 8, "x": 1')  # killed while writing
    out = writer.Writer(tmp_path, step=10)
    out.scalars(12, {"x": 12.0})
    out.close()
    assert [line["step"] for line in _lines(tmp_path)] == [5, 10, 12]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("junk", ["[]", "3", "{}", "", '{"x": 1}', "nonsense"])
def test_lines_that_are_none_are_dropped(tmp_path, junk):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n' + junk + "\n")
    writer.Writer(tmp_path, step=3).close()
    assert _lines(tmp_path) == [{"step": 1}]


def test_samples_are_a_file_and_an_event(tmp_path):
    out = writer.Writer(tmp_path, step=0)
    columns = {"fake": np.random.default_rng(0).random((1, 130, 140, 3), np.float32)}
    path = out.samples(7, columns)
    out.close()
    assert path == tmp_path / "samples" / "0000007.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), writer.grid(columns))
    (shown,) = [v.image for e in _events(tmp_path) for v in e.summary.value if v.tag == "samples"]
    assert (shown.height, shown.width) == (22 + 134, 4 + 144)


def test_grid_layout():
    """Pixels are repeated up to 128 px a side; 4 px between pictures, 22 px for the titles."""
    rng = np.random.default_rng(0)
    columns = {name: rng.random((2, 50, 60, 3), np.float32) for name in ("source", "fake", "cycled")}
    sheet = writer.grid(columns)
    zoom = 3  # 150 x 180
    assert sheet.shape == (22 + 2 * (150 + 4), 4 + 3 * (180 + 4), 3) and sheet.dtype == np.uint8
    for column, pictures in enumerate(columns.values()):
        for row, picture in enumerate(pictures):
            top, left = 22 + row * 154, 4 + column * 184
            tile = sheet[top : top + 150, left : left + 180]
            expected = np.rint(picture * 255).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1)
            np.testing.assert_array_equal(tile, expected)
        assert (sheet[:20, left : left + 60] < 128).any()  # a title
    assert (sheet[:, :4] == 255).all()


def test_large_pictures_keep_their_size():
    assert writer.grid({"fake": np.zeros((1, 200, 300, 3))}).shape == (22 + 204, 4 + 304, 3)


def test_bytes_are_rounded_and_clipped():
    values = np.array([-0.5, 0.0, 0.49 / 255, 0.51 / 255, 254.6 / 255, 1.0, 7.0]).reshape(1, 7, 1)
    np.testing.assert_array_equal(transforms.to_bytes(values).ravel(), [0, 0, 0, 1, 255, 255, 255])


def test_pictures_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    first = np.zeros((4, 4, 3), np.uint8)
    writer.write_png(path, first)
    before = path.read_bytes()

    def fail(image, file, **options):
        pathlib.Path(file).write_bytes(b"half")
        raise OSError("no space")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="no space"):
        writer.write_png(path, first + 1)
    assert path.read_bytes() == before


def test_texts_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    writer.write_text(path, "één")
    assert path.read_text(encoding="utf-8") == "één" and list(tmp_path.iterdir()) == [path]

    def fail(*args, **options):
        raise OSError("no space")

    monkeypatch.setattr(pathlib.Path, "write_text", fail)
    with pytest.raises(OSError, match="no space"):
        writer.write_text(path, "other")
    assert path.read_text(encoding="utf-8") == "één"
