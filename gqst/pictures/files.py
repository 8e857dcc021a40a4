"""Picture files with transparency and colour profile, and atomic writing of any file."""

import contextlib
import dataclasses
import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from gqst import types
from gqst.pictures import decode

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
"""Pillow's names of the formats that can be written, by file suffix."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as networks take it, with the parts of its file that a result should keep.

    Attributes:
      rgb: Colours, f32[h w 3] in [0, 1], upright; transparent parts are composited over white.
      alpha: 8-bit transparency; None for an opaque picture.
      profile: ICC colour profile; None without one.
    """

    rgb: Float[np.ndarray, "h w 3"]
    alpha: Image.Image | None = None
    profile: bytes | None = None


def read(path: pathlib.Path, *, max_size: int | None = None) -> Picture:
    """Returns the picture in a file, scaled down if its longer side exceeds `max_size` pixels.

    Raises:
      UnreadableError: The file is missing, damaged or not a picture.
    """
    rgb = decode.decode(path)
    with Image.open(path) as image:
        profile = image.info.get("icc_profile")
        alpha = None
        if image.has_transparency_data:
            alpha = ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")
    if max_size is not None and max(rgb.size) > max_size:
        factor = max_size / max(rgb.size)
        size = (max(1, round(rgb.width * factor)), max(1, round(rgb.height * factor)))
        rgb = rgb.resize(size, Image.Resampling.LANCZOS)
        alpha = alpha and alpha.resize(size, Image.Resampling.LANCZOS)
    return Picture(rgb=np.asarray(rgb, np.float32) / 255.0, alpha=alpha, profile=profile)


def write(path: pathlib.Path, picture: Picture) -> None:
    """Writes a picture atomically in the format of the path's suffix, one of `FORMATS`; an existing file is replaced.

    JPEG has no transparency: transparent parts stay composited over white.
    """
    image = Image.fromarray(decode.to_bytes(picture.rgb))
    kind = FORMATS[path.suffix.lower()]
    if picture.alpha is not None and kind != "JPEG":
        image.putalpha(picture.alpha)
    buffer = io.BytesIO()
    options = {"quality": 95} if kind != "PNG" else {}
    image.save(buffer, format=kind, icc_profile=picture.profile, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as part:
        part.write_bytes(buffer.getvalue())


def read_picture(path: str | os.PathLike[str]) -> Float[np.ndarray, "h w 3"]:
    """Returns the picture in a file as float32 RGB in [0, 1], upright, with transparent parts over white.

    Raises:
      UnreadableError: The file is missing, damaged or not a picture.
    """
    return np.asarray(decode.decode(path), np.float32) / np.float32(255)


def write_picture(path: str | os.PathLike[str], picture: Float[Any, "h w 3"]) -> None:
    """Writes RGB in [0, 1] whole or not at all, in the format of the suffix: .jpg, .jpeg, .png or .webp.

    Raises:
      InputError: Another suffix.
    """
    file = pathlib.Path(path)
    if file.suffix.lower() not in FORMATS:
        raise types.InputError(f"{file} ends in no format that can be written: {', '.join(FORMATS)}")
    write(file, Picture(rgb=np.asarray(picture, np.float32)))


@contextlib.contextmanager
def atomic(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Context manager whose value is a temporary path to write to, in the folder of `path`.

    The temporary file replaces `path` on success and is deleted if an exception is raised.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_png(path: pathlib.Path, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    """Writes a PNG file atomically: whole or not at all."""
    with atomic(path) as part:
        Image.fromarray(picture).save(part, format="PNG")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a UTF-8 text file atomically: whole or not at all."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
