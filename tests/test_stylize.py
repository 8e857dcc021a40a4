"""Stylising as a user does it, with a run trained for two steps."""

import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

import gqst
from gqst import cli, stylize, types
from gqst.inference import batch
from gqst.inference import generator as generator_module
from gqst.pictures import files
from gqst.training import loop
from tests import conftest

PHOTO = conftest.ROOT / "gqst/data/demo/photos/test/china.jpg"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> pathlib.Path:
    """A run of style_image with checkpoints of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("stylise") / "run"
    changes = ["steps=2", "round_every=1", "checkpoint_every=1", "log_every=1", "generator.filters=4"]
    loop.fit(conftest.small("style_image", *changes), folder, devices=1, quiet=True)
    return folder


@pytest.fixture(scope="module")
def generator(workdir):
    return gqst.load_generator(workdir, which="last")


@pytest.fixture
def photos(tmp_path) -> pathlib.Path:
    """A folder with a picture in every form: nested, odd sizes, alpha, EXIF, and one that is none."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    photo = Image.open(PHOTO).resize((61, 47))
    photo.save(folder / "odd.jpg")
    photo.save(folder / "deep" / "again.png")
    alpha = photo.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(photo.size))
    alpha.save(folder / "alpha.webp", lossless=True)
    exif = photo.getexif()
    exif[0x0112] = 6  # to be turned a quarter
    photo.save(folder / "turned.JPG", exif=exif)
    (folder / "broken.png").write_bytes(b"no picture")
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


def test_the_file_is_what_the_generator_gives(generator, photos, tmp_path):
    job = batch.collect([str(photos / "deep" / "again.png")], tmp_path / "out")
    assert batch.stylize(generator, job) == batch.Outcome(written=1, skipped=0, failed=0)
    source = np.asarray(Image.open(photos / "deep" / "again.png"), np.float32) / 255
    written = np.asarray(Image.open(tmp_path / "out" / "again.png"), np.float32) / 255
    np.testing.assert_allclose(written, generator(source), atol=0.5 / 255 + 1e-6)


def test_all_devices_work_and_give_the_same(generator, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 36, 3), np.uint8)).save(tmp_path / f"{i:02d}.png")
    used = set()
    on = generator_module.Generator.on
    monkeypatch.setattr(generator_module.Generator, "on", lambda self, device: used.add(device) or on(self, device))
    jobs = batch.collect([str(tmp_path)], tmp_path / "out")
    assert batch.stylize(generator, jobs).written == 12
    assert used == set(jax.local_devices()) and len(used) == 8
    for job in jobs:
        source, written = (np.asarray(Image.open(p), np.float32) / 255 for p in (job.source, job.output))
        np.testing.assert_allclose(written, generator(source), atol=0.5 / 255 + 1e-6)


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


def test_a_batch_is_its_pictures(generator):
    pictures = np.random.default_rng(0).random((3, 40, 36, 3), np.float32)
    together = generator(pictures)
    assert together.shape == pictures.shape and together.dtype == np.float32
    np.testing.assert_allclose(together[1], generator(pictures[1]), atol=1e-5)
    with pytest.raises(ValueError, match="got shape"):
        generator(pictures[..., :1])


def test_what_is_there_is_skipped_and_large_pictures_shrink(generator, photos, tmp_path):
    jobs = batch.collect([str(photos / "odd.jpg")], tmp_path / "out", suffix=".png")
    batch.stylize(generator, jobs, max_size=32)
    assert Image.open(tmp_path / "out" / "odd.png").size == (32, 25)
    assert batch.stylize(generator, jobs, skip_existing=True) == batch.Outcome(written=0, skipped=1, failed=0)


def test_inputs_are_never_replaced_nor_results_mixed_up(photos, tmp_path):
    with pytest.raises(types.InputError, match="is one of the inputs and would be replaced"):
        batch.collect([str(photos)], photos)
    Image.new("RGB", (40, 40)).save(photos / "odd.png")
    with pytest.raises(types.InputError, match=r"would both be written to .*odd\.png"):
        batch.collect([str(photos)], tmp_path / "out", suffix=".png")
    with pytest.raises(types.InputError, match="there is no picture or folder nowhere"):
        batch.collect(["nowhere"], tmp_path / "out")


def test_a_failed_write_leaves_the_old_file(monkeypatch, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        files.write(path, files.Picture(rgb=np.zeros((8, 8, 3), np.float32)))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_sentence(monkeypatch, generator, photos, tmp_path):
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write", fail)
    jobs = batch.collect([str(photos / "odd.jpg")], tmp_path / "out")
    with pytest.raises(types.InputError, match=r"cannot write .*odd.jpg: No space left on device; free"):
        batch.stylize(generator, jobs)


def test_best_last_and_a_step(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    best = max(line["step"] for line in lines if line.get("eval/best"))
    assert gqst.load_generator(workdir).step == best
    assert gqst.load_generator(workdir, which="last").step == 2
    assert gqst.load_generator(workdir, which=1).step == 1
    with pytest.raises(types.InputError, match=r"no checkpoint 7 in .*; there are: 1, 2"):
        gqst.load_generator(workdir, which=7)
    with pytest.raises(types.InputError, match="has no direction 'backward'; it has: forward"):
        gqst.load_generator(workdir, direction="backward")
    with pytest.raises(types.InputError, match=r"it has no config\.json"):
        gqst.load_generator(workdir.parent)


def test_keeping_the_colours(workdir, generator):
    """The brightness is the style's, the differences between channels are the source's."""
    picture = np.random.default_rng(0).uniform(0.4, 0.6, (40, 36, 3)).astype(np.float32)
    kept, styled = gqst.load_generator(workdir, which=generator.step, keep_colors=True)(picture), generator(picture)
    weights = np.float32([0.299, 0.587, 0.114])
    np.testing.assert_allclose(kept, np.clip(picture + ((styled - picture) @ weights)[..., None], 0, 1), atol=1e-5)
