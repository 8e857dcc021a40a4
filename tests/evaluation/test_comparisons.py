"""Outputs and their references, from folders and from a generator."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from gqst import config, types
from gqst.evaluation import comparisons


@pytest.fixture
def folders(tmp_path):
    """Flat pictures: outputs, sources in another format, truths of two of the three, and prints of other names."""
    for name, suffix, greys in (
        ("outputs", "png", (0, 1, 2)),
        ("sources", "bmp", (0, 1, 2)),
        ("truths", "png", (0, 2)),
    ):
        (tmp_path / name).mkdir()
        for i in greys:
            Image.new("RGB", (12, 10), (40 * i,) * 3).save(tmp_path / name / f"{i}.{suffix}")
    (tmp_path / "style").mkdir()
    Image.new("RGB", (30, 30), (250, 0, 0)).save(tmp_path / "style" / "print.png")
    (tmp_path / "outputs" / "broken.png").write_bytes(b"no picture")
    return {path.name: str(path) for path in tmp_path.iterdir()}


def test_only_outputs_with_a_truth_are_measured_against_truths(folders):
    comparison = comparisons.from_folders(folders["outputs"], folders["truths"], folders["sources"])
    # Two of four outputs have a truth: no more than half, so that these are a set.
    assert all(item.truth is None for item in comparison.items())
    pathlib.Path(folders["outputs"], "broken.png").unlink()
    comparison = comparisons.from_folders(folders["outputs"], folders["truths"], folders["sources"])
    told = "matched by name, truths of 2 of 3 outputs; --unpaired takes them as a set of the style"
    assert comparison.about["references"] == f"{folders['truths']} ({told})"
    assert comparison.about["size"] == "12x10" and comparison.total == 3
    for items in (comparison.items(), comparison.untouched()):
        assert [(item.name, float(item.truth.max())) for item in items] == [
            ("0.png", 0.0),
            ("2.png", pytest.approx(80 / 255)),
        ]


def test_sources_are_matched_by_name_and_broken_outputs_left_out(folders):
    comparison = comparisons.from_folders(folders["outputs"], folders["style"], folders["sources"])
    items = list(comparison.items())
    assert [item.name for item in items] == ["0.png", "1.png", "2.png"]
    for item in items:
        np.testing.assert_array_equal(item.output, item.source)
        assert item.truth is None
    assert comparison.about["references"] == f"{folders['style']} (a set)"
    (style,) = comparison.style()
    assert style.shape == (10, 12, 3)
    pathlib.Path(folders["sources"], "1.bmp").unlink()
    comparison = comparisons.from_folders(folders["outputs"], folders["style"], folders["sources"])
    assert [item.name for item in comparison.items()] == ["0.png", "2.png"]


def test_sources_of_other_names_are_refused(folders):
    with pytest.raises(types.InputError, match="--sources are matched by name"):
        comparisons.from_folders(folders["outputs"], None, folders["style"])


@pytest.fixture
def cfg(folders):
    choice = config.choice("folders", source=folders["sources"], target=folders["style"])
    return config.Config(image_size=16, validation=0, data=choice)


def test_a_generator_translates_whole_batches_and_its_items_keep_their_order(cfg):
    shapes = []

    def invert(pictures):
        shapes.append(pictures.shape)
        return 1.0 - pictures

    comparison = comparisons.from_generator(invert, cfg, about={"run": "run"})
    items = list(comparison.items())
    assert [item.name for item in items] == ["0.bmp", "1.bmp", "2.bmp"]
    for item, grey in zip(items, (0, 40, 80), strict=True):
        np.testing.assert_allclose(item.output, 1.0 - grey / 255, atol=1e-6)
        assert item.truth is None
    assert shapes == [(comparisons.BATCH, 16, 16, 3)]
    assert comparison.about == {"run": "run", "split": "train", "size": "16x16"} and comparison.real is None


def test_a_split_that_the_data_lacks_is_refused(cfg):
    with pytest.raises(types.InputError, match="the data has no split 'test'; it has: train"):
        comparisons.from_generator(lambda x: x, cfg, about={}, split="test")


def test_colours_are_those_of_random_pictures_of_the_style():
    rng = np.random.default_rng(0)
    source = rng.random((6, 6, 3)).astype(np.float32)
    styles = [0.2 * source + shift for shift in (0.1, 0.7)]
    items = [comparisons.Item(str(i), source, source) for i in range(12)]
    recolored = list(comparisons.recolored(lambda: items, lambda: styles))
    assert [item.name for item in recolored] == [item.name for item in items]
    darker = sum(item.output.mean() < 0.5 for item in recolored)
    assert 0 < darker < 12
    again = comparisons.recolored(lambda: items, lambda: styles)
    for a, b in zip(recolored, again, strict=True):
        np.testing.assert_array_equal(a.output, b.output)
