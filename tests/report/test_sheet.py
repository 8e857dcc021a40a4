import pathlib

import numpy as np
import pytest
from PIL import Image

from gqst.data import transforms
from gqst.report import sheet


def test_columns_keep_the_pictures_shape_and_values(tmp_path: pathlib.Path):
    path = tmp_path / "wide.png"
    Image.new("RGB", (80, 40), (255, 0, 0)).save(path)
    made = np.asarray(sheet.columns({"a": [path], "b": [np.full((40, 20, 3), 0.5)]}, height=40))
    assert made.shape == (28 + 40 + 8, 8 + 80 + 8 + 20 + 8, 3)
    assert (made[28:68, 8:88] == (255, 0, 0)).all()
    assert (made[28:68, 96:116] == 128).all()
    assert (made[68:] == 255).all()


def test_a_column_is_as_wide_as_its_title():
    title = "a title that is wider than its picture"
    picture = np.zeros((20, 20, 3))
    narrow, wide = (sheet.columns({t: [picture]}, height=20).width for t in ("a", title))
    assert wide > narrow == 20 + 16
    made = np.asarray(sheet.columns({title: [picture]}, height=20))
    assert (made[:, -8:] == 255).all()


def test_values_outside_the_range_are_clipped():
    made = np.asarray(sheet.columns({"a": [np.full((8, 8, 3), 1.7)]}, height=8))
    assert (made[28:36, 8:16] == 255).all()


@pytest.mark.parametrize("titled", [{}, {"a": []}, {"a": [np.zeros((4, 4, 3))], "b": []}])
def test_columns_of_different_length_are_refused(titled: dict):
    with pytest.raises(ValueError, match="one number of pictures"):
        sheet.columns(titled)


def test_an_unreadable_file_is_named(tmp_path: pathlib.Path):
    with pytest.raises(transforms.UnreadableError, match=r"none\.png"):
        sheet.columns({"a": [tmp_path / "none.png"]})
