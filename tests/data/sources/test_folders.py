"""Unpaired folders, the demo set and single style images."""

import pathlib

import numpy as np
import pytest

from gqst import config, types
from gqst.data import sources


def _build(name, validation=0, **options):
    return sources.build(config.choice(name, **options), validation=validation)


def _names(pictures):
    return [pictures.name(i) for i in range(len(pictures))]


def _same(loaded, image):
    return np.array_equal(np.asarray(loaded), np.asarray(image))


def _sentence(name, validation=0, **options):
    with pytest.raises(types.InputError) as caught:
        _build(name, validation, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_demo():
    dataset = _build("demo")
    assert not dataset.paired
    assert dataset.train.sizes == (12, 7) and dataset.test.sizes == (4, 2)
    assert _names(dataset.train.source)[:2] == ["aitzgorri.jpg", "astronaut.jpg"]
    assert dataset.train.target.load(0).mode == "RGB"
    assert sources.check(dataset)["test/target"] == (2, 0)
    assert _build("demo", source="ukiyoe", target="photos").train.sizes == (7, 12)


def test_folders_in_the_usual_layout(unpaired, pictures, prints):
    dataset = _build("folders", root=str(unpaired))
    assert dataset.train.sizes == (6, 4) and dataset.test.sizes == (2, 1)
    assert _same(dataset.train.source.load(3), pictures[3])
    assert _same(dataset.train.target.load(1), prints[1])
    assert dataset.train.target.origin == str(unpaired / "trainB")


def test_two_arbitrary_folders(unpaired):
    folders = {"source": str(unpaired / "trainA"), "target": str(unpaired / "trainB")}
    assert _build("folders", **folders).test is None
    tests = {"test_source": str(unpaired / "testA"), "test_target": str(unpaired / "testB")}
    assert _build("folders", **folders, **tests).test.sizes == (2, 1)


def test_root_without_tests(tmp_path, pictures, fill):
    fill(tmp_path / "trainA", pictures)
    fill(tmp_path / "trainB", pictures)
    assert _build("folders", root=str(tmp_path)).test is None


def test_style_image(unpaired):
    image = "demo:styles/the_harvesters_bruegel_1565.jpg"
    photos = {"photos": str(unpaired / "trainA"), "test_photos": str(unpaired / "testA")}
    dataset = _build("style_image", image=image, **photos, validation=0.2)
    assert dataset.train.sizes == (4, 1)
    assert dataset.validation.sizes == (2, 1) and dataset.test.sizes == (2, 1)
    assert _names(dataset.train.target) == _names(dataset.test.target)
    assert dataset.train.target.load(0).size == (674, 488)


def test_style_images_that_cannot_be_read(unpaired):
    photos = str(unpaired / "trainA")
    broken = unpaired / "broken.png"
    broken.write_bytes(b"no picture")
    assert _sentence("style_image", image=str(broken), photos=photos) == (
        f"the style image {broken} cannot be read: it is not a picture"
    )
    assert "there is no such file" in _sentence("style_image", image="gone.jpg", photos=photos)
    assert "is a folder" in _sentence("style_image", image=photos, photos=photos)
    bundled = _sentence("style_image", image="demo:styles/gone.jpg", photos=photos)
    assert "demo:styles/the_harvesters_bruegel_1565.jpg" in bundled


def test_the_larger_sets_are_readable():
    shared = pathlib.Path(__file__).parents[4] / "shared" / "data"
    if not shared.is_dir():
        pytest.skip("needs ../shared/data, the development sets")
    dataset = _build("folders", root=str(shared / "landscape2painting"), validation=0.05)
    assert dataset.train.sizes == (341, 465) and dataset.validation.sizes == (18, 25)
    restore = _build("pairs", root=str(shared / "photo_restore"))
    assert restore.train.sizes == (303, 303) and restore.train.target.load(0).size == (256, 256)
