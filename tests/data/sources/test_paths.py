"""Folders and the files in them."""

import os
from importlib import resources

import pytest

from gqst import config, types
from gqst.data import sources


def _build(name, validation=0, **options):
    return sources.build(config.choice(name, **options), validation=validation)


def _names(pictures):
    return [pictures.name(i) for i in range(len(pictures))]


def _sentence(name, validation=0, **options):
    with pytest.raises(types.InputError) as caught:
        _build(name, validation, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_nested_hidden_and_other_files(tmp_path, pictures, fill):
    names = ["b/2.png", "a.JPG", "b/c/1.jpeg", "b/0.WebP", "z.TIF", ".hidden.png", ".dir/x.png"]
    folder = fill(tmp_path / "in", pictures[:1] * len(names), names)
    (folder / "notes.txt").write_text("no picture")
    (folder / "b" / "loop").symlink_to(folder)
    train = _build("folders", source=str(folder), target=str(folder)).train
    assert _names(train.source) == ["a.JPG", "b/0.WebP", "b/2.png", "b/c/1.jpeg", "z.TIF"]


def test_home_and_bundled_paths(unpaired, monkeypatch):
    monkeypatch.setenv("HOME", str(unpaired))
    dataset = _build("folders", source="~/trainA", target="demo:ukiyoe/test")
    assert dataset.train.sizes == (6, 2)


def test_missing_and_empty_folders(tmp_path, unpaired):
    here = str(unpaired / "trainA")
    gone = str(tmp_path / "gone")
    assert _sentence("folders", source=gone, target=here) == f"there is no folder {gone} (data option 'source')"
    assert _sentence("folders", root=gone) == (f"there is no folder {gone}/trainA (data option 'trainA')")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("no picture")
    assert _sentence("folders", source=here, target=str(empty)).startswith(
        f"no pictures in {empty} (data option 'target'); picture files end in .apng, "
    )
    file = str(unpaired / "trainA" / "0.png")
    assert _sentence("folders", source=file, target=here) == f"{file} is not a folder (data option 'source')"
    assert _sentence("pairs", root=str(unpaired)) == (f"there is no folder {unpaired}/train (data option 'root')")
    assert _sentence("style_image", image=file, photos=gone) == (f"there is no folder {gone} (data option 'photos')")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_the_right_to_read(unpaired):
    folder = unpaired / "trainA"
    folder.chmod(0)
    try:
        assert "cannot be listed" in _sentence("folders", root=str(unpaired))
    finally:
        folder.chmod(0o755)


def test_demo_pictures_are_package_data():
    assert (resources.files("gqst.data") / "demo" / "SOURCES.md").is_file()
