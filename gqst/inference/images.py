"""Pictures as files for people: read with transparency and colour profile, written whole or not at all."""

import dataclasses
import io
import os
import pathlib

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps

from gqst.data import transforms

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
    rgb = transforms.decode(path)
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
    image = Image.fromarray(transforms.to_bytes(picture.rgb))
    kind = FORMATS[path.suffix.lower()]
    if picture.alpha is not None and kind != "JPEG":
        image.putalpha(picture.alpha)
    buffer = io.BytesIO()
    options = {"quality": 95} if kind != "PNG" else {}
    image.save(buffer, format=kind, icc_profile=picture.profile, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(buffer.getvalue())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
