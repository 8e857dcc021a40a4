"""Styles as single files."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

import gqst
from gqst import types
from gqst.inference import generator, kept, styles
from tests import conftest


def _picture():
    return np.random.default_rng(0).random((24, 32, 3), np.float32)


@pytest.fixture(scope="module")
def file(tmp_path_factory, workdir):
    path = tmp_path_factory.mktemp("styles") / "style.safetensors"
    styles.pack(workdir, path, which="last", dtype="float32", about={"name": "Test"})
    return path


def test_a_packed_style_is_the_generator_of_its_run(file, workdir, tmp_path):
    run = gqst.load_generator(workdir, which="last")
    packed = gqst.load_style(file)
    assert packed.step == run.step == 2 and packed.config == run.config
    np.testing.assert_array_equal(packed(_picture()), run(_picture()))
    half = tmp_path / "half.safetensors"
    styles.pack(workdir, half, which="last")
    assert half.stat().st_size < 0.7 * file.stat().st_size
    np.testing.assert_allclose(gqst.load_style(str(half))(_picture()), run(_picture()), atol=2e-3)


def test_the_card_has_the_figures_of_the_round(workdir, tmp_path, monkeypatch):
    lines = [{"step": 2, "loss": 1.0}, {"step": 2, "eval/kid": 7.0, "eval/best": True}, {"step": 3, "eval/kid": 9.0}]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (workdir / "data.json").write_text(json.dumps({"train/source": [5, "hash"]}))
    path = tmp_path / "style.safetensors"
    try:
        styles.pack(workdir, path, which=2, about={"licence": "CC0"})
    finally:
        (workdir / "metrics.jsonl").unlink()
        (workdir / "data.json").unlink()
    expected = {"licence": "CC0", "step": 2, "pictures": {"train/source": 5}, "held_out": {"kid": 7.0}}
    assert styles.card(path) == expected


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A style of a few kilobytes, and its bytes."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    cfg = conftest.small("style_image", "generator.filters=1", "generator.blocks=0", "generator.scales=0")
    module = gqst.Recipe(cfg).generator
    variables = jax.device_get(module.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32)))
    styles.write(path, cfg, variables, {"name": "tiny"})
    return path, cfg, variables


def test_no_damaged_byte_goes_unnoticed(tiny, tmp_path):
    content = tiny[0].read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    for place in (*range(0, len(content), 7), *range(len(content) - 40, len(content))):
        damaged.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(types.InputError, match=r"damaged\.safetensors"):
            styles.load(damaged)
    for length in (0, 4, 8, 200, len(content) - 1):
        damaged.write_bytes(content[:length])
        with pytest.raises(types.InputError, match=r"damaged\.safetensors"):
            styles.load(damaged)


def test_what_is_no_style(tiny, tmp_path, monkeypatch):
    path, cfg, variables = tiny
    other = tmp_path / "other.safetensors"
    other.write_bytes(safetensors.numpy.save({"x": np.zeros(3, np.float32)}))
    with pytest.raises(types.InputError, match=r"other\.safetensors is no style file"):
        styles.load(other)
    other.write_bytes((2**40).to_bytes(8, "little") + b"x" * 100)
    with pytest.raises(types.InputError, match=r"other\.safetensors is no style file"):
        styles.load(other)
    spoilt = jax.tree.map(lambda x: x * np.nan, variables)
    styles.write(other, cfg, spoilt, {})
    with pytest.raises(types.InputError, match="damaged"):
        styles.load(other)
    wider = dataclasses.replace(cfg, generator=gqst.choice("resnet", filters=2, blocks=0, scales=0))
    styles.write(other, wider, variables, {})
    with pytest.raises(types.InputError, match="weights of another generator"):
        styles.load(other)
    monkeypatch.setattr(styles, "_LARGEST_FILE", 100)
    with pytest.raises(types.InputError, match="larger than"):
        styles.load(path)


def test_styles_are_found_by_name():
    assert len(styles.bundled()) >= 6
    assert sum(path.stat().st_size for path in styles.bundled().values()) <= 8 * 2**20
    with pytest.raises(types.InputError, match="scream"):
        styles.load("screem")
    with pytest.raises(types.InputError, match="there is no style file"):
        styles.load("folder/mine.safetensors")


def test_every_bundled_style_has_a_card_and_paints():
    picture = np.random.default_rng(0).random((64, 80, 3), np.float32)
    for name in styles.bundled():
        card = styles.card(name)
        assert {"name", "licence", "data", "step", "held_out"} <= set(card)
        # Where the figures come from is in the card; style and scene are both there.
        assert card["held_out"]["style_gain"] > 0.45 and card["held_out"]["contrast_structure"] > 0.5
    painted = gqst.load_style("scream")(picture)
    assert painted.shape == picture.shape and np.abs(painted - picture).mean() > 0.1


def test_a_float16_checkpoint_of_a_run_is_restored_as_it_is(workdir):
    cfg, variables, step = generator.restored(workdir, 1, "forward")
    assert step == 1 and cfg.generator.name == "resnet"
    assert all(value.dtype == np.float32 for _, value in kept.flat(variables))
