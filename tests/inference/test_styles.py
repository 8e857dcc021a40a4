"""Styles as single files."""

import dataclasses
import json
import pickle

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

import gqst
from gqst import overrides, types
from gqst.inference import generator, styles
from gqst.models import style_files
from tests import conftest


def _flat(variables):
    return traverse_util.flatten_dict(variables, sep="/")


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
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "ev')
    (workdir / "data.json").write_text(json.dumps({"train/source": [5, "hash"]}))
    path = tmp_path / "style.safetensors"
    try:
        styles.pack(workdir, path, which=2, about={"licence": "CC0"})
    finally:
        (workdir / "metrics.jsonl").unlink()
        (workdir / "data.json").unlink()
    expected = {"licence": "CC0", "step": 2, "pictures": {"train/source": 5}, "held_out": {"kid": 7.0}}
    assert style_files.card(path) == expected


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A style of a few kilobytes, and its bytes."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    cfg = conftest.small("style_image", "generator.filters=1", "generator.blocks=0", "generator.scales=0")
    module = gqst.Recipe(cfg).generator
    variables = jax.device_get(jax.jit(module.init)(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32)))
    style_files.write(path, cfg, variables, {"name": "tiny"})
    return path, cfg, variables


def _refusal(path, match: str) -> None:
    """Checks that a file is refused in one sentence that names it, also where only its card is asked for."""
    for read in (styles.load, style_files.card):
        with pytest.raises(types.InputError, match=match) as refused:
            read(path)
        sentence = str(refused.value)
        assert sentence.startswith(str(path)) and sentence.count(path.name) == 1 and "\n" not in sentence


def test_no_damaged_byte_goes_unnoticed(tiny, tmp_path):
    content = tiny[0].read_bytes()
    header = int.from_bytes(content[:8], "little") + 8
    # With padding, in which safetensors takes a line break for as good as a space.
    content = header.to_bytes(8, "little") + content[8:header] + b" " * 8 + content[header:]
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(content)
    assert style_files.card(damaged) == {"name": "tiny"}
    # The order of the metadata, and so where the card lies, changes from file to file: every byte, then.
    for place in range(len(content)):
        for change in (0x01, ord(" ") ^ ord("\n")):
            damaged.write_bytes(content[:place] + bytes([content[place] ^ change]) + content[place + 1 :])
            with pytest.raises(types.InputError) as refused:
                styles.load(damaged)
            assert str(refused.value).startswith(str(damaged)) and "\n" not in str(refused.value)
    for length in (0, 4, 8, 200, header + 8, len(content) - 1):
        damaged.write_bytes(content[:length])
        _refusal(damaged, r"get it again|no style file")
    damaged.write_bytes(content + b"x")
    _refusal(damaged, "get it again")


def test_what_is_no_style(tiny, tmp_path, monkeypatch):
    path, cfg, variables = tiny
    other = tmp_path / "other.safetensors"
    other.write_bytes(safetensors.numpy.save({"x": np.zeros(3, np.float32)}))
    _refusal(other, r"other\.safetensors is no style file")
    other.write_bytes(path.read_bytes().replace(b"gqst-style-1", b"gqst-style-2"))
    _refusal(other, r"other\.safetensors is no style file")
    other.write_bytes((2**40).to_bytes(8, "little") + b"x" * 100)
    _refusal(other, r"other\.safetensors is no style file")
    wider = dataclasses.replace(cfg, generator=gqst.choice("resnet", filters=2, blocks=0, scales=0))
    style_files.write(other, wider, variables, {})
    with pytest.raises(types.InputError, match="weights of another generator"):
        styles.load(other)
    monkeypatch.setattr(style_files, "_LARGEST_FILE", 100)
    _refusal(path, r"tiny\.safetensors is larger than")


def _forged(path, tiny, *, card: str = "{}", text: str | None = None, change=None, tensors=None) -> None:
    """Writes a file whose checksum is right, with this content."""
    _, cfg, variables = tiny
    tree = json.loads(overrides.to_json(cfg))
    if change is not None:
        change(tree)
    said = {"format": "gqst-style-1", "config": json.dumps(tree) if text is None else text, "card": card}
    if tensors is None:
        tensors = {name: np.asarray(value, np.float16) for name, value in _flat(variables).items()}
    path.write_bytes(safetensors.numpy.save(tensors, said | {"checksum": style_files._checksum(tensors, said)}))


def test_what_a_right_checksum_does_not_excuse(tiny, tmp_path):
    forged = tmp_path / "forged.safetensors"
    weights = {name: np.asarray(value, np.float16) for name, value in _flat(tiny[2]).items()}
    _forged(forged, tiny)
    assert styles.load(forged).step == 0
    for card in ("x", "[]", '{"step": "a"}', '{"step": null}', "[" * 100_000):
        _forged(forged, tiny, card=card)
        _refusal(forged, "no card that can be read")
    for change, said in (
        (lambda tree: tree.update(zzz=1), "unknown config key 'zzz'"),
        (lambda tree: tree["generator"].update(name="nope"), "unknown generator 'nope'"),
        (lambda tree: tree["generator"]["options"].update(blocks=10**6), "a larger generator than its weights"),
        (lambda tree: tree.update(image_size=10**6), "a larger generator than its weights"),
    ):
        _forged(forged, tiny, change=change)
        with pytest.raises(types.InputError, match=rf"forged\.safetensors.*{said}"):
            styles.load(forged)
    for text, said in (("{", "its config is not JSON"), ("[" * 100_000, "names no generator that can be built")):
        _forged(forged, tiny, text=text)
        with pytest.raises(types.InputError, match=rf"forged\.safetensors.*{said}"):
            styles.load(forged)
    # A weight that is as long as the network is deep, or has no numbers, is no excuse.
    for shape in ((0, 10**7), (10**6,)):
        deep = weights | {"params/x": np.zeros(shape, np.float16)}
        _forged(forged, tiny, change=lambda tree: tree["generator"]["options"].update(blocks=10**6), tensors=deep)
        with pytest.raises(types.InputError, match="a larger generator than its weights"):
            styles.load(forged)
    first = next(iter(weights))
    for tensors in (dict(list(weights.items())[1:]), weights | {f"{first}/more": np.zeros(1, np.float16)}):
        _forged(forged, tiny, tensors=tensors)
        with pytest.raises(types.InputError, match="weights of another generator"):
            styles.load(forged)
    for wrong in (weights[first] * np.float16(np.nan), weights[first].astype(np.int8)):
        _forged(forged, tiny, tensors=weights | {first: wrong})
        _refusal(forged, "not finite float16 or float32 numbers")


def test_weights_that_no_file_could_hold_are_not_written(tiny, tmp_path):
    _, cfg, variables = tiny
    path = tmp_path / "style.safetensors"
    with pytest.raises(types.InputError, match="not finite; choose another checkpoint"):
        style_files.write(path, cfg, jax.tree.map(lambda x: x * np.nan, variables), {})
    large = jax.tree.map(lambda x: x + np.float32(1e6), variables)
    with pytest.raises(types.InputError, match="too large for float16; choose float32"):
        style_files.write(path, cfg, large, {})
    assert not list(tmp_path.iterdir())
    style_files.write(path, cfg, large, {}, dtype="float32")
    styles.load(path)


def test_scalars_stay_scalars(tiny, tmp_path):
    style_files.write(tmp_path / "scalar.safetensors", tiny[1], {"params": {"gain": np.float32(3)}}, {})
    assert safetensors.numpy.load_file(tmp_path / "scalar.safetensors")["params/gain"].shape == ()


def test_nothing_is_unpickled(tiny, monkeypatch):
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, None)
    assert styles.load(tiny[0]).step == 0


def test_styles_are_found_by_name():
    assert len(style_files.bundled()) >= 6
    assert sum(path.stat().st_size for path in style_files.bundled().values()) <= 8 * 2**20
    with pytest.raises(types.InputError, match="scream"):
        styles.load("screem")
    with pytest.raises(types.InputError, match="there is no style file"):
        styles.load("folder/mine.safetensors")


def test_every_bundled_style_has_a_card_and_paints():
    picture = np.random.default_rng(0).random((64, 80, 3), np.float32)
    for name in style_files.bundled():
        card = style_files.card(name)
        assert {"name", "licence", "data", "step", "held_out"} <= set(card)
        # Where the figures come from is in the card; style and scene are both there.
        assert card["held_out"]["style_gain"] > 0.45 and card["held_out"]["contrast_structure"] > 0.5
    painted = gqst.load_style("scream")(picture)
    assert painted.shape == picture.shape and np.abs(painted - picture).mean() > 0.1


def test_a_float16_checkpoint_of_a_run_is_restored_as_it_is(workdir):
    cfg, variables, step = generator.restored(workdir, 1, "forward")
    assert step == 1 and cfg.generator.name == "resnet"
    assert all(value.dtype == np.float32 for value in _flat(variables).values())
