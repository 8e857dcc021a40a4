"""White of data of more than 8 bits."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from gqst.pictures import decode, files, levels

_RAMP = np.linspace(0.0, 1.0, 64).reshape(8, 8)


def _scaled(values, depth=8, **declared):
    pixels, notes = levels.scale(levels.Samples(values.reshape(*values.shape[:2], -1), "L", **declared), depth)
    return pixels[..., 0], notes


def _tiff(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, **options)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize(
    "kind, white, note",
    [
        (np.uint16, 65535, None),
        (np.uint16, 4095, "no value is above 4095: its 16 bits are taken as 12-bit data"),
        (np.uint16, 255, "no value is above 255: its 16 bits are taken as 8-bit data"),
        (np.int16, 32767, None),
        (np.int16, 4095, "no value is above 4095: its 16 bits are taken as 12-bit data"),
        (np.int32, 255, "no value is above 255: its 32 bits are taken as 8-bit data"),
        (np.int32, 65535, None),
        (np.uint32, 2**20 - 1, "no value is above 1048575: its 32 bits are taken as 20-bit data"),
        (np.uint32, 2**32 - 1, None),
        (np.float32, 1.0, None),
        (np.float64, 255.0, "floats are scaled by 255, since most are above 1"),
        (np.float32, 65535.0, "floats are scaled by 65535, since most are above 1"),
        (np.float32, 1e6, "floats are scaled by 1e+06, since most are above 1"),
    ],
)
def test_white_by_type_and_values(kind, white, note):
    values = (_RAMP * white).astype(kind)
    for depth, top in ((8, 255), (16, 65535)):
        pixels, notes = _scaled(values, depth)
        np.testing.assert_allclose(pixels, values.astype(float) / white * top, atol=0.501)
        assert notes == ([note] if note else [])


def test_a_dark_picture_stays_dark():
    values = (_RAMP * 8000).astype(np.uint16)
    pixels, notes = _scaled(values)
    np.testing.assert_allclose(pixels, values / 257, atol=0.501)
    assert notes == []


def test_floats_slightly_above_white_are_clipped_and_told():
    values = _RAMP.astype(np.float32)
    values[0, 0] = 1.02
    pixels, notes = _scaled(values)
    np.testing.assert_allclose(pixels, np.minimum(values, 1.0) * 255, atol=0.501)
    assert notes == ["1.6 % of the values are above 1 and clipped to it"]
    # Values of a resampled picture, some beyond 255, are none of 65535.
    values = (_RAMP * 256).astype(np.float32)
    pixels, notes = _scaled(values)
    np.testing.assert_allclose(pixels, np.minimum(values, 255.0), atol=0.501)
    assert any("above 255 and clipped" in note for note in notes)


def test_negative_values_and_those_that_are_none():
    values = _RAMP.astype(np.float32)
    values[0, :4] = [np.nan, -1.0, -np.inf, np.inf]
    pixels, notes = _scaled(values)
    assert list(pixels[0, :4]) == [0, 0, 0, 255]
    assert any("4.7 % of the values are below 0 or no numbers, and become black" in note for note in notes)
    assert list(_scaled(np.array([[-5, 300]], np.int16))[0][0]) == [0, round(300 / 4095 * 255)]
    assert np.array_equal(_scaled(np.full((2, 2), np.nan, np.float32))[0], np.zeros((2, 2)))
    assert np.array_equal(_scaled(np.zeros((2, 2), np.uint16))[0], np.zeros((2, 2)))


@pytest.mark.parametrize(
    "kind, top, tags, white",
    [
        (np.uint16, 900, [(281, "H", 1, 1023, True)], 1023),
        (np.uint16, 16383, [(341, "H", 1, 16383, True)], 16383),
        (np.uint16, 200, [(281, "H", 1, 4095, True)], 4095),
        (np.uint16, 60000, [(281, "H", 1, 4095, True)], 65535),  # a value is above it
        (np.uint16, 30000, [(281, "H", 1, 30000, True)], 65535),  # a statistic
        (np.float32, 80.0, [(340, "f", 1, 0.0, True), (341, "f", 1, 100.0, True)], 100),
        (np.float32, 0.8, [(340, "f", 1, 0.1, True), (341, "f", 1, 0.8, True)], 1),  # statistics
    ],
)
def test_white_by_tags(kind, top, tags, white):
    values = (_RAMP * top).astype(kind)
    pixels = files.read(_tiff(values, extratags=tags)).pixels
    np.testing.assert_allclose(pixels[..., 0], values.astype(float) / white * 255, atol=0.501)
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_alpha_has_its_own_white():
    for opaque in (1023, 65535):
        values = np.full((4, 4, 4), [1023, 512, 0, opaque], np.uint16)
        values[0, 0, 3] = 0
        for depth, top in ((8, 255), (16, 65535)):
            samples = levels.Samples(values, "RGB", has_alpha=True, bits=10)
            np.testing.assert_allclose(
                levels.scale(samples, depth)[0][1, 1], np.array([1, 512 / 1023, 0, 1]) * top, atol=0.501
            )
    floats = np.full((4, 4, 2), [50.0, 1.0], np.float32)
    samples = levels.Samples(floats, "L", has_alpha=True, limits=(0.0, 100.0))
    np.testing.assert_array_equal(levels.scale(samples, 8)[0][2, 2], [128, 255])


def test_black_by_tags():
    values = (_RAMP * 2 - 1).astype(np.float32)
    picture = files.read(_tiff(values, extratags=[(340, "f", 1, -1.0, True), (341, "f", 1, 1.0, True)]))
    np.testing.assert_allclose(picture.pixels[..., 0], _RAMP * 255, atol=0.501)
    assert picture.notes == ("floats are scaled between -1 and 1, as the file says",)
    unit = files.read(_tiff(_RAMP.astype(np.float32), extratags=[(340, "f", 1, 0.0, True), (341, "f", 1, 1.0, True)]))
    assert unit.notes == ()


def test_12_bit_tiff():
    """Packed by hand, two values in three bytes."""
    values = np.round(_RAMP * 3000).astype(int)
    first, second = values.ravel()[::2], values.ravel()[1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1).astype(np.uint8).tobytes()
    tags = [(256, 8), (257, 8), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 8), (279, len(packed))]
    head = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed
    head += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    picture = files.read(io.BytesIO(head + bytes(4)))
    np.testing.assert_allclose(picture.pixels[..., 1], values / 4095 * 255, atol=0.501)
    assert picture.notes == ()


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_white_is_zero(kind):
    values = _RAMP * (65535 if kind is np.uint16 else 1)
    file = _tiff(values.astype(kind), photometric="miniswhite")
    for depth, top in ((8, 255), (16, 65535)):
        np.testing.assert_allclose(files.read(file, depth=depth).pixels[..., 0], (1 - _RAMP) * top, atol=1.0)


def test_unsigned_integers_of_32_bits():
    file = _tiff((_RAMP * (2**32 - 1)).astype(np.uint32))
    np.testing.assert_allclose(np.asarray(decode.decode(file))[..., 0], _RAMP * 255, atol=0.501)


def test_large_pictures_are_scaled_by_parts_alike():
    values = np.random.default_rng(0).integers(0, 65536, (3000, 800), dtype=np.uint16)
    np.testing.assert_array_equal(_scaled(values)[0], np.round(values / 257))


def test_a_png_whose_sbit_is_right():
    """The format wants samples scaled to 16 bits; where a writer did not, sBIT says how many there are."""
    for white, told in ((1023, 10), (65535, 10)):
        values = (_RAMP * white).astype(np.uint16)
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "PNG")
        file = buffer.getvalue()
        chunk = b"sBIT" + bytes([told])
        file = file[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + file[33:]
        for depth, top in ((8, 255), (16, 65535)):
            pixels = files.read(io.BytesIO(file), depth=depth).pixels
            np.testing.assert_allclose(pixels[..., 0], values / white * top, atol=0.501)
