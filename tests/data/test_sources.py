"""Data sources in general: validation pictures, unreadable ones, declarations, and the sentences of errors."""

import collections
import logging

import pytest
from PIL import Image

from gqst import config, types
from gqst.data import sources


def _build(name, validation=0, **options):
    return sources.build(config.choice(name, **options), validation=validation)


def _names(pictures):
    return [pictures.name(i) for i in range(len(pictures))]


def test_all_sources_are_registered():
    assert {"demo", "folders", "pairs", "matched", "style_image", "tfds"} <= set(sources.SOURCES)


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
