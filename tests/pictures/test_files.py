"""Picture files read and written, and atomic writing."""

import io
import pathlib
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

from gqst import types
from gqst.pictures import decode, files


def test_pictures_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    first = Image.new("RGB", (4, 4))
    files.write_png(path, first)
    before = path.read_bytes()

    def fail(image, file, **options):
        pathlib.Path(file).write_bytes(b"half")
        raise OSError("no space")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="no space"):
        files.write_png(path, Image.new("RGB", (4, 4), "white"))
    assert path.read_bytes() == before


def test_texts_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    files.write_text(path, "één")
    assert path.read_text(encoding="utf-8") == "één" and list(tmp_path.iterdir()) == [path]

    def fail(*args, **options):
        raise OSError("no space")

    monkeypatch.setattr(pathlib.Path, "write_text", fail)
    with pytest.raises(OSError, match="no space"):
        files.write_text(path, "other")
    assert path.read_text(encoding="utf-8") == "één"


def test_a_failed_write_leaves_the_old_file(monkeypatch, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        files.write(path, files.Picture(np.zeros((8, 8, 3), np.uint8)))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def _saved(image: Image.Image, kind: str, **options) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    return buffer


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[274], exif[271], exif[270] = 6, "Maker", "A photograph"
    exif[ExifTags.IFD.Exif] = {0x9003: "2026:01:01 10:00:00", 0xA001: 65535, 0xA002: 96, 0xA003: 64}
    exif[ExifTags.IFD.Exif][0xA005] = {1: "R03"}  # Adobe RGB
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (52.0, 30.0, 0.0)}
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
def test_colours_and_transparency_are_upright(pictures, orientation, monkeypatch):
    upright = pictures[0].convert("RGBA")
    upright.putalpha(Image.linear_gradient("L").resize(upright.size))
    exif = Image.Exif()
    exif[274] = orientation
    # Turned the other way before, by Pillow.
    back = {6: 8, 8: 6}.get(orientation, orientation)
    turned = Image.Exif()
    turned[274] = back
    stored = ImageOps.exif_transpose(Image.open(_saved(upright, "PNG", exif=turned)))
    file = _saved(stored, "PNG", exif=exif)
    picture = files.read(file)
    np.testing.assert_array_equal(picture.alpha, upright.getchannel("A"))
    np.testing.assert_array_equal(picture.pixels, decode.decode(file))
    white = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
    np.testing.assert_allclose(picture.pixels.astype(int), np.asarray(white, int), atol=1)
    assert picture.exif is None
    # By parts of a few rows it is the same.
    monkeypatch.setattr(files, "_PART", 500)
    np.testing.assert_array_equal(files.read(file).pixels, picture.pixels)
    np.testing.assert_array_equal(files.read(file).alpha, picture.alpha)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_exif_is_kept_but_for_what_is_no_longer_so(pictures, kind, suffix):
    if suffix == "avif" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow was built without AVIF")
    picture = files.read(_saved(pictures[0], kind, exif=_exif().tobytes()))
    assert picture.pixels.shape == (96, 64, 3)
    with Image.open(io.BytesIO(files.encode(picture, suffix))) as image:
        exif = image.getexif()
        assert (exif[271], exif[270]) == ("Maker", "A photograph") and exif.get(274, 1) == 1
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        # sRGB, and the size of the result.
        assert inner == {0x9003: "2026:01:01 10:00:00", 0xA001: 1, 0xA002: 64, 0xA003: 96}
        assert exif.get_ifd(ExifTags.IFD.GPSInfo) == {1: "N", 2: (52.0, 30.0, 0.0)}
        assert image.size == (64, 96)


def test_the_thumbnail_is_left_out(pictures):
    head = b"Exif\0\0II*\0\x08\0\0\0"
    first = struct.pack("<HHHII", 1, 271, 2, 4, int.from_bytes(b"Mak\0", "little")) + struct.pack("<I", 26)
    second = struct.pack("<HHHIIHHIII", 2, 513, 4, 1, 56, 514, 4, 1, 9, 0) + b"thumbnail"
    picture = files.read(_saved(pictures[0], "JPEG", exif=head + first + second))
    assert b"Mak" in picture.exif and b"thumbnail" not in picture.exif


def test_the_layout_of_a_tiff_is_no_exif_data(pictures):
    picture = files.read(_saved(pictures[0], "TIFF", compression="tiff_lzw", software="Scanner", dpi=(300, 300)))
    exif = Image.Exif()
    exif.load(picture.exif)
    assert dict(exif) == {305: "Scanner", 282: 300.0, 283: 300.0, 296: 2}


_DAMAGED = {
    "none": b"Exif\0\0" + b"\x00\x08\x00\x02\x01\x12\x00\x03",
    "cut": b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01",
    "far": b"Exif\0\0II*\0\xff\xff\xff\x7f junk",
    "values": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 271, 2, 5000, 60000) + b"\0\0\0\0",
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("damage", _DAMAGED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_is_left_out_and_told(pictures, kind, damage):
    picture = pictures[0].copy()
    if kind != "JPEG":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    file = _saved(picture, kind, exif=_DAMAGED[damage])
    for depth in (8, 16):
        read = files.read(file, depth=depth)
        assert read.exif is None and read.notes == ("its EXIF data is damaged and left out",)
        assert read.pixels.shape == (64, 96, 3) and (read.alpha is None) == (kind == "JPEG")
    assert decode.decode(file).size == (96, 64)


@pytest.mark.filterwarnings("error")
def test_damaged_exif_within_a_tiff(pictures):
    grey = pictures[0].convert("L")
    tags = {256: 96, 257: 64, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 64, 279: 96 * 64, 34665: 10**6}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + 96 * 64) + grey.tobytes()
    picture = files.read(io.BytesIO(head + struct.pack("<H", len(tags)) + entries + bytes(4)))
    np.testing.assert_array_equal(picture.pixels[..., 0], grey)
    assert picture.notes == ("its EXIF data is damaged and left out",)


def test_of_an_animation_it_is_the_first_frame_and_told(pictures):
    first, second = pictures[0], pictures[1].resize(pictures[0].size)
    for kind, name in (("GIF", "frames"), ("PNG", "frames"), ("WEBP", "frames"), ("TIFF", "pages")):
        options = {"lossless": True} if kind == "WEBP" else {}
        file = _saved(first, kind, save_all=True, append_images=[second, first], **options)
        picture = files.read(file)
        assert picture.notes == (f"first of 3 {name}",)
        assert np.abs(picture.pixels.astype(int) - np.asarray(first, int)).mean() < (8 if kind == "GIF" else 1e-9)
    # The second picture in a phone's photograph is no frame.
    assert files.read(_saved(first, "MPO", save_all=True, append_images=[second])).notes == ()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_pictures_of_very_many_pixels(pictures, kind, monkeypatch):
    file = _saved(pictures[0], kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    monkeypatch.setattr(files, "_PART", 2000)  # a small part of the picture, as it is in use
    assert files.read(file).pixels.shape == (64, 96, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    with pytest.raises(decode.UnreadableError, match="big: it has 6,144 pixels, and more than 6,000 are not decoded"):
        files.read(file, name="big")


def test_a_stream_is_read_once(pictures):
    """Standard input cannot be read again."""

    class Pipe(io.RawIOBase):
        def __init__(self, content: bytes):
            self.content = io.BytesIO(content)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:
            return self.content.readinto(buffer)

    file = _saved(pictures[0].convert("RGBA"), "PNG")
    picture = files.read(io.BufferedReader(Pipe(file.getvalue())), name="standard input")
    np.testing.assert_array_equal(picture.pixels, pictures[0])
    with pytest.raises(decode.UnreadableError, match="standard input: it is not a picture"):
        files.read(io.BufferedReader(Pipe(b"text")), name="standard input")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1"])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_large_picture_is_scaled_down(pictures, mode, depth):
    picture = pictures[0].convert(mode)
    read = files.read(_saved(picture, "PNG"), max_size=48, depth=depth)
    assert read.pixels.shape == (32, 48, 3) and (read.alpha is None) == (mode not in ("RGBA", "LA"))
    expected = picture.convert("RGB").resize((48, 32), Image.Resampling.LANCZOS)
    difference = np.abs(read.pixels / (257 if depth == 16 else 1) - expected)
    # At 8 bits Pillow rounds and clips between its passes.
    assert difference.max() <= 1 if depth == 8 else difference.mean() < 1
    assert files.read(_saved(picture, "PNG"), max_size=96, depth=depth).pixels.shape == (64, 96, 3)
    thin = files.read(_saved(Image.new("RGB", (2000, 1), "red"), "PNG"), max_size=100, depth=depth)
    assert thin.pixels.shape == (1, 100, 3)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "tif", "tiff", "avif", ".PNG"])
def test_results_say_that_they_are_srgb(pictures, suffix):
    if suffix == "avif" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow was built without AVIF")
    pixels = np.asarray(pictures[0])
    with Image.open(io.BytesIO(files.encode(files.Picture(pixels), suffix))) as image:
        if image.format == "PNG":
            assert image.info["srgb"] == 0 and "icc_profile" not in image.info
        else:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            assert "sRGB" in ImageCms.getProfileDescription(profile)
        assert np.abs(np.asarray(image.convert("RGB"), float) - pixels).mean() < 3
        if image.format == "JPEG":
            assert {layer[1:3] for layer in image.layer} == {(1, 1)}  # full colour resolution


def test_quality_is_that_of_formats_with_loss(pictures):
    picture = files.Picture(np.asarray(pictures[0]))
    for suffix in ("jpg", "webp"):
        sizes = [len(files.encode(picture, suffix, quality=quality)) for quality in (30, 95, None)]
        assert sizes[0] < sizes[1] == sizes[2]
    assert files.encode(picture, "png", quality=30) == files.encode(picture, "png")


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_a_result_looks_over_white_as_it_should(pictures, suffix):
    """Colours under partly transparent pixels are composited once, not twice."""
    source = pictures[0].convert("RGBA")
    alpha = Image.linear_gradient("L").resize(source.size)
    source.putalpha(alpha)
    picture = files.read(_saved(source, "PNG"))
    again = files.read(io.BytesIO(files.encode(picture, suffix, quality=100)))
    np.testing.assert_array_equal(again.alpha, alpha)
    difference = np.abs(again.pixels.astype(int) - picture.pixels)
    assert difference.mean() < 2 if suffix == "webp" else difference.max() <= 1
    # Where it is opaque enough, the colours themselves come back.
    if suffix == "png":
        with Image.open(io.BytesIO(files.encode(picture, suffix))) as image:
            firm = np.asarray(alpha) > 200
            colours = np.asarray(image)[..., :3].astype(int) - np.asarray(source)[..., :3]
            assert np.abs(colours[firm]).max() <= 1


def test_jpeg_shows_transparent_parts_over_white():
    pixels, alpha = np.full((8, 8, 3), 255, np.uint8), np.zeros((8, 8), np.uint8)
    with Image.open(io.BytesIO(files.encode(files.Picture(pixels, alpha), "jpg"))) as image:
        assert image.mode == "RGB" and np.asarray(image).min() > 250


def test_what_a_format_cannot_hold_is_one_sentence(tmp_path):
    wide = files.Picture(np.zeros((2, 17000, 3), np.uint8))
    with pytest.raises(
        files.UnwritableError,
        match=r"scroll\.webp: WebP takes at most 16,383 pixels a side, this picture is 17000x2; choose --format png",
    ) as caught:
        files.write(tmp_path / "deep" / "scroll.webp", wide)
    assert caught.value.reason.startswith("WebP takes") and isinstance(caught.value, types.InputError)
    assert not list(tmp_path.iterdir())
    with pytest.raises(files.UnwritableError, match="JPEG takes at most 65,500 pixels a side, this picture is 1x65501"):
        files.encode(files.Picture(np.zeros((65501, 1, 3), np.uint8)), "jpg")
    files.encode(files.Picture(np.zeros((65500, 1, 3), np.uint8)), "jpg")
    with pytest.raises(types.InputError, match="bmp is no format that can be written: choose one of jpg, jpeg"):
        files.encode(wide, "bmp")


def test_exif_data_that_a_format_cannot_hold_is_left_out(pictures):
    exif = Image.Exif()
    exif[270] = "long " * 20000
    picture = files.Picture(np.asarray(pictures[0]), exif=exif.tobytes())
    with Image.open(io.BytesIO(files.encode(picture, "jpg"))) as image:
        assert 270 not in image.getexif()


def test_floats_are_written_in_every_format(tmp_path, pictures):
    picture = np.asarray(pictures[0], np.float32) / 255
    for suffix in (".png", ".tif"):
        files.write_picture(tmp_path / f"a{suffix}", picture)
        np.testing.assert_allclose(files.read_picture(tmp_path / f"a{suffix}"), picture, atol=1e-6)


def test_a_pillow_without_a_format_is_named(pictures, monkeypatch):
    files.encode(files.Picture(np.asarray(pictures[0])), "webp")
    monkeypatch.delitem(Image.SAVE, "WEBP")
    with pytest.raises(files.UnwritableError, match="this Pillow was built without WebP; choose --format png"):
        files.encode(files.Picture(np.asarray(pictures[0])), "webp")
