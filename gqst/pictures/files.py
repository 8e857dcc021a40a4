"""Files for people: pictures with transparency and colour profile, and any file written whole or not at all."""

import contextlib
import dataclasses
import io
import os
import pathlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from gqst.pictures import decode

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
"""Pillow's name of the format by the suffix of a file that can be written."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as a network takes it, and what has to be kept of its file.

    Attributes:
      rgb: f32[h w 3] in [0, 1], upright; transparent parts lie over white.
      alpha: the transparency in 8 bit, if there is any.
      profile: the ICC colour profile, if there is one.
    """

    rgb: Float[np.ndarray, "h w 3"]
    alpha: Image.Image | None = None
    profile: bytes | None = None


def read(path: pathlib.Path, *, max_size: int | None = None) -> Picture:
    """The picture in a file, with its longer side scaled down to `max_size` px if it is longer.

    Raises:
      UnreadableError: the file is no picture or damaged.
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
    """Writes a picture in the format of the path's suffix (one of `FORMATS`), replacing a file there.

    JPEG has no transparency: the picture then stays over white.
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


@contextlib.contextmanager
def atomic(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path to write to in place of `path`, which it becomes if nothing is raised, and is deleted otherwise."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_png(path: pathlib.Path, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    """Writes a picture whole or not at all."""
    with atomic(path) as part:
        Image.fromarray(picture).save(part, format="PNG")


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
