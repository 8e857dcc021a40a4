"""Atomic writing."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from gqst.pictures import files


def test_pictures_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    first = np.zeros((4, 4, 3), np.uint8)
    files.write_png(path, first)
    before = path.read_bytes()

    def fail(image, file, **options):
        pathlib.Path(file).write_bytes(b"half")
        raise OSError("no space")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="no space"):
        files.write_png(path, first + 1)
    assert path.read_bytes() == before


def test_texts_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    files.write_text(path, "één")
    assert path.read_text(encoding="utf-8") == "één" and list(tmp_path.iterdir()) == [path]

    def fail(*args, **options):
        raise OSError("no space")

    monkeypatch.setattr(pathlib.Path, "write_text", fail)
    with pytest.raises(OSError, match="no space"):
        files.write_text(path, "other")
    assert path.read_text(encoding="utf-8") == "één"


def test_a_failed_write_leaves_the_old_file(monkeypatch, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        files.write(path, files.Picture(np.zeros((8, 8, 3), np.uint8)))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
