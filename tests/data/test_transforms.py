"""The way from a picture to a crop."""

import numpy as np
import pytest
from PIL import Image

from gqst import config, types
from gqst.data import transforms


@pytest.mark.parametrize(
    ("resize", "size", "expected"),
    [
        ("resize_and_crop", (768, 512), (429, 286)),
        ("resize_and_crop", (512, 768), (286, 429)),
        ("stretch_and_crop", (768, 512), (286, 286)),
        ("scale_width", (512, 768), (286, 429)),
        ("scale_width", (800, 400), (512, 256)),
        ("none", (768, 512), (768, 512)),
        ("none", (300, 200), (384, 256)),
    ],
)
def test_sizes_before_the_crop(resize, size, expected):
    assert transforms.base_size(size, config.Preprocess(resize=resize), 256) == expected


def test_load_size_is_taken_and_never_below_the_crop():
    preprocess = config.Preprocess(load_size=300)
    assert transforms.base_size((600, 600), preprocess, 256) == (300, 300)
    small = config.Preprocess(load_size=100)
    assert transforms.base_size((600, 300), small, 256) == (512, 256)
    stretched = config.Preprocess(resize="stretch_and_crop", load_size=100)
    assert transforms.base_size((600, 300), stretched, 256) == (256, 256)


@pytest.mark.parametrize("resize", ["resize_and_crop", "stretch_and_crop", "scale_width", "none"])
@pytest.mark.parametrize("size", [(96, 64), (64, 96), (40, 20), (7, 90), (1, 1)])
def test_every_picture_gives_a_whole_crop(pictures, resize, size):
    preprocess = config.Preprocess(resize=resize, random_scale=(0.5, 1.5))
    picture = pictures[0].resize(size)
    (base,) = transforms.prepare([picture], preprocess, 48, scale=1.5)
    rng = np.random.default_rng(0)
    for _ in range(20):
        cut = transforms.crop(base, 48, transforms.draw(rng, preprocess), scale=1.5)
        assert cut.shape == (48, 48, 3) and cut.dtype == np.float32
        assert cut.min() >= 0.0 and cut.max() <= 1.0


def test_black_is_0_and_white_is_1():
    preprocess = config.Preprocess()
    for value in (0, 255):
        (base,) = transforms.prepare([Image.new("RGB", (64, 64), (value,) * 3)], preprocess, 32)
        assert np.all(transforms.crop(base, 32) == value / 255)


def test_the_centre_crop_lies_in_the_middle():
    base = np.zeros((10, 14, 3), np.uint8)
    base[3:7, 5:9] = 255
    assert np.all(transforms.crop(base, 4) == 1.0)


def test_crops_reach_every_edge_and_half_are_mirrored():
    base = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    rng = np.random.default_rng(0)
    preprocess = config.Preprocess()
    draws = [transforms.draw(rng, preprocess) for _ in range(300)]
    corners = {tuple(np.round(np.sort(transforms.crop(base, 4, d)[0, :, 0]) * 255).astype(int)) for d in draws}
    assert len(corners) == 3 * 5
    assert 110 < sum(d.flip for d in draws) < 190
    plain = config.Preprocess(flip=False)
    assert not any(transforms.draw(rng, plain).flip for _ in range(50))


def test_a_flip_is_a_mirror_left_to_right():
    base = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    mirrored = transforms.crop(base, 4, transforms.Draw(flip=True))
    assert np.array_equal(mirrored, transforms.crop(base, 4)[:, ::-1])


def test_random_scale_changes_how_much_is_seen():
    ramp = np.broadcast_to(np.arange(120, dtype=np.uint8)[None, :, None], (120, 120, 3))
    wide = transforms.crop(ramp, 30, transforms.Draw(scale=0.5), scale=2.0)
    close = transforms.crop(ramp, 30, transforms.Draw(scale=2.0), scale=2.0)
    assert np.ptp(wide) * 255 > 110
    assert round(np.ptp(close) * 255) == 29


def test_a_pair_of_different_sizes_stays_aligned(pictures):
    whole = pictures[0].resize((96, 64))
    preprocess = config.Preprocess(random_scale=(0.8, 1.3))
    bases = transforms.prepare([whole, whole.resize((192, 128))], preprocess, 32, scale=1.3)
    assert bases[0].shape == bases[1].shape
    rng = np.random.default_rng(3)
    for _ in range(10):
        drawn = transforms.draw(rng, preprocess)
        one, other = (transforms.crop(base, 32, drawn, scale=1.3) for base in bases)
        assert np.abs(one - other).mean() < 0.02


def test_random_scale_in_the_wrong_order_is_refused():
    with pytest.raises(types.InputError, match=r"random_scale is \(1.2, 0.8\)"):
        transforms.check(config.Preprocess(random_scale=(1.2, 0.8)))


@pytest.mark.parametrize("size", [(20000, 1), (1, 20000), (3000, 2)])
def test_thin_pictures_are_cropped_before_they_are_scaled(size):
    """Enlarged whole, 20000x1 would take 71 x 1,420,000 pixels."""
    picture = Image.new("RGB", size, (200, 30, 30))
    picture.paste((0, 0, 0), (0, 0, max(1, size[0] // 4), max(1, size[1] // 4)))  # at the end, which is left out
    [prepared] = transforms.prepare([picture], config.Preprocess(load_size=71), 64)
    assert sorted(prepared.shape[:2]) == [71, 8 * 71]
    assert (prepared == (200, 30, 30)).all() or min(size) > 1


def test_panoramas_that_are_large_enough_stay_whole():
    picture = Image.new("RGB", (2000, 100))
    [prepared] = transforms.prepare([picture], config.Preprocess(load_size=71), 64)
    assert prepared.shape == (71, 1420, 3)


def test_other_colours():
    crop = np.random.default_rng(3).random((8, 8, 3), np.float32)
    untouched, changed = np.random.default_rng(0), np.random.default_rng(0)
    assert transforms.recolored(crop, untouched, 0.0) is crop
    crops = [transforms.recolored(crop, changed, 1.0)]
    # Whatever the probability, the next draws are the same.
    assert untouched.random() == changed.random()
    crops += [transforms.recolored(crop, changed, 1.0) for _ in range(99)]
    assert all(x.shape == crop.shape and x.dtype == np.float32 for x in crops)
    assert min(x.min() for x in crops) >= 0 and max(x.max() for x in crops) <= 1
    assert len({x.tobytes() for x in crops}) == 100
    assert sum(transforms.recolored(crop, changed, 0.25) is not crop for _ in range(400)) == pytest.approx(100, abs=30)
    # Greys stay grey, and their order stays or is turned around, about every tenth time.
    ramp = np.repeat(np.linspace(0.1, 0.9, 9, dtype=np.float32)[:, None, None], 3, -1)
    ramps = [transforms.recolored(ramp, changed, 1.0) for _ in range(400)]
    assert all(np.ptp(x, axis=-1).max() < 1e-6 for x in ramps)
    turned = [np.sign(np.diff(x[:, 0, 0])) for x in ramps]
    assert all(abs(x.sum()) == 8 for x in turned)
    assert sum(x[0] < 0 for x in turned) == pytest.approx(40, abs=20)
