"""Pictures to arrays: decode, resize, crop, mirror. Pure functions, random only through a `Draw`.

A picture becomes a crop in two stages. `prepare` resizes it once to the largest size that any crop
is taken from, which the pipeline may keep in memory; `crop` then cuts one window out of that.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import IO

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from gqst import config, types

_PUBLISHED_RATIO = 286 / 256
# Large JPEGs are decoded at the smallest scale that leaves this many times the size asked for, so
# that the Lanczos filter and not the JPEG decoder decides what the result looks like.
_DRAFT_GAP = 2
_REDUCING_GAP = 3.0


class UnreadableError(Exception):
    """A picture that cannot be decoded: its name, and the decoder's reason."""

    def __init__(self, name: str, reason: str):
        """Keeps both; the message is "name: reason"."""
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Draw:
    """One random draw, applied alike to both pictures of a pair.

    Attributes:
      scale: factor on the size before the crop.
      x, y: where the crop lies, from 0 (left, top) to 1 (right, bottom).
      flip: whether the crop is mirrored left to right.
    """

    scale: float = 1.0
    x: float = 0.5
    y: float = 0.5
    flip: bool = False


CENTRE = Draw()
"""The deterministic centre crop of evaluation."""


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


def load_size(preprocess: config.Preprocess, image_size: int) -> int:
    """The size in pixels that `preprocess.resize` brings a picture to before the crop."""
    return preprocess.load_size or round(image_size * _PUBLISHED_RATIO)


def shorter_side(preprocess: config.Preprocess, image_size: int, *, scale: float = 1.0) -> int | None:
    """The shorter side that `prepare` needs of a picture at most; None where it takes all of it."""
    if preprocess.resize == "none":
        return None
    return max(image_size, _times(load_size(preprocess, image_size), scale))


def base_size(
    size: tuple[int, int], preprocess: config.Preprocess, image_size: int, *, scale: float = 1.0
) -> tuple[int, int]:
    """Width and height that a picture of `size` has before the crop; never smaller than the crop.

    Args:
      size: width and height of the picture.
      preprocess: the resize mode and load size.
      image_size: side of the crop.
      scale: factor on the load size (on the picture's own size with resize mode `none`).
    """
    width, height = size
    load = load_size(preprocess, image_size) * scale
    if preprocess.resize == "stretch_and_crop":
        side = max(image_size, round(load))
        return side, side
    factor = {
        "resize_and_crop": load / min(size),
        "scale_width": load / width,
        "none": scale,
    }[preprocess.resize]
    # What is smaller than the crop is scaled up to fit it.
    factor = max(factor, image_size / min(size))
    return max(image_size, _times(width, factor)), max(image_size, _times(height, factor))


def prepare(
    pictures: Sequence[Image.Image],
    preprocess: config.Preprocess,
    image_size: int,
    *,
    scale: float = 1.0,
) -> tuple[UInt8[np.ndarray, "h w 3"], ...]:
    """The pictures at the size that crops are cut from: the first one's, so that pairs are aligned.

    Args:
      pictures: one RGB picture, or the two of a pair.
      preprocess: the resize mode and load size.
      image_size: side of the crops that will be cut.
      scale: the largest `Draw.scale` that will be drawn.
    """
    size = base_size(pictures[0].size, preprocess, image_size, scale=scale)
    return tuple(np.asarray(_resize(picture, size)) for picture in pictures)


def draw(rng: np.random.Generator, preprocess: config.Preprocess) -> Draw:
    """A random scale, place and mirroring; always takes the same number of values from `rng`."""
    low, high = preprocess.random_scale
    scale, x, y, flip = rng.random(4)
    return Draw(
        scale=float(low + (high - low) * scale),
        x=float(x),
        y=float(y),
        flip=bool(preprocess.flip and flip < 0.5),
    )


def crop(
    base: UInt8[np.ndarray, "h w 3"], image_size: int, drawn: Draw = CENTRE, *, scale: float = 1.0
) -> Float[np.ndarray, "image_size image_size 3"]:
    """A square crop as float32 in [0, 1].

    Args:
      base: a picture from `prepare`.
      image_size: side of the crop in pixels.
      drawn: scale, place and mirroring.
      scale: the scale that `base` was prepared at, not below `drawn.scale`.
    """
    height, width = base.shape[:2]
    # At a smaller scale than the base's, a larger window fills the crop, up to the whole base.
    side = min(round(image_size * scale / drawn.scale), width, height)
    left, top = (min(int(u * (n - side + 1)), n - side) for u, n in ((drawn.x, width), (drawn.y, height)))
    window = base[top : top + side, left : left + side]
    if side != image_size:
        window = np.asarray(_resize(Image.fromarray(window), (image_size, image_size)))
    if drawn.flip:
        window = window[:, ::-1]
    return window.astype(np.float32) / np.float32(255)


def check(preprocess: config.Preprocess) -> None:
    """Raises InputError if the values of `preprocess` contradict each other."""
    low, high = preprocess.random_scale
    if low > high:
        raise types.InputError(f"preprocess.random_scale is ({low}, {high}): the lowest factor comes first")


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.size == size:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)


def _times(pixels: int, factor: float) -> int:
    return max(1, round(pixels * factor))


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
