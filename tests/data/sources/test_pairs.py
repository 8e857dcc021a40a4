"""Pairs side by side and in matched folders."""

import numpy as np
import pytest
from PIL import Image

from gqst import config, types
from gqst.data import sources


def _build(name, validation=0, **options):
    return sources.build(config.choice(name, **options), validation=validation)


def _same(loaded, image):
    return np.array_equal(np.asarray(loaded), np.asarray(image))


def _sentence(name, validation=0, **options):
    with pytest.raises(types.InputError) as caught:
        _build(name, validation, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_pairs_side_by_side(tmp_path, pictures, fill, direction):
    halves = [p.resize((40, 30)) for p in pictures[:3]]
    both = []
    for half in halves:
        wide = Image.new("RGB", (80, 30))
        wide.paste(half, (0, 0))
        wide.paste(half.convert("L"), (40, 0))
        both.append(wide)
    fill(tmp_path / "train", both)
    fill(tmp_path / "test", both[:1])
    dataset = _build("pairs", root=str(tmp_path), direction=direction)
    assert dataset.paired and dataset.test.paired
    assert dataset.train.sizes == (3, 3) and dataset.test.sizes == (1, 1)
    left, right = dataset.train.source.load(2), dataset.train.target.load(2)
    if direction == "BtoA":
        left, right = right, left
    assert _same(left, halves[2]) and _same(right, halves[2].convert("L").convert("RGB"))


def test_pairs_of_odd_width_drop_the_middle_column(tmp_path, fill):
    wide = Image.new("RGB", (7, 2), "black")
    wide.paste((255, 255, 255), (4, 0, 7, 2))
    fill(tmp_path / "train", [wide])
    train = _build("pairs", root=str(tmp_path)).train
    source, target = (np.asarray(p.load(0)) for p in (train.source, train.target))
    assert source.shape == target.shape == (2, 3, 3)
    assert source.max() == 0 and target.min() == 255


def test_pairs_with_a_val_folder_keep_it_whole(tmp_path, pictures, fill):
    fill(tmp_path / "train", pictures)
    fill(tmp_path / "val", pictures[:2])
    dataset = _build("pairs", root=str(tmp_path), validation=0.5)
    assert dataset.train.sizes == (6, 6) and dataset.validation.sizes == (2, 2)
    assert _build("pairs", root=str(tmp_path), validation=0).validation is None


def test_matched_by_path_without_suffix(tmp_path, pictures, fill):
    # Sorted with their suffixes, a/1 would come before a/1.q on one side only.
    stems = ["a/1", "a/1.q", "c"]
    source = fill(tmp_path / "s", pictures[:3], [f"{stem}.png" for stem in stems])
    target = fill(tmp_path / "t", pictures[:3], [f"{stem}.tif" for stem in stems])
    dataset = _build("matched", source=str(source), target=str(target))
    assert dataset.paired and dataset.test is None
    for index in range(3):
        assert _same(dataset.train.source.load(index), dataset.train.target.load(index))
    tests = {"test_source": str(source), "test_target": str(target)}
    assert _build("matched", source=str(source), target=str(target), **tests).test.paired


def test_matched_folders_that_do_not_match(tmp_path, pictures, fill):
    source = fill(tmp_path / "s", pictures[:6])
    target = fill(tmp_path / "t", pictures[:2], ["0.png", "x.png"])
    assert _sentence("matched", source=str(source), target=str(target)) == (
        f"{source} has 6 pictures and {target} has 2, and their names do not match: "
        f"1, 2, 3 and 2 more only in {source}; x only in {target}"
    )
    fill(target, pictures[:1], ["0.jpg"])
    assert _sentence("matched", source=str(target), target=str(source)) == (
        f"{target} has two pictures called 0: 0.jpg and 0.png"
    )


def test_a_picture_too_narrow_to_hold_two(tmp_path, pictures, fill, caplog):
    fill(tmp_path / "train", [pictures[0], Image.new("RGB", (1, 5))])
    counts = sources.check(_build("pairs", root=str(tmp_path)))
    assert counts == {"train/source": (1, 1), "train/target": (1, 1)}
    assert "does not hold two pictures side by side" in caplog.text


def test_pictures_that_are_no_two_side_by_side_are_named(tmp_path, pictures, fill, caplog):
    """As in the folder of single pictures of pytorch-CycleGAN-and-pix2pix#1644."""
    fill(tmp_path / "train", [pictures[0].resize((64, 64)), pictures[1].resize((128, 64))])
    _build("pairs", root=str(tmp_path))
    [record] = caplog.records
    folder = tmp_path / "train"
    assert record.getMessage().startswith(f"1 of 2 pictures in {folder} do not look like two side by side: 0.png")
    assert "is 64x64, and its halves are 32x64" in record.getMessage()


def test_pairs_of_different_shape_are_named(tmp_path, pictures, fill, caplog):
    fill(tmp_path / "in", [pictures[0].resize((96, 64)), pictures[1].resize((96, 64))])
    fill(tmp_path / "out", [pictures[0].resize((64, 96)), pictures[1].resize((48, 32))])
    _build("matched", source=str(tmp_path / "in"), target=str(tmp_path / "out"))
    [record] = caplog.records
    assert record.getMessage().startswith("1 of 2 pairs in") and "0.png is 96x64, 0.png 64x96" in record.getMessage()
