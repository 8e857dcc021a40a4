"""PNG and TIFF files with 16 bits or floats in each channel, against tifffile and by hand."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from gqst import types
from gqst.pictures import decode, deep, files, profiles
from tests.pictures import icc


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (9, 13, 4), dtype=np.uint16)


def _png(values: np.ndarray, colour: int, **chunks: bytes) -> io.BytesIO:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    more = b"".join(chunk(kind.encode(), data) for kind, data in chunks.items())
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + head + more + pixels + chunk(b"IEND", b""))


def _tiff(values: np.ndarray, **options) -> io.BytesIO:
    buffer = io.BytesIO()
    options.setdefault("photometric", "rgb" if values.shape[-1] == 3 else None)
    tifffile.imwrite(buffer, values, metadata=None, **options)
    buffer.seek(0)
    return buffer


def _over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    opacity = alpha[..., None] / 65535
    return colours * opacity + 65535 * (1 - opacity)


def test_png_keeps_all_bits(noise):
    np.testing.assert_array_equal(files.read(_png(noise[..., :3], 2), depth=16).pixels, noise[..., :3])
    rgba = files.read(_png(noise, 6), depth=16)
    np.testing.assert_allclose(rgba.pixels, _over_white(noise[..., :3], noise[..., 3]), atol=0.501)
    np.testing.assert_array_equal(rgba.alpha, noise[..., 3])
    grey = files.read(_png(noise[..., :1], 0), depth=16)
    np.testing.assert_array_equal(grey.pixels, np.repeat(noise[..., :1], 3, axis=2))
    both = files.read(_png(noise[..., :2], 4), depth=16)
    np.testing.assert_allclose(both.pixels, _over_white(noise[..., [0, 0, 0]], noise[..., 1]), atol=0.501)
    np.testing.assert_array_equal(both.alpha, noise[..., 1])


def test_a_transparent_colour_of_png(noise):
    noise[2, 3] = noise[5, 6]
    # Pillow compares 16-bit colours with 8 bits of them, and finds none.
    for channels, colour, depth in ((3, 2, 16), (1, 0, 16), (1, 0, 8)):
        values = noise[..., :channels]
        picture = files.read(_png(values, colour, tRNS=values[2, 3].astype(">u2").tobytes()), depth=depth)
        top = 2**depth - 1
        assert sorted(np.argwhere(picture.alpha == 0).tolist()) == [[2, 3], [5, 6]]
        assert (picture.pixels[5, 6] == top).all() and picture.alpha.max() == top


def test_tiff_keeps_all_bits(noise):
    rgb = noise[..., :3]
    for file in (
        _tiff(rgb),
        _tiff(rgb, compression="zlib", predictor=True),
        _tiff(np.ascontiguousarray(np.moveaxis(rgb, -1, 0)), planarconfig="separate", photometric="rgb"),
        _tiff(rgb, byteorder=">"),
        _tiff(noise, photometric="rgb", extrasamples=["unspecified"]),
    ):
        np.testing.assert_array_equal(files.read(file, depth=16).pixels, rgb)
    read = files.read(_tiff(noise, photometric="rgb", extrasamples=["unassalpha"]), depth=16)
    np.testing.assert_allclose(read.pixels, _over_white(rgb, noise[..., 3]), atol=0.501)
    np.testing.assert_array_equal(read.alpha, noise[..., 3])


def test_premultiplied_tiff(noise):
    alpha = np.maximum(noise[..., 3:], 2000)
    colours = noise[..., :3]
    multiplied = np.round(colours * (alpha / 65535)).astype(np.uint16)
    file = _tiff(np.concatenate([multiplied, alpha], axis=2), photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_allclose(files.read(file, depth=16).pixels, _over_white(colours, alpha[..., 0]), atol=2.0)
    np.testing.assert_allclose(files.read(file).pixels, _over_white(colours, alpha[..., 0]) / 257, atol=2.5)


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
def test_floats_in_three_channels_are_read_at_either_depth(noise, kind):
    values = (noise[..., :3] / 65535).astype(kind)
    exact = values.astype(float)
    np.testing.assert_allclose(files.read(_tiff(values)).pixels, exact * 255, atol=0.51)
    np.testing.assert_allclose(files.read(_tiff(values), depth=16).pixels, exact * 65535, atol=0.6)
    np.testing.assert_array_equal(np.asarray(decode.decode(_tiff(values))), files.read(_tiff(values)).pixels)


def test_12_bits_in_16_are_not_black(noise, monkeypatch):
    values = noise[..., :3] >> 4
    for file in (_tiff(values), _png(values, 2)):
        for depth, top in ((8, 255), (16, 65535)):
            picture = files.read(file, depth=depth)
            np.testing.assert_allclose(picture.pixels, values / 4095 * top, atol=0.501)
            assert any("taken as 12-bit data" in note for note in picture.notes)
        with monkeypatch.context() as patch:
            patch.setattr(deep, "available", lambda: False)
            assert any("nearly black; if it holds data of 12 bits" in note for note in files.read(file).notes)


def test_black_pictures_are_black():
    for values in (np.zeros((4, 4, 3), np.uint16), np.zeros((4, 4, 3), np.float32)):
        assert not files.read(_tiff(values)).pixels.any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_either_format(noise, orientation):
    rgb = noise[..., :3]
    exif = Image.Exif()
    exif[274] = orientation
    # Pillow turns each channel.
    expected = np.stack([_turned(rgb[..., i], orientation) for i in range(3)], axis=-1)
    png = _png(rgb, 2, eXIf=exif.tobytes().removeprefix(b"Exif\0\0"))
    tiff = _tiff(rgb, extratags=[(274, "H", 1, orientation, True)])
    for file in (png, tiff):
        np.testing.assert_array_equal(files.read(file, depth=16).pixels, expected)


def _turned(channel: np.ndarray, orientation: int) -> np.ndarray:
    if orientation == 1:
        return channel
    turn = Image.Transpose
    ways = [turn.FLIP_LEFT_RIGHT, turn.ROTATE_180, turn.FLIP_TOP_BOTTOM, turn.TRANSPOSE]
    ways += [turn.ROTATE_270, turn.TRANSVERSE, turn.ROTATE_90]
    return np.asarray(Image.fromarray(channel.astype(np.int32)).transpose(ways[orientation - 2])).astype(np.uint16)


def test_a_profile_is_converted_at_depth(noise):
    """Adobe RGB by hand: its gamma, the matrices of both spaces, sRGB's curve."""
    rgb = noise[..., :3] // 4 + 24000  # within sRGB
    to_xyz = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
    from_srgb = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]])
    linear = (rgb / 65535) ** 2.2 @ to_xyz.T @ np.linalg.inv(from_srgb).T
    expected = (1.055 * linear ** (1 / 2.4) - 0.055) * 65535
    assert linear.min() > 0.01 and linear.max() < 1
    pixels = files.read(_tiff(rgb, iccprofile=icc.ADOBE_RGB), depth=16).pixels
    np.testing.assert_allclose(pixels, expected, atol=65535 / 255 * 0.2)


def test_files_of_8_bits_at_16(pictures):
    for mode in ("RGB", "L", "LA", "RGBA", "P", "1"):
        buffer = io.BytesIO()
        pictures[0].convert(mode).save(buffer, "PNG")
        eight, sixteen = files.read(buffer), files.read(buffer, depth=16)
        np.testing.assert_array_equal(sixteen.pixels, eight.pixels.astype(np.uint16) * 257)
        assert (eight.alpha is None) == (sixteen.alpha is None)


def test_results_of_16_bits(noise, tmp_path):
    exif = Image.Exif()
    exif[271], exif[315], exif[270] = "Maker", "Someone", "A ramp"
    picture = files.Picture(noise[..., :3], exif=exif.tobytes())
    files.write(tmp_path / "a.tif", picture)
    files.write(tmp_path / "a.png", picture)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        tags = {tag.code: tag.value for tag in tiff.pages[0].tags}
        np.testing.assert_array_equal(tiff.pages[0].asarray(), noise[..., :3])
    assert tags[34675] == profiles.srgb()
    assert (tags[271], tags[315], tags[270]) == ("Maker", "Someone", "A ramp")
    with Image.open(tmp_path / "a.png") as image:
        # Of 16 bits, Pillow takes the upper ones.
        np.testing.assert_array_equal(np.asarray(image), noise[..., :3] >> 8)
        assert image.info["srgb"] == 0 and image.getexif()[271] == "Maker"
    for name in ("a.tif", "a.png"):
        np.testing.assert_array_equal(files.read(tmp_path / name, depth=16).pixels, noise[..., :3])


def test_results_of_16_bits_with_transparency(noise, tmp_path):
    alpha = noise[..., 3].copy()
    alpha[0], alpha[1] = 0, 65535
    pixels = np.round(_over_white(noise[..., :3], alpha)).astype(np.uint16)
    for name in ("a.png", "a.tif"):
        files.write(tmp_path / name, files.Picture(pixels, alpha))
        read = files.read(tmp_path / name, depth=16)
        np.testing.assert_array_equal(read.alpha, alpha)
        np.testing.assert_allclose(read.pixels, pixels, atol=1.0)


def test_other_formats_hold_8_bits(noise):
    with pytest.raises(files.UnwritableError, match="JPEG takes 8 bits a channel, this picture has 16"):
        files.encode(files.Picture(noise[..., :3]), "jpg")


def test_a_missing_extra_is_named(noise, monkeypatch):
    monkeypatch.setattr(deep, "available", lambda: False)
    files.read(_png(noise[..., :3], 2))
    for fail in (
        lambda: files.read(_png(noise[..., :3], 2), depth=16),
        lambda: files.encode(files.Picture(noise[..., :3]), "png"),
    ):
        with pytest.raises(types.InputError, match=r'pip install "gqst\[deep\]"'):
            fail()
    with pytest.raises(decode.UnreadableError, match=r'pip install "gqst\[deep\]"'):
        files.read(_tiff(noise[..., :3].astype(np.float32)))


def test_a_tiff_with_too_many_pixels(noise, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(decode.UnreadableError, match="it has 117 pixels, and more than 100 are not decoded"):
        files.read(_tiff(noise[..., :3].astype(np.float32)))


def test_a_damaged_tiff_that_pillow_does_not_know():
    with pytest.raises(decode.UnreadableError):
        files.read(io.BytesIO(b"II*\0" + bytes(range(200))))
