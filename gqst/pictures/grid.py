"""Pictures of any size side by side, as one picture."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from gqst.pictures import decode

Shown = str | os.PathLike[str] | Float[Any, "h w 3"]
"""A picture as a file, or as an array in [0, 1]."""

Column = Sequence[Shown] | Float[np.ndarray, "n h w 3"]

_GAP = 8
_TITLE = 28
_SMALLEST_SIDE = 128


def picture_grid(
    columns: Mapping[str, Sequence[Shown] | Float[np.ndarray, "n h w 3"]], *, height: int | None = None
) -> Image.Image:
    """Pictures as one: a titled column for each kind, a row for each picture, all rows of one height.

    A notebook shows it where it is the last value of a cell.

    Args:
      columns: the pictures of each column by its title, from left to right.
      height: of the rows in px; the pictures keep their shape. None takes the height of the first picture, times a
        whole factor where its shorter side would have fewer than 128 px.

    Raises:
      ValueError: there is no picture, or the columns are not of one length.
      UnreadableError: a file is no picture or damaged.
    """
    lengths = {title: len(shown) for title, shown in columns.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"columns must hold one number of pictures, and at least one, got {lengths}")
    images = {title: [_image(picture) for picture in shown] for title, shown in columns.items()}
    if height is None:
        first = next(iter(images.values()))[0]
        height = first.height * max(1, -(-_SMALLEST_SIDE // min(first.size)))
    font = ImageFont.load_default(size=16)
    tiles = {title: [_tile(image, height) for image in column] for title, column in images.items()}
    # A column is at least as wide as its title.
    widths = [
        max([int(np.ceil(font.getlength(title))), *(tile.width for tile in column)]) for title, column in tiles.items()
    ]
    rows = len(next(iter(tiles.values())))
    size = (sum(widths) + _GAP * (len(widths) + 1), _TITLE + rows * (height + _GAP))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    left = _GAP
    for (title, column), width in zip(tiles.items(), widths, strict=True):
        draw.text((left, 4), title, fill="black", font=font)
        for row, tile in enumerate(column):
            sheet.paste(tile, (left, _TITLE + row * (height + _GAP)))
        left += width + _GAP
    return sheet


def _image(picture: Shown) -> Image.Image:
    if isinstance(picture, str | os.PathLike):
        return decode.decode(pathlib.Path(picture))
    return Image.fromarray(decode.to_bytes(np.asarray(picture, np.float32)))


def _tile(image: Image.Image, height: int) -> Image.Image:
    width = max(1, round(image.width * height / image.height))
    # Small pictures are shown with their pixels, not blurred.
    filtered = Image.Resampling.NEAREST if height >= 2 * image.height else Image.Resampling.LANCZOS
    return image.resize((width, height), filtered)
