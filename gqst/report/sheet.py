"""Pictures of any size side by side, as one picture."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from gqst.data import transforms

Shown = str | os.PathLike[str] | Float[Any, "h w 3"]
"""A picture as a file, or as an array in [0, 1]."""

_GAP = 8
_TITLE = 28


def columns(titled: Mapping[str, Sequence[Shown]], *, height: int = 240) -> Image.Image:
    """Pictures as one: a titled column for each kind, a row for each picture, every row `height` px high.

    A notebook shows it where it is the last value of a cell.

    Args:
      titled: the pictures of each column by its title, from left to right.
      height: of the pictures in px; their shape is kept.

    Raises:
      ValueError: there is no picture, or the columns are not of one length.
      UnreadableError: a file is no picture or damaged.
    """
    lengths = {title: len(shown) for title, shown in titled.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"columns must hold one number of pictures, and at least one, got {lengths}")
    font = ImageFont.load_default(size=16)
    tiles = {title: [_tile(picture, height) for picture in shown] for title, shown in titled.items()}
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


def _tile(picture: Shown, height: int) -> Image.Image:
    if isinstance(picture, str | os.PathLike):
        image = transforms.decode(pathlib.Path(picture))
    else:
        values = np.clip(np.asarray(picture, np.float32), 0.0, 1.0)
        image = Image.fromarray(np.round(values * 255.0).astype(np.uint8))
    width = max(1, round(image.width * height / image.height))
    # Small pictures are shown with their pixels, not blurred.
    filtered = Image.Resampling.NEAREST if height >= 2 * image.height else Image.Resampling.LANCZOS
    return image.resize((width, height), filtered)
