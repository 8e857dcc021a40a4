"""`python -m gqst.style`, and styles in `python -m gqst.stylize`."""

import json

import numpy as np
import pytest
from PIL import Image

import gqst
from gqst import style, stylize, types
from gqst.models import style_files
from gqst.training import loop
from tests import conftest


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("style") / "run"
    changes = ("steps=1", "generator.filters=4", "round_every=1", "checkpoint_every=1", "log_every=1", "validation=2")
    loop.fit(conftest.small("style_image", *changes), folder, devices=1, quiet=True)
    return folder


@pytest.mark.slow
def test_a_run_is_packed_shown_and_applied(workdir, tmp_path, capsys):
    file = tmp_path / "mine.safetensors"
    style.main(["pack", str(workdir), str(file), "--name", "Mine", "--licence", "CC0"])
    assert "--style" in capsys.readouterr().out
    with pytest.raises(types.InputError, match="--overwrite"):
        style.main(["pack", str(workdir), str(file)])
    style.main(["pack", str(workdir), str(file), "--name", "Mine", "--overwrite"])
    style.main(["show", str(file)])
    shown = capsys.readouterr().out
    assert "name: Mine" in shown and "train/source" in shown and "contrast_structure" in shown
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)).save(photo)
    report = tmp_path / "report.json"
    flags = ["--style", str(file), "--input", str(photo), "--output", str(tmp_path / "out.png"), "--json", str(report)]
    assert stylize.main(flags) == 0
    expected = gqst.load_generator(workdir)(gqst.read_picture(photo))
    actual = gqst.read_picture(tmp_path / "out.png")
    np.testing.assert_allclose(actual, expected, atol=1.5 / 255)
    with pytest.raises(types.InputError, match=r"checkpoint.* 0"):
        stylize.main(["--workdir", str(workdir), "--checkpoint", "0", *flags[2:6], "--overwrite"])
    about = json.loads(report.read_text())
    assert about["style"] == str(file) and "run" not in about


def test_the_list(capsys):
    style.main(["list"])
    assert "The Scream, Edvard Munch, 1893" in capsys.readouterr().out


def test_the_list_of_a_copy_without_styles(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(style_files, "_BUNDLED", tmp_path)
    style.main(["list"])
    assert capsys.readouterr().out.startswith("no styles come with this copy")


def test_a_card_steers_no_terminal(capsys, tmp_path):
    file = tmp_path / "style.safetensors"
    card = {"name": "\x1b[2Jgone", "held_out": {"kid": 0.25, "note": "a\rb"}}
    style_files.write(file, conftest.small("style_image"), {"params": {"w": np.zeros(2, np.float32)}}, card)
    style.main(["show", str(file)])
    assert capsys.readouterr().out == "held-out: kid 0.25, note a\ufffdb\nname: \ufffd[2Jgone\n"


def test_flags_that_do_not_go_together(capsys):
    for more, said in (
        (["--style", "scream", "--checkpoint", "last"], "a style file has one"),
        (["--style", "scream", "--checkpoint", "best"], "a style file has one"),
        (["--style", "scream", "--direction", "forward"], "a style file has one"),
        ([], "give --style, or --workdir of a run"),
    ):
        with pytest.raises(SystemExit):
            stylize.main([*more, "--input", "a.jpg", "--output", "b.jpg"])
        assert said in capsys.readouterr().err
    for more in (["--workdir", "run"], ["--structure", "0.5"], ["--style-size", "300"]):
        with pytest.raises(types.InputError, match="scream is a style with a generator of its own"):
            stylize.main(["--style", "scream", *more, "--input", "demo:photos/test", "--output", "out"])
    with pytest.raises(types.InputError, match="has to end in"):
        style.main(["pack", "run", "style.bin"])
