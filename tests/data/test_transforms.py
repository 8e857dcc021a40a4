"""Decoding, and the way from a picture to a crop."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from gqst import config, types
from gqst.data import transforms

_TO_ORIENTATION = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def _encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return io.BytesIO(buffer.getvalue())


def _close(one, other, tolerance):
    assert one.mode == "RGB" and one.size == other.size
    difference = np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64))
    assert difference.mean() < tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(pictures, orientation):
    upright = pictures[0]
    stored = upright
    if (turn := _TO_ORIENTATION[orientation]) is not None:
        stored = upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for shorter in (None, 16):
        file = _encode(stored, "JPEG", quality=95, exif=exif)
        decoded = transforms.decode(file, shorter=shorter)
        _close(decoded, upright.resize(decoded.size), 6.0)
        assert (decoded.width > decoded.height) == (upright.width > upright.height)


# Pillow warns of the damage, and we go on.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_damaged_exif_does_not_make_a_picture_unreadable(pictures):
    file = _encode(pictures[0], "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f junk")
    _close(transforms.decode(file), pictures[0], 4.0)


def test_cmyk(pictures):
    _close(
        transforms.decode(_encode(pictures[0].convert("CMYK"), "JPEG", quality=95)),
        pictures[0],
        4.0,
    )


def test_palette(pictures):
    _close(transforms.decode(_encode(pictures[0].quantize(256))), pictures[0], 6.0)


def test_palette_with_a_transparent_entry_becomes_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((0, 0), 1)
    decoded = transforms.decode(_encode(image, transparency=1))
    assert decoded.getpixel((0, 0)) == (255, 255, 255)
    assert decoded.getpixel((1, 1)) == (10, 20, 30)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
def test_every_8_bit_mode_becomes_rgb(pictures, mode):
    decoded = transforms.decode(_encode(pictures[0].convert(mode)))
    _close(decoded, pictures[0].convert(mode).convert("RGB"), 1.0)


def test_alpha_is_laid_over_white():
    file = _encode(Image.new("RGBA", (2, 2), (200, 0, 100, 51)))
    assert transforms.decode(file).getpixel((0, 0)) == (244, 204, 224)
    clear = _encode(Image.new("LA", (2, 2), (0, 0)))
    assert transforms.decode(clear).getpixel((0, 0)) == (255, 255, 255)


def test_16_bit_png_keeps_its_tones():
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    decoded = np.asarray(transforms.decode(_encode(Image.fromarray(ramp))))
    assert np.abs(decoded[..., 1] - ramp / 257.0).max() <= 0.51
    assert np.array_equal(decoded[..., 0], decoded[..., 2])


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_float_tiff(top):
    ramp = np.linspace(0, top, 64, dtype=np.float32).reshape(8, 8)
    decoded = np.asarray(transforms.decode(_encode(Image.fromarray(ramp), "TIFF")))
    assert np.abs(decoded[..., 0] - ramp / top * 255).max() <= 0.51


@pytest.mark.skipif(not features.check("webp"), reason="this Pillow was built without WebP")
def test_webp(pictures):
    _close(transforms.decode(_encode(pictures[0], "WEBP", lossless=True)), pictures[0], 1e-9)


def test_what_cannot_be_read(tmp_path, pictures):
    whole = _encode(pictures[0], "JPEG").getvalue()
    png = _encode(pictures[0], "PNG").getvalue()
    bad = {
        "truncated.jpg": whole[: len(whole) // 2],
        "truncated.png": png[: len(png) // 2],
        "text.jpg": b"not a picture at all",
        "empty.jpg": b"",
        "head.jpg": whole[:20],
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(transforms.UnreadableError) as caught:
            transforms.decode(tmp_path / name)
        assert caught.value.name == str(tmp_path / name)
        assert caught.value.reason and "\n" not in caught.value.reason
    with pytest.raises(transforms.UnreadableError, match=r"text\.jpg: it is not a picture"):
        transforms.decode(tmp_path / "text.jpg")
    with pytest.raises(transforms.UnreadableError, match=r"gone\.jpg: there is no such file"):
        transforms.decode(tmp_path / "gone.jpg")


def test_a_large_photograph_is_decoded_at_a_reduced_size(pictures):
    """24 megapixels for a crop of 256: a quarter of the CPU time, and the same picture."""
    large = ImageOps.fit(pictures[0], (6000, 4000))
    file = _encode(large, "JPEG", quality=90)
    preprocess = config.Preprocess()
    shorter = transforms.shorter_side(preprocess, 256)
    reduced = transforms.decode(file, shorter=shorter)
    file.seek(0)
    whole = transforms.decode(file)
    assert whole.size == (6000, 4000) and reduced.size == (1500, 1000)
    (one,), (other,) = (transforms.prepare([p], preprocess, 256) for p in (reduced, whole))
    assert one.shape == other.shape == (286, 429, 3)
    assert np.abs(one.astype(float) - other).mean() < 1.0


@pytest.mark.parametrize("size", [(100, 50), (50, 100), (33, 17)])
def test_a_small_jpeg_is_not_reduced(pictures, size):
    file = _encode(pictures[0].resize(size), "JPEG")
    assert transforms.decode(file, shorter=64).size == size


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
