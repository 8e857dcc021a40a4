"""Decoding of picture files."""

import io
import sys
import warnings
from concurrent import futures

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from gqst import config
from gqst.data import transforms
from gqst.pictures import decode

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


def _close(decoded, reference, tolerance):
    assert decoded.mode == "RGB" and decoded.size == reference.size
    difference = np.abs(np.asarray(decoded, np.float64) - np.asarray(reference, np.float64))
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
        decoded = decode.decode(file, shorter=shorter)
        _close(decoded, upright.resize(decoded.size), 6.0)
        assert (decoded.width > decoded.height) == (upright.width > upright.height)


@pytest.mark.filterwarnings("error")
def test_damaged_exif_does_not_make_a_picture_unreadable(pictures):
    file = _encode(pictures[0], "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f junk")
    _close(decode.decode(file), pictures[0], 4.0)


def test_cmyk(pictures):
    _close(decode.decode(_encode(pictures[0].convert("CMYK"), "JPEG", quality=95)), pictures[0], 4.0)


def test_palette(pictures):
    _close(decode.decode(_encode(pictures[0].quantize(256))), pictures[0], 6.0)


def test_palette_with_a_transparent_entry_becomes_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((0, 0), 1)
    decoded = decode.decode(_encode(image, transparency=1))
    assert decoded.getpixel((0, 0)) == (255, 255, 255)
    assert decoded.getpixel((1, 1)) == (10, 20, 30)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
def test_every_8_bit_mode_becomes_rgb(pictures, mode):
    decoded = decode.decode(_encode(pictures[0].convert(mode)))
    _close(decoded, pictures[0].convert(mode).convert("RGB"), 1.0)


def test_alpha_is_composited_over_white():
    file = _encode(Image.new("RGBA", (2, 2), (200, 0, 100, 51)))
    assert decode.decode(file).getpixel((0, 0)) == (244, 204, 224)
    clear = _encode(Image.new("LA", (2, 2), (0, 0)))
    assert decode.decode(clear).getpixel((0, 0)) == (255, 255, 255)


def test_16_bit_png_keeps_its_tones():
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    decoded = np.asarray(decode.decode(_encode(Image.fromarray(ramp))))
    assert np.abs(decoded[..., 1] - ramp / 257.0).max() <= 0.51
    assert np.array_equal(decoded[..., 0], decoded[..., 2])


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_float_tiff(top):
    ramp = np.linspace(0, top, 64, dtype=np.float32).reshape(8, 8)
    decoded = np.asarray(decode.decode(_encode(Image.fromarray(ramp), "TIFF")))
    assert np.abs(decoded[..., 0] - ramp / top * 255).max() <= 0.51


@pytest.mark.skipif(not features.check("webp"), reason="this Pillow was built without WebP")
def test_webp(pictures):
    _close(decode.decode(_encode(pictures[0], "WEBP", lossless=True)), pictures[0], 1e-9)


def test_unreadable_files_are_named_with_a_reason(tmp_path, pictures):
    whole = _encode(pictures[0], "JPEG").getvalue()
    png = _encode(pictures[0], "PNG").getvalue()
    damaged = {
        "truncated.jpg": whole[: len(whole) // 2],
        "truncated.png": png[: len(png) // 2],
        "text.jpg": b"not a picture at all",
        "empty.jpg": b"",
        "head.jpg": whole[:20],
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(decode.UnreadableError) as caught:
            decode.decode(tmp_path / name)
        assert caught.value.name == str(tmp_path / name)
        assert caught.value.reason and "\n" not in caught.value.reason
    with pytest.raises(decode.UnreadableError, match=r"text\.jpg: it is not a picture"):
        decode.decode(tmp_path / "text.jpg")
    with pytest.raises(decode.UnreadableError, match=r"gone\.jpg: there is no such file"):
        decode.decode(tmp_path / "gone.jpg")


def test_a_large_photograph_is_decoded_at_a_reduced_size(pictures):
    """24 megapixels for a crop of 256 px: the same picture in a quarter of the CPU time."""
    large = ImageOps.fit(pictures[0], (6000, 4000))
    file = _encode(large, "JPEG", quality=90)
    preprocess = config.Preprocess()
    shorter = transforms.shorter_side(preprocess, 256)
    reduced = decode.decode(file, shorter=shorter)
    file.seek(0)
    whole = decode.decode(file)
    assert whole.size == (6000, 4000) and reduced.size == (1500, 1000)
    (prepared,), (reference,) = (transforms.prepare([p], preprocess, 256) for p in (reduced, whole))
    assert prepared.shape == reference.shape == (286, 429, 3)
    assert np.abs(prepared.astype(float) - reference).mean() < 1.0


@pytest.mark.parametrize("size", [(100, 50), (50, 100), (33, 17)])
def test_a_small_jpeg_is_not_reduced(pictures, size):
    file = _encode(pictures[0].resize(size), "JPEG")
    assert decode.decode(file, shorter=64).size == size


def test_bytes_are_rounded_and_clipped():
    values = np.array([-0.5, 0.0, 0.49 / 255, 0.51 / 255, 254.6 / 255, 1.0, 7.0]).reshape(1, 7, 1)
    np.testing.assert_array_equal(decode.to_bytes(values).ravel(), [0, 0, 0, 1, 255, 255, 255])


# The head of a HEIC file: a box of 24 bytes with its brand.
_HEIC = b"\0\0\0\x18ftypheic" + bytes(200)


def test_heic_without_its_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(decode.UnreadableError, match=r'a\.heic: HEIC .*pip install "gqst\[heic\]"'):
        decode.decode(io.BytesIO(_HEIC), name="a.heic")


def test_heic(pictures):
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(pictures[0]).save(buffer, quality=95)
    _close(decode.decode(buffer), pictures[0], 4.0)
    with pytest.raises(decode.UnreadableError, match=r"a\.heic: it is not a picture"):
        decode.decode(io.BytesIO(_HEIC), name="a.heic")


def test_what_a_file_says_of_itself_is_not_handed_on(pictures):
    decoded = decode.decode(_encode(pictures[0], "JPEG", icc_profile=b"of another space", comment=b"text"))
    assert decoded.info == {}


@pytest.mark.filterwarnings("error")
def test_threads_decode_without_warnings(pictures, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    before = list(warnings.filters)
    content = _encode(pictures[0], "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f junk").getvalue()
    with futures.ThreadPoolExecutor(4) as pool:
        sizes = set(pool.map(lambda _: decode.decode(io.BytesIO(content)).size, range(40)))
    assert sizes == {pictures[0].size} and warnings.filters == before
