import pathlib

import numpy as np
import pytest
from PIL import Image

from gqst.pictures import decode, grid


def test_columns_keep_the_pictures_shape_and_values(tmp_path: pathlib.Path):
    path = tmp_path / "wide.png"
    Image.new("RGB", (80, 40), (255, 0, 0)).save(path)
    made = np.asarray(grid.picture_grid({"a": [path], "b": [np.full((40, 20, 3), 0.5)]}, height=40))
    assert made.shape == (28 + 40 + 8, 8 + 80 + 8 + 20 + 8, 3)
    assert (made[28:68, 8:88] == (255, 0, 0)).all()
    assert (made[28:68, 96:116] == 128).all()
    assert (made[68:] == 255).all()


def test_a_column_is_as_wide_as_its_title():
    title = "a title that is wider than its picture"
    picture = np.zeros((20, 20, 3))
    narrow, wide = (grid.picture_grid({t: [picture]}, height=20).width for t in ("a", title))
    assert wide > narrow == 20 + 16
    made = np.asarray(grid.picture_grid({title: [picture]}, height=20))
    assert (made[:, -8:] == 255).all()


def test_values_outside_the_range_are_clipped():
    made = np.asarray(grid.picture_grid({"a": [np.full((8, 8, 3), 1.7)]}, height=8))
    assert (made[28:36, 8:16] == 255).all()


@pytest.mark.parametrize("titled", [{}, {"a": []}, {"a": [np.zeros((4, 4, 3))], "b": []}])
def test_columns_of_different_length_are_refused(titled: dict):
    with pytest.raises(ValueError, match="one number of pictures"):
        grid.picture_grid(titled)


def test_an_unreadable_file_is_named(tmp_path: pathlib.Path):
    with pytest.raises(decode.UnreadableError, match=r"none\.png"):
        grid.picture_grid({"a": [tmp_path / "none.png"]})


def test_grid_layout():
    """Pixels are repeated up to 128 px a side; 8 px between pictures, 28 px for the titles."""
    rng = np.random.default_rng(0)
    columns = {name: rng.random((2, 50, 60, 3), np.float32) for name in ("source", "fake", "cycled")}
    sheet = np.asarray(grid.picture_grid(columns))
    zoom = 3  # 150 x 180
    assert sheet.shape == (28 + 2 * (150 + 8), 8 + 3 * (180 + 8), 3) and sheet.dtype == np.uint8
    for column, pictures in enumerate(columns.values()):
        for row, picture in enumerate(pictures):
            top, left = 28 + row * 158, 8 + column * 188
            tile = sheet[top : top + 150, left : left + 180]
            expected = np.rint(picture * 255).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1)
            np.testing.assert_array_equal(tile, expected)
        assert (sheet[:24, left : left + 60] < 128).any()  # a title
    assert (sheet[:, :8] == 255).all()


def test_large_pictures_keep_their_size():
    assert grid.picture_grid({"fake": np.zeros((1, 200, 300, 3))}).size == (8 + 300 + 8, 28 + 200 + 8)
