"""Stylising as a user does it, with a run trained for two steps."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

import gqst
from gqst import cli, stylize
from gqst.training import loop
from tests import conftest


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> pathlib.Path:
    """A run of style_image with checkpoints of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("stylise") / "run"
    changes = ["steps=2", "round_every=1", "checkpoint_every=1", "log_every=1", "generator.filters=4"]
    loop.fit(conftest.small("style_image", *changes), folder, devices=1, quiet=True)
    return folder


def test_every_picture_of_a_folder_at_its_own_size(capsys, workdir, photos, tmp_path):
    with pytest.raises(SystemExit) as end:
        arguments = ["--workdir", str(workdir), "--input", str(photos), "--output", str(tmp_path / "out")]
        cli.run(lambda: stylize.main(arguments))
    said = capsys.readouterr()
    assert end.value.code == 1  # one was left out
    assert "4 pictures written" in said.out and "1 left out" in said.out
    sizes = {
        p.relative_to(tmp_path / "out").as_posix(): Image.open(p).size for p in sorted((tmp_path / "out").rglob("*.*"))
    }
    assert sizes == {
        "alpha.webp": (61, 47),
        "deep/again.png": (61, 47),
        "odd.jpg": (61, 47),
        "turned.JPG": (47, 61),
    }
    before = np.asarray(Image.open(photos / "alpha.webp"))[..., 3]
    after = np.asarray(Image.open(tmp_path / "out" / "alpha.webp"))[..., 3]
    np.testing.assert_array_equal(after, before)


def test_shares_are_all_pictures_once(capsys, workdir, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(5):
        Image.new("RGB", (32, 32), (50 * i, 90, 120)).save(tmp_path / "in" / f"{i}.png")
    for share, count in (("0/2", 3), ("1/2", 2)):
        where = ["--workdir", str(workdir), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
        stylize.main([*where, "--share", share, "--skip-existing"])
        assert f"{count} pictures written" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{i}.png" for i in range(5)]
    for wrong in ("2/2", "1", "a/b", "0/0"):
        with pytest.raises(SystemExit):
            stylize.main([*where, "--share", wrong])
        assert "is not I/N" in capsys.readouterr().err


def test_the_best_round_is_the_one_that_is_loaded(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    best = max(line["step"] for line in lines if line.get("eval/best"))
    assert gqst.load_generator(workdir).step == best
    assert gqst.load_generator(workdir, which="last").step == 2
