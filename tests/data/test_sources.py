"""Every source on disk, what is held off for validation, and each complaint's sentence."""

import collections
import logging
import os
import pathlib
from importlib import resources

import numpy as np
import pytest
from PIL import Image

from gqst import config, types
from gqst.data import sources


def _build(name, validation=0, **options):
    return sources.build(config.choice(name, **options), validation=validation)


def _names(pictures):
    return [pictures.name(i) for i in range(len(pictures))]


def _same(loaded, image):
    return np.array_equal(np.asarray(loaded), np.asarray(image))


def test_all_sources_are_registered():
    assert {"demo", "folders", "pairs", "matched", "style_image", "tfds"} <= set(sources.SOURCES)


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


def test_style_image(unpaired):
    image = "demo:styles/the_harvesters_bruegel_1565.jpg"
    photos = {"photos": str(unpaired / "trainA"), "test_photos": str(unpaired / "testA")}
    dataset = _build("style_image", image=image, **photos, validation=0.2)
    assert dataset.train.sizes == (4, 1)
    assert dataset.validation.sizes == (2, 1) and dataset.test.sizes == (2, 1)
    assert _names(dataset.train.target) == _names(dataset.test.target)
    assert dataset.train.target.load(0).size == (674, 488)


@pytest.mark.parametrize(
    ("validation", "held"), [(0, None), (0.0, None), (1, 1), (3, 3), (99, 9), (0.05, 1), (0.25, 3)]
)
def test_validation_is_held_off_training(tmp_path, pictures, fill, validation, held):
    folder = fill(tmp_path, [p for p in pictures for _ in range(2)][:10])
    dataset = _build("folders", source=str(folder), target=str(folder), validation=validation)
    if held is None:
        assert dataset.validation is None and dataset.train.sizes == (10, 10)
        return
    train, validated = _names(dataset.train.source), _names(dataset.validation.source)
    assert len(validated) == held
    assert not set(train) & set(validated)
    assert sorted(train + validated) == _names(_build("folders", source=str(folder), target=str(folder)).train.source)
    again = _build("folders", source=str(folder), target=str(folder), validation=validation)
    assert _names(again.validation.source) == validated


def test_validation_lies_evenly_spaced_and_never_in_test(unpaired):
    dataset = _build("folders", root=str(unpaired), validation=2)
    assert _names(dataset.validation.source) == ["1.png", "4.png"]
    assert _names(dataset.validation.target) == ["1.png", "3.png"]
    assert dataset.test.sizes == (2, 1)


def test_a_fraction_holds_off_at_most_64(tmp_path, pictures, fill):
    small = pictures[0].resize((2, 2))
    folder = fill(tmp_path, [small] * 200)
    by_fraction = _build("folders", source=str(folder), target=str(folder), validation=0.5)
    assert by_fraction.validation.sizes == (64, 64)
    by_count = _build("folders", source=str(folder), target=str(folder), validation=100)
    assert by_count.validation.sizes == (100, 100)


def test_pairs_are_held_off_together(tmp_path, pictures, fill):
    source = fill(tmp_path / "s", pictures)
    target = fill(tmp_path / "t", pictures)
    dataset = _build("matched", source=str(source), target=str(target), validation=2)
    for split in (dataset.train, dataset.validation):
        assert split.paired and _names(split.source) == _names(split.target)


@pytest.fixture
def damaged(unpaired):
    """The unpaired folders; three of six source pictures cannot be read, and one target."""
    for name in ("0.png", "1.png", "5.png"):
        (unpaired / "trainA" / name).write_bytes(b"no picture")
    whole = (unpaired / "trainB" / "2.png").read_bytes()
    (unpaired / "trainB" / "2.png").write_bytes(whole[: len(whole) // 2])
    return unpaired


def test_unreadable_pictures_are_logged_once_and_counted(damaged, caplog):
    dataset = _build("folders", root=str(damaged))
    assert len(dataset.unreadable) == 0
    calls = []
    with caplog.at_level(logging.WARNING, "gqst"):
        counts = sources.check(dataset, lambda done, total: calls.append((done, total)))
        sources.check(dataset)
    assert counts == {
        "train/source": (3, 3),
        "train/target": (3, 1),
        "test/source": (2, 0),
        "test/target": (1, 0),
    }
    assert len(dataset.unreadable) == 4
    lines = collections.Counter(record.getMessage() for record in caplog.records)
    assert len(lines) == 4 and set(lines.values()) == {1}
    path = damaged / "trainA" / "0.png"
    assert lines[f"skipping a picture that cannot be read: {path}: it is not a picture"] == 1
    assert calls[0] == (1, 13) and calls[-1] == (13, 13)


def test_a_picture_in_two_domains_is_counted_once(damaged, caplog):
    folder = str(damaged / "trainA")
    dataset = _build("folders", source=folder, target=folder)
    sources.check(dataset)
    assert len(dataset.unreadable) == 3 and caplog.text.count("skipping") == 3


def test_what_cannot_be_read_is_not_tried_again(damaged):
    dataset = _build("folders", root=str(damaged))
    for _ in range(2):
        with pytest.raises(sources.UnreadableError, match="not a picture"):
            dataset.train.source.load(0)
        # Repaired meanwhile: a run stays what it was, whichever thread asks when.
        Image.new("RGB", (4, 4)).save(damaged / "trainA" / "0.png")


def test_a_domain_with_nothing_left_is_an_error(unpaired):
    for path in (unpaired / "trainB").iterdir():
        path.write_bytes(b"")
    dataset = _build("folders", root=str(unpaired))
    with pytest.raises(types.InputError) as caught:
        sources.check(dataset)
    expected = f"none of the 4 pictures in {unpaired / 'trainB'} can be read"
    assert str(caught.value) == expected


def _sentence(name, validation=0, **options):
    with pytest.raises(types.InputError) as caught:
        _build(name, validation, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_missing_and_empty_folders(tmp_path, unpaired):
    here = str(unpaired / "trainA")
    gone = str(tmp_path / "gone")
    assert _sentence("folders", source=gone, target=here) == f"there is no folder {gone} (data option 'source')"
    assert _sentence("folders", root=gone) == (f"there is no folder {gone}/trainA (data option 'trainA')")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("no picture")
    assert _sentence("folders", source=here, target=str(empty)).startswith(
        f"no pictures in {empty} (data option 'target'); picture files end in .bmp, "
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


def test_contradicting_options(unpaired):
    here = str(unpaired / "trainA")
    assert "either root, or source and target" in _sentence("folders")
    assert "either root, or source and target" in _sentence("folders", root=here, source=here)
    assert _sentence("folders", source=here) == "data source 'folders' needs the option 'target' too"
    assert "only without root" in _sentence("folders", root=str(unpaired), test_source=here)
    assert _sentence("folders", source=here, target=here, test_target=here) == (
        "data source 'folders' needs the option 'test_source' too"
    )
    assert "together" in _sentence("matched", source=here, target=here, test_source=here)
    assert _sentence("folders", source=3, target=here) == (
        "option 'source' of data source 'folders' is 3: input should be a valid string"
    )
    assert _sentence("pairs", root=here, direction="AB") == (
        "option 'direction' of data source 'pairs' is 'AB': input should be 'AtoB' or 'BtoA'"
    )
    assert _sentence("demo", target="ukiyo") == (
        "data option 'target': the demo set has no 'ukiyo' (did you mean 'ukiyoe'?), only photos, ukiyoe"
    )
    assert "validation is 1.5" in _sentence("demo", validation=1.5)
    assert "unknown data source 'folder' (did you mean 'folders'?)" in _sentence("folder")
    assert "unknown option 'rot'" in _sentence("folders", rot="x")
    assert _sentence("style_image", image="x.jpg") == ("data source 'style_image' needs the option 'photos'")


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


def test_a_picture_too_narrow_to_hold_two(tmp_path, pictures, fill, caplog):
    fill(tmp_path / "train", [pictures[0], Image.new("RGB", (1, 5))])
    counts = sources.check(_build("pairs", root=str(tmp_path)))
    assert counts == {"train/source": (1, 1), "train/target": (1, 1)}
    assert "does not hold two pictures side by side" in caplog.text


def test_the_larger_sets_are_readable():
    shared = pathlib.Path(__file__).parents[3] / "shared" / "data"
    if not shared.is_dir():
        pytest.skip("needs ../shared/data, the development sets")
    dataset = _build("folders", root=str(shared / "landscape2painting"), validation=0.05)
    assert dataset.train.sizes == (341, 465) and dataset.validation.sizes == (18, 25)
    restore = _build("pairs", root=str(shared / "photo_restore"))
    assert restore.train.sizes == (303, 303) and restore.train.target.load(0).size == (256, 256)


def test_demo_pictures_are_package_data():
    assert (resources.files("gqst.data") / "demo" / "SOURCES.md").is_file()


@pytest.mark.parametrize(
    ("name", "options", "paired"),
    [
        ("demo", {}, False),
        ("folders", {"root": "/nowhere"}, False),
        ("style_image", {"image": "/nowhere.jpg", "photos": "/nowhere"}, False),
        ("pairs", {"root": "/nowhere"}, True),
        ("matched", {"source": "/nowhere", "target": "/nowhere"}, True),
        ("clean", {"root": "/nowhere"}, True),
        ("tfds", {}, False),
        ("tfds", {"dataset": "nobodys", "paired": True}, True),
    ],
)
def test_sources_declare_whether_they_are_paired_without_their_files(name, options, paired):
    assert sources.is_paired(config.choice(name, **options)) is paired


def test_the_declaration_of_a_choice_that_does_not_exist():
    with pytest.raises(types.InputError, match="unknown data source 'pars'"):
        sources.is_paired(config.choice("pars"))
    with pytest.raises(types.InputError, match="unknown option 'rot' of data source 'pairs'"):
        sources.is_paired(config.choice("pairs", rot="x"))


@pytest.mark.parametrize("declaration", [{}, {"paired": False}, {"paired": lambda options: options["reverse"]}])
def test_a_source_that_contradicts_its_declaration(monkeypatch, declaration):
    monkeypatch.setattr(sources.SOURCES, "_members", dict(sources.SOURCES._members))
    train = _build("demo").train

    @sources.SOURCES.register("outside", **declaration)
    def outside(*, reverse: bool = False) -> sources.Dataset:
        return sources.Dataset(train=sources.Split(train.source, train.source, paired=True))

    assert not sources.is_paired(config.choice("outside"))
    sentence = "'outside' declares paired=False, but its train split has paired=True: register it with paired=True"
    with pytest.raises(types.InputError, match=sentence):
        _build("outside")
