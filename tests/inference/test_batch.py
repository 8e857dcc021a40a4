"""Translation of many files: on all devices, without losing any."""

import jax
import numpy as np
import pytest
from PIL import Image

from gqst import types
from gqst.inference import batch
from gqst.inference import generator as generator_module
from gqst.pictures import files


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


def test_a_full_disk_is_one_sentence(monkeypatch, generator, photos, tmp_path):
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write", fail)
    jobs = batch.collect([str(photos / "odd.jpg")], tmp_path / "out")
    with pytest.raises(types.InputError, match=r"cannot write .*odd.jpg: No space left on device; free"):
        batch.stylize(generator, jobs)
