"""Translation of many files: on all devices, without losing any."""

import errno
import json
import os

import jax
import numpy as np
import pytest
from PIL import Image

from gqst import types
from gqst.inference import batch, inputs, report
from gqst.inference import generator as generator_module
from gqst.pictures import files


def _stylize(generator, inputs_, output, options=batch.Options(), **more):  # noqa: B008 - frozen
    return batch.stylize(generator, inputs.collect([str(path) for path in inputs_], output), options, **more)


def _outcomes(result):
    return {entry.source.name: entry.outcome for entry in result.entries}


def _as_floats(path):
    return np.asarray(Image.open(path).convert("RGB"), np.float32) / 255


def _noise(path, count, size=(36, 40), seed=0):
    path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)).save(path / f"{i:02d}.png")
    return path


def test_the_file_is_what_the_generator_gives(generator, photos, tmp_path):
    source = photos / "deep" / "again.png"
    result = _stylize(generator, [source], tmp_path / "out")
    assert _outcomes(result) == {"again.png": "written"}
    written = _as_floats(tmp_path / "out" / "again.png")
    np.testing.assert_allclose(written, generator(_as_floats(source)), atol=0.5 / 255 + 1e-6)


@pytest.mark.slow
def test_all_devices_work_and_give_the_same(generator, tmp_path, monkeypatch):
    used = set()
    on = generator_module.Generator.on
    monkeypatch.setattr(generator_module.Generator, "on", lambda self, device: used.add(device) or on(self, device))
    monkeypatch.setattr(generator_module.Generator, "batch_size", lambda *_: 1)
    result = _stylize(generator, [_noise(tmp_path / "in", 12)], tmp_path / "out")
    assert result.count("written") == 12
    assert used == set(jax.local_devices()) and len(used) == 8
    for entry in result.entries:
        np.testing.assert_allclose(_as_floats(entry.output), generator(_as_floats(entry.source)), atol=0.5 / 255 + 1e-6)


@pytest.mark.slow
def test_pictures_of_many_sizes_share_few_programs_and_keep_their_order(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda *a, **k: jax.devices()[:1])
    rng = np.random.default_rng(1)
    for i in range(60):
        height, width = rng.integers(12, 80, 2)
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(tmp_path / "in" / f"{i:02d}.png")
    result = _stylize(generator, [tmp_path / "in"], tmp_path / "out")
    assert [entry.source.name for entry in result.entries] == [f"{i:02d}.png" for i in range(60)]
    assert result.count("written") == 60 and result.compiled <= 4
    for entry in result.entries[::7]:
        assert Image.open(entry.output).size == Image.open(entry.source).size == entry.size
        alone = generator(_as_floats(entry.source))
        np.testing.assert_allclose(_as_floats(entry.output), alone, atol=0.5 / 255 + 1e-4)


def test_what_is_there_is_skipped_and_large_pictures_shrink(generator, photos, tmp_path):
    found = inputs.collect([str(photos / "odd.jpg")], tmp_path / "out", suffix=".png")
    batch.stylize(generator, found, batch.Options(max_size=32))
    assert Image.open(tmp_path / "out" / "odd.png").size == (32, 25)
    result = batch.stylize(generator, found, batch.Options(skip_existing=True))
    assert _outcomes(result) == {"odd.jpg": "skipped"}


def test_strength_and_floor_reach_every_picture(generator, tmp_path):
    folder = _noise(tmp_path / "in", 3)
    none = _stylize(generator, [folder], tmp_path / "none", batch.Options(strength=0.0))
    for entry in none.entries:
        np.testing.assert_array_equal(_as_floats(entry.output), _as_floats(entry.source))
    held = _stylize(generator, [folder], tmp_path / "held", batch.Options(min_structure=0.9))
    for entry in held.entries:
        assert entry.strength < 1 and 0.9 <= entry.structure < 1


def test_a_picture_that_fails_is_named_once_and_the_rest_goes_on(generator, photos, tmp_path, caplog, monkeypatch):
    Image.new("RGB", (3, 40)).save(photos / "sliver.png")  # smaller than the network takes
    Image.new("RGB", (40, 40), "red").save(photos / "hungry.png")
    translate = generator_module.Generator.translate

    def hungry(self, pictures, **options):
        if any((picture == (255, 0, 0)).all() for picture in pictures):
            raise MemoryError
        return translate(self, pictures, **options)

    monkeypatch.setattr(generator_module.Generator, "translate", hungry)
    result = _stylize(generator, [photos], tmp_path / "out")
    reasons = {entry.source.name: entry.reason for entry in result.entries if entry.outcome == "failed"}
    assert reasons == {
        "broken.png": "it is not a picture",
        "hungry.png": "there is not enough memory for it",
        "sliver.png": "the network needs pictures of 4 px a side, got 40x3",
    }
    assert result.count("written") == 4
    named = [record.getMessage() for record in caplog.records]
    assert sorted(named) == sorted(f"left out: {photos / name}: {reason}" for name, reason in reasons.items())


def test_a_picture_that_a_format_cannot_hold_is_one_line(generator, tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (16400, 8)).save(tmp_path / "in" / "scroll.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "in" / "fine.png")
    result = batch.stylize(generator, inputs.collect([str(tmp_path / "in")], tmp_path / "out", suffix=".webp"))
    assert _outcomes(result) == {"fine.png": "written", "scroll.png": "failed"}
    assert "takes at most 16,383 pixels a side, this picture is 16400x8" in result.entries[1].reason


def test_a_full_disk_is_one_sentence_and_the_report_is_there(monkeypatch, generator, tmp_path):
    folder = _noise(tmp_path / "in", 3)
    write = files.write

    def full(path, *args, **kwargs):
        if path.name == "01.png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, *args, **kwargs)

    monkeypatch.setattr(files, "write", full)
    monkeypatch.setattr(generator_module.Generator, "batch_size", lambda *_: 1)
    ends = []
    with pytest.raises(types.InputError, match=r"cannot write .*01.png: No space left on device; free"):
        _stylize(generator, [folder], tmp_path / "out", on_end=ends.append)
    assert _outcomes(ends[0]) == {"00.png": "written"}


def test_one_unwritable_name_is_that_picture_alone(monkeypatch, generator, tmp_path):
    folder = _noise(tmp_path / "in", 2)
    write = files.write

    def long(path, *args, **kwargs):
        if path.name == "01.png":
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        write(path, *args, **kwargs)

    monkeypatch.setattr(files, "write", long)
    result = _stylize(generator, [folder], tmp_path / "out")
    assert _outcomes(result) == {"00.png": "written", "01.png": "failed"}


def test_the_report_says_what_became_of_each(generator, photos, tmp_path):
    (photos / os.fsdecode(b"caf\xe9.png")).write_bytes((photos / "deep" / "again.png").read_bytes())
    result = _stylize(generator, [photos], tmp_path / "out")
    report.write_json(tmp_path / "report.json", result, {"run": "here"})
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["run"] == "here"
    assert content["totals"] == {"pictures": 6, "written": 5, "failed": 1}
    assert content["reasons"] == {"it is not a picture": 1}
    names = [os.fsencode(entry["source"]).rpartition(b"/")[2] for entry in content["pictures"]]
    assert names == [b"alpha.webp", b"broken.png", b"caf\xe9.png", b"again.png", b"odd.jpg", b"turned.JPG"]
    lines = report.text(result, tmp_path / "out", checkpoint=2).splitlines()
    assert lines[0].startswith(f"5 pictures written to {tmp_path / 'out'} (checkpoint of step 2) in 0:")
    assert lines[0].endswith("1 left out:")
    assert lines[1] == f"  1: it is not a picture: {photos / 'broken.png'}"
