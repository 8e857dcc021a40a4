"""Grids of pictures with titled columns."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from gqst.pictures import decode

PictureLike = str | os.PathLike[str] | Float[Any, "h w 3"]
"""A picture as the path of a file, or as an array in [0, 1]."""

Column = Sequence[PictureLike] | Float[np.ndarray, "n h w 3"]

TILES = "gqst:tiles"
"""Key of the text in a grid's file that says where its pictures are, which `tiles` reads."""

# All in pixels.
_GAP = 8
_TITLE_HEIGHT = 28
_SMALLEST_SIDE = 128


def picture_grid(columns: Mapping[str, Column], *, height: int | None = None) -> Image.Image:
    """Returns one image with a titled column for each entry and a row for each picture, all rows equally high.

    A notebook displays it as the last value of a cell. Its `info` says where each picture is, for `tiles`.

    Args:
      columns: Pictures of each column by its title, from left to right.
      height: Height of the rows in pixels; pictures keep their aspect ratio. None takes the height of the first
        picture, times the smallest whole factor that gives its shorter side at least 128 px.

    Raises:
      ValueError: There are no pictures, or columns differ in length.
      UnreadableError: A file is missing, damaged or not a picture.
    """
    lengths = {title: len(pictures) for title, pictures in columns.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"all columns must have the same number of pictures, at least one, got {lengths}")
    images = {title: [_image(picture) for picture in pictures] for title, pictures in columns.items()}
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
    size = (sum(widths) + _GAP * (len(widths) + 1), _TITLE_HEIGHT + rows * (height + _GAP))
    grid = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(grid)
    places: dict[str, list[tuple[int, int, int, int]]] = {}
    left = _GAP
    for (title, column), width in zip(tiles.items(), widths, strict=True):
        draw.text((left, 4), title, fill="black", font=font)
        for row, tile in enumerate(column):
            top = _TITLE_HEIGHT + row * (height + _GAP)
            grid.paste(tile, (left, top))
            places.setdefault(title, []).append((left, top, left + tile.width, top + tile.height))
        left += width + _GAP
    grid.info[TILES] = json.dumps(places)
    return grid


def tiles(path: pathlib.Path) -> dict[str, list[Image.Image]]:
    """Returns the pictures of a grid's PNG file by the title of their column; none if the file does not say where.

    Raises:
      UnreadableError: The file is missing or damaged.
    """
    with decode.explained(str(path)), Image.open(path) as grid:
        try:
            places = json.loads(grid.info[TILES])
            return {title: [grid.crop(box) for box in boxes] for title, boxes in places.items()}
        except (KeyError, ValueError, TypeError, AttributeError):
            return {}


def _image(picture: PictureLike) -> Image.Image:
    if isinstance(picture, str | os.PathLike):
        return decode.decode(pathlib.Path(picture))
    return Image.fromarray(decode.to_bytes(np.asarray(picture, np.float32)))


def _tile(image: Image.Image, height: int) -> Image.Image:
    width = max(1, round(image.width * height / image.height))
    # Enlarged at least twice, a picture shows its pixels instead of a blur.
    resampling = Image.Resampling.NEAREST if height >= 2 * image.height else Image.Resampling.LANCZOS
    return image.resize((width, height), resampling)
