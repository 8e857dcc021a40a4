"""The command, on the bundled pictures with faults planted."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps

from gqst import types
from gqst.doctor import __main__ as doctor
from gqst.doctor import examine
from gqst.pictures import folders
from tests.report.test_page import Page


@pytest.fixture
def data(tmp_path: pathlib.Path) -> pathlib.Path:
    """Four photographs and four prints to train with, two photographs to test with."""
    root = tmp_path / "mine"
    for name, place, count in (
        ("trainA", "photos/train", 4),
        ("trainB", "ukiyoe/train", 4),
        ("testA", "photos/test", 2),
    ):
        (root / name).mkdir(parents=True)
        for path in sorted(folders.resolve(f"demo:{place}").iterdir())[:count]:
            image = Image.open(path).convert("RGB")
            image.thumbnail((128, 128))
            image.save(root / name / f"{path.stem}.png")
    return root


def _run(data: pathlib.Path, *flags: str) -> tuple[int, dict]:
    out = data.parent / "out"
    code = doctor.main(
        [str(data), "--size", "64", "--output", str(out / "x.html"), "--json", str(out / "x.json"), *flags]
    )
    return code, json.loads((out / "x.json").read_text())


def test_sound_data_has_no_findings(data: pathlib.Path, capsys: pytest.CaptureFixture):
    code, report = _run(data)
    assert (code, report["findings"]) == (0, [])
    assert [(s["name"], s["split"], s["pictures"]) for s in report["sets"]] == [
        ("testA", "test", 2),
        ("trainA", "train", 4),
        ("trainB", "train", 4),
    ]
    assert "nothing is wrong" in capsys.readouterr().out
    # The photographs have a counterpart in the training split alone.
    assert {name: len(values) for name, values in report["influences"].items()} == {"trainA": 4, "trainB": 4}


def test_planted_faults_are_found_and_shown(data: pathlib.Path, capsys: pytest.CaptureFixture):
    photos = sorted((data / "trainA").iterdir())
    with Image.open(photos[0]) as picture:
        ImageOps.mirror(picture).resize((96, 96)).save(data / "trainA/<b>.jpg", quality=80)
    shutil.copy(photos[1], data / "testA/seen.png")
    (data / "trainB/broken.png").write_bytes(photos[2].read_bytes()[:2000])
    Image.new("RGB", (70, 70), (9, 9, 9)).save(data / "trainB/black.png")
    code, report = _run(data)
    found = {each["kind"]: each["pictures"] for each in report["findings"]}
    assert code == 1 and found == {
        "unreadable": ["trainB/broken.png"],
        "blank": ["trainB/black.png"],
        "leak": ["testA/seen.png", f"trainA/{photos[1].name}"],
        "near-duplicate": sorted(["trainA/<b>.jpg", f"trainA/{photos[0].name}"]),
    }
    assert f"leak: testA/seen.png, trainA/{photos[1].name}" in capsys.readouterr().out
    text = (data.parent / "out/x.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.headings == ["Unreadable", "Near-duplicate", "Leak", "Blank", "Influence on KID", "Pictures"]
    assert "<b>.jpg" not in text and all(a.startswith(("#", "data:")) for a in page.addresses)


def test_folders_by_their_names(tmp_path: pathlib.Path):
    for name in ("a/train", "a/val", "a/other", "b"):
        (tmp_path / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / "x.png")
    found = examine.find([str(tmp_path / "a"), str(tmp_path / "b")])
    assert [(s.name, s.split, s.domain) for s in found] == [
        ("a/train", "train", str(tmp_path / "a")),
        ("a/val", "validation", str(tmp_path / "a")),
        ("b", "train", str(tmp_path / "b")),
    ]


def test_a_folder_that_is_missing_is_one_sentence(tmp_path: pathlib.Path):
    with pytest.raises(types.InputError, match="there is no folder"):
        examine.find([str(tmp_path / "absent")])
