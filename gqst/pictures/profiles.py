"""Colour profiles of pictures, and their conversion to sRGB."""

import dataclasses
import functools
import io

import numpy as np
from jaxtyping import UInt16
from PIL import Image, ImageCms

from gqst.pictures import deep

# Pillow's modes by the colour space of a profile, and what to call a picture of that kind.
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
_KINDS = {"RGB": "RGB", "L": "grey", "CMYK": "CMYK", "LAB": "Lab"}


@dataclasses.dataclass(frozen=True)
class Conversion:
    """Conversion of a picture's colours to sRGB.

    Attributes:
      mode: Pillow's mode that the picture must have, "L", "RGB", "CMYK" or "LAB".
      profile: ICC profile to convert from at 16 bits; None where there is nothing to convert.
      transform: The same at 8 bits, for any number of pictures and threads.
      note: What a user should be told about it.
    """

    mode: str
    profile: bytes | None = None
    transform: ImageCms.ImageCmsTransform | None = None
    note: str | None = None

    def __call__(self, image: Image.Image) -> Image.Image:
        """Returns a picture without transparency as 8-bit sRGB."""
        if self.transform is not None:
            return self.transform.apply(image if image.mode == self.mode else image.convert(self.mode))
        return image if image.mode == "RGB" else image.convert("RGB")

    def deep(self, values: UInt16[np.ndarray, "h w c"]) -> UInt16[np.ndarray, "h w 3"]:
        """Returns a picture in 16-bit sRGB; needs the extra `deep` for another colour space."""
        if self.mode == "RGB" and values.shape[2] == 1:
            values = np.repeat(values, 3, axis=2)
        if self.profile is not None:
            return deep.convert(values, self.mode, self.profile, srgb())
        if values.shape[2] == 4:
            # Pillow's formula for CMYK without a profile.
            ink, black = np.float32(65535) - values[..., :3], np.float32(65535) - values[..., 3:]
            return np.round(ink * (black / np.float32(65535))).astype(np.uint16)
        return np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values


@functools.lru_cache(maxsize=64)
def conversion(profile: bytes | None, mode: str) -> Conversion:
    """Returns the conversion from an embedded profile to sRGB, perceptual as ImageCms has it by default.

    Profiles of displays have no perceptual table, and LittleCMS converts them colorimetrically. A profile whose colours
    differ from sRGB by at most 1/255 counts as sRGB, and nothing is converted. A grey picture may carry an RGB profile.
    A profile of another colour space than the picture's and a damaged one are ignored, and the note says so.

    Args:
      profile: ICC profile of the picture's file; None without one.
      mode: Pillow's mode of its colours: "L", "RGB", "CMYK" or "LAB".
    """
    if mode == "LAB":
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        # Pillow has it at 8 bits alone, so there is nothing to convert at 16.
        return Conversion("LAB", None, _transform(lab, "LAB"), "converted from CIELAB to sRGB")
    if profile is None:
        note = "CMYK without a colour profile is converted by a simple formula" if mode == "CMYK" else None
        return Conversion(mode, note=note)
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = " ".join(ImageCms.getProfileDescription(opened).split()) or "an unnamed profile"
        space = opened.profile.xcolor_space.strip()
        of = _MODES.get(space, space)
        if of != mode and (of, mode) != ("RGB", "L"):
            taken = "converted by a simple formula" if mode == "CMYK" else "taken as sRGB"
            kinds = f"{_KINDS.get(of, of)} pictures, and this one is {_KINDS[mode]}"
            return Conversion(mode, note=f"its colour profile ({name}) is for {kinds}: {taken}")
        transform = _transform(opened, of)
    # PyCMSError, OSError, and what else a damaged profile brings about.
    except Exception:
        return Conversion(mode, note="its colour profile is damaged and ignored")
    if of in ("L", "RGB") and _is_srgb(transform, of):
        return Conversion(mode)
    return Conversion(of, profile, transform, f"converted from {name} to sRGB")


@functools.cache
def srgb() -> bytes:
    """Returns the ICC profile of sRGB that results carry, some 600 bytes."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Bytes 24 to 35 are the time at which it was made: the same picture is to give the same file.
    return profile[:24] + bytes.fromhex("07e8 0001 0001 0000 0000 0000") + profile[36:]


def _transform(profile: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.ImageCmsTransform(
        profile, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")), mode, "RGB", ImageCms.Intent.PERCEPTUAL
    )


def _is_srgb(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    if mode == "RGB":
        colours = Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(len(steps), -1, 3))
    else:
        colours = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    converted = np.asarray(transform.apply(colours), np.int16)
    return bool(np.abs(converted - np.asarray(colours.convert("RGB"), np.int16)).max() <= 1)
