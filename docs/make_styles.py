"""Draws docs/styles.jpg, every bundled style on one photograph: `python docs/make_styles.py [PHOTO]`."""

import pathlib
import sys

import numpy as np
from PIL import Image

import gqst
from gqst.models import style_files
from gqst.pictures import folders

SIDE, COLUMNS = 480, 4


def main(photo: str | None = None) -> None:
    """Styles the middle of a photograph, by default the bundled one of a temple, and writes the sheet."""
    bundled = folders.listing("demo:photos/test", option="photo")
    names = [bundled.name(index) for index in range(len(bundled))]
    picture = Image.open(photo).convert("RGB") if photo else bundled.load(names.index("china.jpg"))
    scale = SIDE / min(picture.size)
    picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.LANCZOS)
    left, top = ((side - SIDE) // 2 for side in picture.size)
    source = np.asarray(picture.crop((left, top, left + SIDE, top + SIDE)), np.float32) / 255
    tiles = [source, *(gqst.load_style(name)(source) for name in style_files.bundled())]
    rows = [np.concatenate(tiles[first : first + COLUMNS], 1) for first in range(0, len(tiles), COLUMNS)]
    sheet = Image.fromarray(np.round(255 * np.concatenate(rows)).astype(np.uint8))
    sheet.save(pathlib.Path(__file__).parent / "styles.jpg", quality=88)


if __name__ == "__main__":
    main(*sys.argv[1:])
