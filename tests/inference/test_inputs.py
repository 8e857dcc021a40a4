"""Which pictures are stylised, and what their results are called."""

import os
import pathlib

import pytest
from PIL import Image

from gqst import types
from gqst.inference import inputs


@pytest.fixture
def folder(tmp_path, monkeypatch) -> pathlib.Path:
    """The working folder, with in/a.png, in/deep/b.jpg and notes.txt."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save("in/a.png")
    Image.new("RGB", (8, 8)).save("in/deep/b.jpg")
    pathlib.Path("notes.txt").write_text("no picture")
    return tmp_path


def _names(given, output="out", **options):
    found = inputs.collect(given, pathlib.Path(output), **options)
    return {str(job.source): str(job.output) for job in found.jobs}


def test_files_folders_patterns_and_lists(folder):
    everything = {"in/a.png": "out/a.png", "in/deep/b.jpg": "out/deep/b.jpg"}
    assert _names(["in"]) == everything
    assert _names(["in/a.png", "in/deep"]) == {"in/a.png": "out/a.png", "in/deep/b.jpg": "out/b.jpg"}
    assert _names(["in/*.png"]) == {"in/a.png": "out/a.png"}
    assert _names(["in/**/*.jpg"]) == {"in/deep/b.jpg": "out/b.jpg"}
    pathlib.Path("list.txt").write_bytes(b"in/a.png\n\nin/deep/b.jpg\n" + b"in/caf\xe9.png\n")
    pathlib.Path(os.fsdecode(b"in/caf\xe9.png")).write_bytes(pathlib.Path("in/a.png").read_bytes())
    assert [os.fsencode(p) for p in _names(["@list.txt"])] == [b"in/a.png", b"in/deep/b.jpg", b"in/caf\xe9.png"]
    assert _names(["in/a.png", "in/a.png"]) == {"in/a.png": "out/a.png"}


def test_a_name_with_the_signs_of_a_pattern_is_a_file(folder):
    pathlib.Path("in/[1].png").write_bytes(pathlib.Path("in/a.png").read_bytes())
    assert _names(["in/[1].png"]) == {"in/[1].png": "out/[1].png"}


def test_what_is_not_there_is_one_sentence(folder):
    for given, sentence in (
        ("nowhere", "there is no picture or folder nowhere"),
        ("*.gif", r"nothing matches \*\.gif"),
        ("@none.txt", "the list none.txt cannot be read: No such file"),
    ):
        with pytest.raises(types.InputError, match=sentence):
            _names([given])


def test_results_below_the_input_are_no_inputs(folder):
    once = _names(["in"], "in/out")
    for output in once.values():
        pathlib.Path(output).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(output)
    assert _names(["in"], "in/out") == once == {"in/a.png": "in/out/a.png", "in/deep/b.jpg": "in/out/deep/b.jpg"}


def test_equal_stems_have_distinct_results(folder):
    for name in ("c.bmp", "c.png", "c.gif"):
        Image.new("RGB", (8, 8)).save(f"in/{name}")
    assert _names(["in/c.bmp", "in/c.png", "in/c.gif"]) == {
        "in/c.bmp": "out/c.bmp.png",
        "in/c.png": "out/c.png",
        "in/c.gif": "out/c.gif.png",
    }
    # The same whether or not others are there.
    assert _names(["in/c.bmp", "in/c.png"], suffix=".webp") == {
        "in/c.bmp": "out/c.bmp.webp",
        "in/c.png": "out/c.png.webp",
    }


def test_inputs_are_never_replaced_nor_results_mixed_up(folder):
    with pytest.raises(types.InputError, match="is one of the inputs and would be replaced"):
        _names(["in"], "in")
    pathlib.Path("more").mkdir()
    Image.new("RGB", (8, 8)).save("more/a.png")
    with pytest.raises(types.InputError, match=r"in/a\.png and more/a\.png would both be written to out/a\.png"):
        _names(["in", "more"])


def test_a_single_picture_may_name_its_result(folder):
    assert _names(["in/a.png"], "x/styled.jpg") == {"in/a.png": "x/styled.jpg"}
    assert _names(["in"], "x.jpg") == {"in/a.png": "x.jpg/a.png", "in/deep/b.jpg": "x.jpg/deep/b.jpg"}


def test_results_that_exist_are_told_with_the_way_out(folder):
    found = inputs.collect(["in"], pathlib.Path("out"))
    inputs.check_existing(found.jobs)
    pathlib.Path("out").mkdir()
    pathlib.Path("out/a.png").touch()
    with pytest.raises(types.InputError, match=r"the result exists already \(out/a.png\): --overwrite .*--skip-exist"):
        inputs.check_existing(found.jobs)


def test_at_16_bits_jpegs_become_png(folder):
    assert _names(["in"], depth=16) == {"in/a.png": "out/a.png", "in/deep/b.jpg": "out/deep/b.png"}


def test_a_dry_run_reads_heads_alone(folder):
    pathlib.Path("in/broken.png").write_bytes(b"no picture")
    found = inputs.collect(["in"], pathlib.Path("out"))
    report = inputs.planned(found, max_size=4)
    assert [(entry.source.name, entry.outcome, entry.size) for entry in report.entries] == [
        ("a.png", "planned", (4, 4)),
        ("broken.png", "failed", None),
        ("b.jpg", "planned", (4, 4)),
    ]
