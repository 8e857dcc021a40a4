"""Layout of picture grids."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from gqst.pictures import decode, files, grid


def test_pictures_keep_their_aspect_ratio_and_values(tmp_path: pathlib.Path):
    path = tmp_path / "wide.png"
    Image.new("RGB", (80, 40), (255, 0, 0)).save(path)
    image = np.asarray(grid.picture_grid({"a": [path], "b": [np.full((40, 20, 3), 0.5)]}, height=40))
    assert image.shape == (28 + 40 + 8, 8 + 80 + 8 + 20 + 8, 3)
    assert (image[28:68, 8:88] == (255, 0, 0)).all()
    assert (image[28:68, 96:116] == 128).all()
    assert (image[68:] == 255).all()


def test_a_column_is_as_wide_as_its_title():
    title = "a title that is wider than its picture"
    picture = np.zeros((20, 20, 3))
    narrow, wide = (grid.picture_grid({t: [picture]}, height=20).width for t in ("a", title))
    assert wide > narrow == 20 + 16
    image = np.asarray(grid.picture_grid({title: [picture]}, height=20))
    assert (image[:, -8:] == 255).all()


def test_values_outside_the_range_are_clipped():
    image = np.asarray(grid.picture_grid({"a": [np.full((8, 8, 3), 1.7)]}, height=8))
    assert (image[28:36, 8:16] == 255).all()


@pytest.mark.parametrize("columns", [{}, {"a": []}, {"a": [np.zeros((4, 4, 3))], "b": []}])
def test_columns_of_different_length_are_refused(columns: dict):
    with pytest.raises(ValueError, match="same number of pictures"):
        grid.picture_grid(columns)


def test_an_unreadable_file_is_named(tmp_path: pathlib.Path):
    with pytest.raises(decode.UnreadableError, match=r"none\.png"):
        grid.picture_grid({"a": [tmp_path / "none.png"]})


def test_grid_layout():
    """Pixels are repeated until each side has 128 px; 8 px lie between pictures, 28 px hold the titles."""
    rng = np.random.default_rng(0)
    columns = {name: rng.random((2, 50, 60, 3), np.float32) for name in ("source", "fake", "cycled")}
    image = np.asarray(grid.picture_grid(columns))
    zoom = 3  # 150 x 180
    assert image.shape == (28 + 2 * (150 + 8), 8 + 3 * (180 + 8), 3) and image.dtype == np.uint8
    for column, pictures in enumerate(columns.values()):
        for row, picture in enumerate(pictures):
            top, left = 28 + row * 158, 8 + column * 188
            tile = image[top : top + 150, left : left + 180]
            expected = np.rint(picture * 255).astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1)
            np.testing.assert_array_equal(tile, expected)
        assert (image[:24, left : left + 60] < 128).any()  # a title
    assert (image[:, :8] == 255).all()


def test_large_pictures_keep_their_size():
    assert grid.picture_grid({"fake": np.zeros((1, 200, 300, 3))}).size == (8 + 300 + 8, 28 + 200 + 8)


def test_a_grid_in_a_file_gives_its_pictures_back(tmp_path: pathlib.Path):
    rng = np.random.default_rng(0)
    columns = {"a": rng.random((2, 130, 140, 3)), "wide title": rng.random((2, 130, 131, 3))}
    files.write_png(tmp_path / "grid.png", grid.picture_grid(columns))
    found = grid.tiles(tmp_path / "grid.png")
    assert list(found) == list(columns)
    for title, pictures in columns.items():
        for picture, tile in zip(pictures, found[title], strict=True):
            np.testing.assert_array_equal(tile, decode.to_bytes(picture.astype(np.float32)))


def test_another_picture_has_no_places(tmp_path: pathlib.Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    assert grid.tiles(tmp_path / "plain.png") == {}
    with pytest.raises(decode.UnreadableError, match="no such file"):
        grid.tiles(tmp_path / "absent.png")
