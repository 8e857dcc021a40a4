"""Which files of a folder are pictures, and what is said of the others."""

import pathlib

import pytest
from PIL import features

from gqst import types
from gqst.pictures import folders

SUFFIXES = ("jpg", "JPEG", "jpe", "jfif", "mpo", "png", "gif", "bmp", "tif", "webp", "jp2")


def _fill(folder: pathlib.Path, *names: str) -> pathlib.Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def _names(files):
    return [files.name(i) for i in range(len(files))]


def test_what_pillow_decodes_is_taken(tmp_path):
    assert features.check("jpg_2000")
    names = [f"{i:02d}.{suffix}" for i, suffix in enumerate(SUFFIXES)]
    files = folders.listing(_fill(tmp_path, *names), option="root")
    assert _names(files) == names and files.left_out == {}


def test_the_others_are_counted_by_reason(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(folders, "_can_read", lambda suffix: suffix not in (".heic", ".avif"))
    _fill(tmp_path, "a.png", "b.heic", "c.HEIC", "d.avif", "e.nef", "f.svg", "g.txt", "Thumbs.db", ".hidden.png")
    files = folders.listing(tmp_path, option="root")
    counts = {reason: [path.name for path in paths] for reason, paths in files.left_out.items()}
    assert _names(files) == ["a.png"]
    assert counts == {
        'HEIC needs pip install "gqst[heic]"': ["b.heic", "c.HEIC"],
        "this Pillow was built without AVIF": ["d.avif"],
        "raw data of cameras (.nef) has to be developed first": ["e.nef"],
        "svg is not read": ["f.svg"],
        "not pictures": ["Thumbs.db", "g.txt"],
    }
    # Text files are nobody's loss.
    [record] = caplog.records
    assert record.getMessage().startswith(f"left out in {tmp_path}: 2: HEIC needs")
    assert "not pictures" not in record.getMessage()


def test_thumbnails_of_nas_systems_are_left_out(tmp_path):
    thumbnails = ["@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "deep/#recycle/b.png", "__MACOSX/c.png"]
    files = folders.listing(_fill(tmp_path, "a.png", ".@__thumb/a.png", *thumbnails), option="root")
    assert _names(files) == ["a.png"]
    assert {str(p.relative_to(tmp_path)) for p in files.left_out["thumbnails"]} == set(thumbnails)


def test_a_folder_without_a_readable_picture_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_can_read", lambda suffix: suffix != ".heic")
    _fill(tmp_path, "b.heic", "a.txt")
    with pytest.raises(types.InputError, match=r'no pictures in .*left out: 1: HEIC needs pip install "gqst\[heic\]"'):
        folders.listing(tmp_path, option="root")
