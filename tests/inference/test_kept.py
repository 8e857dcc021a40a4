"""Generators kept for the next start."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import gqst
from gqst.inference import kept
from gqst.runtime import caches

HEAVY = {
    "tensorflow_datasets",
    "grain",
    "orbax",
    "optax",
    "dm_pix",
    "scipy",
    "gqst.data",
    "gqst.training",
    "gqst.losses",
}


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty folder of kept generators."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return caches.folder("generators")


def _picture():
    return np.random.default_rng(0).random((24, 32, 3), np.float32)


def test_a_kept_generator_is_the_restored_one(folder, workdir, monkeypatch):
    restored = gqst.load_generator(workdir)
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr("gqst.inference.generator._restored", None)  # not to be called
    again = gqst.load_generator(workdir)
    assert again.step == restored.step and again.demands == restored.demands
    np.testing.assert_array_equal(again(_picture()), restored(_picture()))


def test_every_checkpoint_has_its_own(folder, workdir, monkeypatch):
    outputs = {which: gqst.load_generator(workdir, which=which)(_picture()) for which in ("best", "last")}
    monkeypatch.setattr("gqst.inference.generator._restored", None)
    for which, same in ((1, "best"), (2, "last")):
        np.testing.assert_array_equal(gqst.load_generator(workdir, which=which)(_picture()), outputs[same])


@pytest.mark.parametrize("damage", ["cut", "foreign", "bit"])
def test_a_damaged_file_counts_as_none(folder, workdir, damage):
    restored = gqst.load_generator(workdir)
    [path] = folder.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "foreign":
        content = bytearray(b"something else")
    else:
        content[-1] ^= 1
    path.write_bytes(content)
    assert kept.read(workdir / "checkpoints", "best", "forward") is None
    np.testing.assert_array_equal(gqst.load_generator(workdir)(_picture()), restored(_picture()))


def test_a_folder_that_cannot_be_written_is_no_fault(monkeypatch, workdir, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    gqst.load_generator(workdir)(_picture())


def test_stylising_with_a_kept_generator_imports_little(folder, workdir, environment, tmp_path):
    Image.new("RGB", (32, 24), "olive").save(tmp_path / "a.png")
    gqst.load_generator(workdir)
    arguments = ["--workdir", str(workdir), "--input", str(tmp_path / "a.png"), "--output", str(tmp_path / "out")]
    code = f"import sys; from gqst import stylize; stylize.main({arguments!r}); print(*sys.modules, file=sys.stderr)"
    there = {**environment, "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]}
    done = subprocess.run([sys.executable, "-c", code], env=there, capture_output=True, text=True)
    assert done.returncode == 0 and "1 picture written" in done.stdout, done.stderr
    assert not HEAVY & set(done.stderr.split())
