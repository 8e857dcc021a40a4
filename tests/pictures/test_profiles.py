"""Colour profiles, against LittleCMS as Pillow calls it."""

import io
import pathlib
import re

import numpy as np
import pytest
from PIL import Image, ImageCms

from gqst.pictures import decode, files, profiles
from tests.pictures import icc

_PROFILES = {
    "Display P3": ("RGB", icc.DISPLAY_P3),
    "Adobe RGB": ("RGB", icc.ADOBE_RGB),
    "ProPhoto": ("RGB", icc.PROPHOTO),
    "grey": ("L", icc.grey(1.8)),
    "grey picture, RGB profile": ("L", icc.PROPHOTO),
    "CMYK": ("CMYK", icc.cmyk()),
}
_SYSTEM = pathlib.Path("/usr/share/color/icc/ghostscript")


def _file(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF", **options)
    buffer.seek(0)
    return buffer


def _by_littlecms(picture, profile):
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if picture.mode == "L" and opened.profile.xcolor_space == "RGB ":
        picture = picture.convert("RGB")
    converted = ImageCms.profileToProfile(picture, opened, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.asarray(converted, float)


@pytest.mark.parametrize("name", _PROFILES)
def test_colours_are_those_of_littlecms(pictures, name):
    mode, profile = _PROFILES[name]
    picture = pictures[1].convert(mode)
    expected = _by_littlecms(picture, profile)
    file = _file(picture, icc_profile=profile)
    eight = files.read(file)
    np.testing.assert_array_equal(eight.pixels, expected)
    np.testing.assert_array_equal(decode.decode(file), expected)
    assert any("to sRGB" in note for note in eight.notes)
    sixteen = files.read(file, depth=16)
    assert sixteen.pixels.dtype == np.uint16
    # imagecodecs brings a LittleCMS of its own, and versions interpolate in tables in their own ways.
    np.testing.assert_allclose(sixteen.pixels / 257, expected, atol=3.0 if mode == "CMYK" else 2.0)
    # Unconverted, they would be far off.
    assert np.abs(np.asarray(picture.convert("RGB")) - expected).max() > 10


def test_paper_without_ink_is_white():
    file = _file(Image.new("CMYK", (4, 4)), icc_profile=icc.cmyk())
    for depth in (8, 16):
        assert files.read(file, depth=depth).pixels.min() >= 0.99 * (2**depth - 1)


def test_saturated_colours_do_not_depend_on_the_depth():
    """Colours outside sRGB are clipped; interpolating between them in a table would be 20/255 off."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = _file(Image.fromarray(noise), icc_profile=icc.ADOBE_RGB)
    np.testing.assert_allclose(files.read(file, depth=16).pixels / 257, files.read(file).pixels, atol=1.0)


@pytest.mark.skipif(not _SYSTEM.is_dir(), reason="needs Debian's libgs-common")
@pytest.mark.parametrize("mode, name", [("CMYK", "default_cmyk"), ("RGB", "a98"), ("RGB", "rommrgb"), ("L", "ps_gray")])
def test_profiles_of_ghostscript(pictures, mode, name):
    profile = (_SYSTEM / f"{name}.icc").read_bytes()
    picture = pictures[1].convert(mode)
    pixels = files.read(_file(picture, icc_profile=profile)).pixels
    np.testing.assert_allclose(pixels, _by_littlecms(picture, profile), atol=1.0)


def test_srgb_in_any_form_is_not_converted(pictures):
    srgb = icc.rgb(
        "sRGB by gamma", 2.2, (0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141)
    )
    assert profiles.conversion(srgb, "RGB").transform is not None  # a gamma is not sRGB's curve
    for profile in (profiles.srgb(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()):
        conversion = profiles.conversion(profile, "RGB")
        assert conversion.transform is None and conversion.note is None
        picture = files.read(_file(pictures[0], icc_profile=profile))
        np.testing.assert_array_equal(picture.pixels, pictures[0])
        assert picture.notes == ()


def test_a_transform_is_made_once_for_each_profile():
    assert profiles.conversion(icc.PROPHOTO, "RGB") is profiles.conversion(bytes(bytearray(icc.PROPHOTO)), "RGB")


@pytest.mark.parametrize(
    "profile, note",
    [
        (icc.cmyk(), r"\(Test inks\) is for CMYK pictures, and this one is RGB: taken as sRGB"),
        (icc.grey(1.8), r"\(Test grey\) is for grey pictures, and this one is RGB: taken as sRGB"),
        (icc.ADOBE_RGB[:200], "its colour profile is damaged and ignored"),
        (b"no profile at all", "its colour profile is damaged and ignored"),
    ],
)
@pytest.mark.parametrize("depth", [8, 16])
def test_a_profile_that_cannot_be_the_pictures_is_ignored_and_told(pictures, profile, note, depth):
    picture = files.read(_file(pictures[0], icc_profile=profile), depth=depth)
    np.testing.assert_array_equal(picture.pixels // (257 if depth == 16 else 1), pictures[0])
    assert len(picture.notes) == 1
    assert re.search(note, picture.notes[0]), picture.notes


def test_cmyk_without_a_profile_is_told():
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 4), dtype=np.uint8)
    inks = Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(noise[..., i])) for i in range(4)])
    expected = np.asarray(inks.convert("RGB"))
    for depth, top in ((8, 1), (16, 257)):
        picture = files.read(_file(inks), depth=depth)
        np.testing.assert_allclose(picture.pixels / top, expected, atol=1.0)
        assert picture.notes == ("CMYK without a colour profile is converted by a simple formula",)


def test_lab(pictures):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    picture = ImageCms.applyTransform(pictures[0], ImageCms.buildTransform(srgb, lab, "RGB", "LAB"))
    expected = ImageCms.applyTransform(picture, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
    for depth, top in ((8, 1), (16, 257)):
        np.testing.assert_allclose(files.read(_file(picture), depth=depth).pixels / top, expected, atol=1.0)


def test_transparency_survives_a_conversion(pictures):
    picture = pictures[0].convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    read = files.read(_file(picture, icc_profile=icc.ADOBE_RGB))
    np.testing.assert_array_equal(read.alpha, picture.getchannel("A"))
    colours = _by_littlecms(pictures[0], icc.ADOBE_RGB)
    opacity = np.asarray(picture.getchannel("A"), float)[..., None] / 255
    np.testing.assert_allclose(read.pixels, 255 * (1 - opacity) + colours * opacity, atol=0.51)
    deep = files.read(_file(picture, icc_profile=icc.ADOBE_RGB), depth=16)
    np.testing.assert_allclose(deep.pixels / 257, read.pixels, atol=1.1)


def test_the_profile_of_results_is_srgb_and_always_the_same():
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profiles.srgb()))
    assert "sRGB" in ImageCms.getProfileDescription(opened)
    profiles.srgb.cache_clear()
    assert profiles.srgb() == opened.tobytes()
