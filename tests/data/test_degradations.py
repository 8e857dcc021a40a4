"""Random damage: strengths, order, seeds."""

import io

import numpy as np
import pytest
import skimage.data
import skimage.metrics
from PIL import Image, ImageFilter

from gqst import config, types
from gqst.data import degradations, pipeline, sources
from gqst.pictures import decode

OFF = {"blur": (0.0, 0.0), "downscale": (1.0, 1.0), "noise": (0.0, 0.0), "jpeg": None}


@pytest.fixture(scope="module")
def picture():
    return skimage.data.astronaut()[:64, 100:180].astype(np.float32) / 255


def _damage(picture, seed=0, **options):
    return degradations.Degradation(**{**OFF, **options})(picture, np.random.default_rng(seed))


def test_nothing_is_done_where_all_is_off(picture):
    np.testing.assert_array_equal(_damage(picture), picture)


def test_each_is_what_pillow_does(picture):
    image = Image.fromarray(decode.to_bytes(picture))
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(2.0)), np.float32) / 255
    np.testing.assert_array_equal(_damage(picture, blur=(2.0, 2.0)), blurred)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=20)
    np.testing.assert_array_equal(_damage(picture, jpeg=(20, 20)), np.asarray(Image.open(file), np.float32) / 255)
    small = image.resize((40, 32), Image.Resampling.BICUBIC).resize((80, 64), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(_damage(picture, downscale=(2.0, 2.0)), np.asarray(small, np.float32) / 255)


def test_noise_has_its_deviation():
    grey = np.full((64, 64, 3), 0.5, np.float32)
    grain = _damage(grey, noise=(0.1, 0.1)) - grey
    assert grain.std() == pytest.approx(0.1, rel=0.03) and abs(grain.mean()) < 0.003


def test_strengths_are_drawn_by_the_seed(picture):
    damage = degradations.Degradation()
    first, same, other = (damage(picture, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0.01
    assert first.dtype == np.float32 and first.shape == picture.shape and 0 <= first.min() <= first.max() <= 1
    quality = [
        skimage.metrics.peak_signal_noise_ratio(picture, damage(picture, np.random.default_rng(s))) for s in range(30)
    ]
    assert max(quality) - min(quality) > 4.0


@pytest.mark.parametrize(
    ("option", "value"), [("blur", (2.0, 1.0)), ("noise", (0.0, 2.0)), ("jpeg", (0, 50)), ("downscale", (0.5, 2.0))]
)
def test_ranges_that_make_no_sense(tmp_path, option, value):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with pytest.raises(types.InputError, match=f"data option '{option}' is .*lowest and the highest"):
        sources.build(config.choice("clean", root=str(tmp_path), **{option: value}))


@pytest.fixture
def dataset(tmp_path, picture):
    for i in range(3):
        Image.fromarray(decode.to_bytes(np.roll(picture, 9 * i, 1))).save(tmp_path / f"{i}.png")
    return sources.build(config.choice("clean", root=str(tmp_path)), validation=1)


def _cfg():
    return config.Config(image_size=32, batch_size=2, preprocess=config.Preprocess(load_size=40))


def test_training_sources_are_their_targets_damaged_anew(dataset):
    """Same crop and mirroring, another damage each time."""
    assert dataset.paired
    batches = pipeline.make_iterator(dataset, _cfg(), batch_size=2, threads=0)
    gaps = []
    for _ in range(4):
        batch = next(batches)
        for source, target in zip(batch["source"], batch["target"], strict=True):
            assert np.corrcoef(source.ravel(), target.ravel())[0, 1] > 0.8
            gaps.append(float(np.abs(source - target).mean()))
    assert len({round(g, 6) for g in gaps}) == 8 and min(gaps) > 0.0
    batches.close()
    again = next(pipeline.make_iterator(dataset, _cfg(), batch_size=2, threads=0))
    first = next(pipeline.make_iterator(dataset, _cfg(), batch_size=2, threads=0))
    np.testing.assert_array_equal(again["source"], first["source"])


def test_held_out_pictures_are_damaged_once_and_for_all(dataset):
    first, _ = pipeline.held_out(dataset.validation, _cfg(), 4)
    second, _ = pipeline.held_out(dataset.validation, _cfg(), 4)
    np.testing.assert_array_equal(first["source"], second["source"])
    assert np.abs(first["source"] - first["target"]).max() > 0.01
