"""Picture files decoded to RGB, as they are meant to be seen."""

import os
from typing import IO

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

# A large JPEG is decoded at the smallest scale that still has this many times the requested size, so that the Lanczos
# filter, not the JPEG decoder, decides how the result looks.
_DRAFT_GAP = 2


class UnreadableError(Exception):
    """Raised for a picture that cannot be decoded.

    Attributes:
      name: Name of the picture, usually its path.
      reason: The decoder's reason, on one line.
    """

    def __init__(self, name: str, reason: str):
        """Makes an error with the message "name: reason"."""
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def decode(
    file: str | os.PathLike[str] | IO[bytes], *, shorter: int | None = None, name: str | None = None
) -> Image.Image:
    """Returns the 8-bit RGB picture in a file, with its EXIF orientation applied and alpha composited over white.

    Args:
      file: Path or open binary file, in any format that Pillow reads.
      shorter: Shorter side in pixels to which the caller will shrink the picture. A large JPEG is then decoded at a
        reduced size, never below twice this; None decodes at full size.
      name: Name of the picture in error messages; the path by default.

    Raises:
      UnreadableError: The file does not exist, is not a picture, is truncated or is damaged.
    """
    name = name or str(file)
    try:
        with Image.open(file) as image:
            if shorter is not None and image.format == "JPEG":
                image.draft(image.mode, (_DRAFT_GAP * shorter, _DRAFT_GAP * shorter))
            image.load()
            return to_rgb(_upright(image))
    # On damaged data decoders raise almost anything: OSError, SyntaxError, struct.error, IndexError.
    except Exception as error:
        raise UnreadableError(name, _reason(error)) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns the picture in 8-bit RGB: alpha composited over white, 16 bits scaled, palette and CMYK converted."""
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
    """Returns a picture in [0, 1] with 8 bits per channel, clipped and rounded to the nearest value."""
    return np.round(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    # Pixels remain readable when EXIF data is damaged, and its parser fails in as many ways as decoders do.
    except Exception:
        return image


def _eight_bits(values: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """Returns grey values of a wider type in 8 bits.

    White is 65535 in integers, and in floats 1 unless a value is larger, else 255.
    """
    if np.issubdtype(values.dtype, np.integer):
        white = 65535.0
    else:
        white = 1.0 if np.nanmax(values, initial=0.0) <= 1.0 else 255.0
    unit = np.nan_to_num(np.clip(values.astype(np.float64) / white, 0.0, 1.0))
    return np.round(unit * 255.0).astype(np.uint8)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is not a picture"
    return (str(error) or type(error).__name__).splitlines()[0]
