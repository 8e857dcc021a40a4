"""Pictures to training crops: resize, crop, mirror. Pure functions, random only through a `Draw`.

A picture becomes a crop in two stages. `prepare` resizes it once to the largest size that any crop
is taken from, which the pipeline may cache; `crop` then cuts one window out of that.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from gqst import config, types

_PUBLISHED_RATIO = 286 / 256
_REDUCING_GAP = 3.0
# Longer side of a picture that is enlarged, in shorter ones.
_LONGEST = 8

# Share of the recoloured crops whose light and dark are exchanged.
_NEGATIVES = 0.1


@dataclasses.dataclass(frozen=True)
class Draw:
    """A random draw, applied alike to both pictures of a pair.

    Attributes:
      scale: Factor on the size before the crop.
      x: Horizontal position of the crop, from 0 (left) to 1 (right).
      y: Vertical position of the crop, from 0 (top) to 1 (bottom).
      flip: Whether the crop is mirrored left to right.
    """

    scale: float = 1.0
    x: float = 0.5
    y: float = 0.5
    flip: bool = False


CENTRE = Draw()
"""The deterministic centre crop of evaluation."""


def load_size(preprocess: config.Preprocess, image_size: int) -> int:
    """Returns the size in pixels that `preprocess.resize` brings a picture to before the crop."""
    return preprocess.load_size or round(image_size * _PUBLISHED_RATIO)


def shorter_side(preprocess: config.Preprocess, image_size: int, *, scale: float = 1.0) -> int | None:
    """Returns the largest shorter side that `prepare` needs of a picture; None if it uses full resolution."""
    if preprocess.resize == "none":
        return None
    return max(image_size, _times(load_size(preprocess, image_size), scale))


def base_size(
    size: tuple[int, int], preprocess: config.Preprocess, image_size: int, *, scale: float = 1.0
) -> tuple[int, int]:
    """Returns the width and height of a picture before the crop, which are never less than the crop's.

    Args:
      size: Width and height of the picture.
      preprocess: Resize mode and load size.
      image_size: Side of the crop in pixels.
      scale: Factor on the load size (on the picture's own size with resize mode `none`).
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
    # A picture smaller than the crop is enlarged to fit it.
    factor = max(factor, image_size / min(size))
    return max(image_size, _times(width, factor)), max(image_size, _times(height, factor))


def prepare(
    pictures: Sequence[Image.Image],
    preprocess: config.Preprocess,
    image_size: int,
    *,
    scale: float = 1.0,
) -> tuple[UInt8[np.ndarray, "h w 3"], ...]:
    """Returns the pictures at the size that crops are cut from, the first one's, so that pairs are aligned.

    A thin picture that is smaller than the crop would be enlarged to an enormous one: of it only the middle is taken,
    eight times as long as it is wide.

    Args:
      pictures: One RGB picture, or the two of a pair.
      preprocess: Resize mode and load size.
      image_size: Side of the crops in pixels.
      scale: Largest `Draw.scale` that will be drawn.
    """
    pictures = [_middle(picture, image_size) for picture in pictures]
    size = base_size(pictures[0].size, preprocess, image_size, scale=scale)
    return tuple(np.asarray(_resize(picture, size)) for picture in pictures)


def draw(rng: np.random.Generator, preprocess: config.Preprocess) -> Draw:
    """Draws scale, position and mirroring; always takes the same number of values from `rng`."""
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
    """Returns a square crop as float32 in [0, 1].

    Args:
      base: A picture from `prepare`.
      image_size: Side of the crop in pixels.
      drawn: Scale, position and mirroring.
      scale: Scale at which `base` was prepared, at least `drawn.scale`.
    """
    height, width = base.shape[:2]
    # A scale below the base's takes a larger window, up to the whole base.
    side = min(round(image_size * scale / drawn.scale), width, height)
    left, top = (min(int(u * (n - side + 1)), n - side) for u, n in ((drawn.x, width), (drawn.y, height)))
    window = base[top : top + side, left : left + side]
    if side != image_size:
        window = np.asarray(_resize(Image.fromarray(window), (image_size, image_size)))
    if drawn.flip:
        window = window[:, ::-1]
    return window.astype(np.float32) / np.float32(255)


def recolored(
    crop: Float[np.ndarray, "h w 3"], rng: np.random.Generator, probability: float
) -> Float[np.ndarray, "h w 3"]:
    """Returns a crop in [0, 1] in other colours, or as it is; always takes the same number of values from `rng`."""
    chance, saturation, gamma, negative = rng.random(4)
    order = rng.permutation(3)
    if chance >= probability:
        return crop
    colors = crop[..., order]
    grey = colors.mean(-1, keepdims=True)
    # From nearly grey to twice the saturation; midtones from half to twice as bright.
    colors = np.clip(grey + (colors - grey) * np.float32(2 * saturation), 0, 1) ** np.float32(2 ** (2 * gamma - 1))
    return 1 - colors if negative < _NEGATIVES else colors


def check(preprocess: config.Preprocess) -> None:
    """Raises InputError if the values of `preprocess` contradict each other."""
    low, high = preprocess.random_scale
    if low > high:
        raise types.InputError(f"preprocess.random_scale is ({low}, {high}): the lowest factor comes first")


def _middle(picture: Image.Image, image_size: int) -> Image.Image:
    """Returns the middle of a picture that is thin and smaller than the crop, and others as they are."""
    width, height = picture.size
    most = _LONGEST * min(width, height)
    if max(width, height) <= most or min(width, height) >= image_size:
        return picture
    left, top = max(0, width - most) // 2, max(0, height - most) // 2
    return picture.crop((left, top, left + min(width, most), top + min(height, most)))


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.size == size:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)


def _times(pixels: int, factor: float) -> int:
    return max(1, round(pixels * factor))
