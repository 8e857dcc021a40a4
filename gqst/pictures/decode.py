"""Picture files to RGB pictures as they are meant to be seen."""

import os
from typing import IO

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

# Large JPEGs are decoded at the smallest scale that leaves this many times the size asked for, so
# that the Lanczos filter and not the JPEG decoder decides what the result looks like.
_DRAFT_GAP = 2


class UnreadableError(Exception):
    """A picture that cannot be decoded: its name, and the decoder's reason."""

    def __init__(self, name: str, reason: str):
        """Keeps both; the message is "name: reason"."""
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def decode(
    file: str | os.PathLike[str] | IO[bytes], *, shorter: int | None = None, name: str | None = None
) -> Image.Image:
    """An RGB picture as it is meant to be seen: EXIF orientation applied, alpha laid over white.

    Args:
      file: a path or an open binary file of any format that Pillow reads.
      shorter: the caller will shrink the picture until its shorter side has this many pixels; a
        large JPEG is then decoded at a reduced size, never below twice that.
      name: what errors call the picture; the path by default.

    Raises:
      UnreadableError: no such file, not a picture, cut off, or damaged.
    """
    name = name or str(file)
    try:
        with Image.open(file) as image:
            if shorter is not None and image.format == "JPEG":
                image.draft(image.mode, (_DRAFT_GAP * shorter, _DRAFT_GAP * shorter))
            image.load()
            return to_rgb(_upright(image))
    # Decoders meet damaged data with nearly any: OSError, SyntaxError, struct.error, IndexError.
    except Exception as error:
        raise UnreadableError(name, _reason(error)) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in 8-bit RGB: alpha over white, 16 bits scaled, palette and CMYK converted."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def to_bytes(picture: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture in [0, 1] in 8 bit, rounded to the nearest."""
    return np.round(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    # Damaged EXIF data leaves the pixels readable; its parser fails in as many ways as decoders do.
    except Exception:
        return image


def _eight_bits(values: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """Wide grey values in 8 bits: integers go to 65535, floats to 1 if none is larger, else 255."""
    if np.issubdtype(values.dtype, np.integer):
        top = 65535.0
    else:
        top = 1.0 if np.nanmax(values, initial=0.0) <= 1.0 else 255.0
    unit = np.nan_to_num(np.clip(values.astype(np.float64) / top, 0.0, 1.0))
    return np.round(unit * 255.0).astype(np.uint8)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is not a picture"
    return (str(error) or type(error).__name__).splitlines()[0]
