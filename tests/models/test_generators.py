"""Sizes, ranges, dtypes and published parameter counts of generators."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gqst import config, overrides, types
from gqst.models import base, blocks
from gqst.models.generators import resnet
from gqst.ops import convolutions
from gqst.training import state, summary
from gqst.training.recipe import Recipe
from tests import conftest

SMALL = {
    "resnet": {"filters": 8, "blocks": 1},
    "unet": {"filters": 8, "depth": 3},
    "resnet50": {"filters": 4, "norm": "instance"},
}
SMALLEST = {"resnet": 4, "unet": 8, "resnet50": 32}
ELSEWHERE = {"any_style", "one_style"}  # tests/models/test_any_style.py


def _build(name: str, **options):
    return base.GENERATORS.build(config.choice(name, **{**SMALL[name], **options}), dtype=jnp.float32)


def _apply(module, pictures):
    variables = _random(module, pictures)
    return np.asarray(_run(module, variables, pictures)), variables


def _random(module, pictures):
    return jax.jit(module.init)(jax.random.key(0), pictures)


def _run(module, variables, pictures):
    return jax.jit(module.apply)(variables, pictures)


def _pictures(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((2, height, width, 3), np.float32)


def _count(module, size: int) -> int:
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    return base.parameter_count(shapes)


def _parameters(table) -> int:
    """Number of parameters of convolutions with biases: (side of the kernel, channels in, channels out) each."""
    return sum(side * side * ins * outs + outs for side, ins, outs in table)


def test_every_generator_is_tested_here():
    assert {*SMALL, *ELSEWHERE} == set(base.GENERATORS)


def test_resnet_has_the_published_number_of_parameters():
    table = [(7, 3, 64), (3, 64, 128), (3, 128, 256)]  # c7s1-64, d128, d256
    table += [(3, 256, 256)] * 2 * 9  # R256
    table += [(3, 256, 128), (3, 128, 64), (7, 64, 3)]  # u128, u64, c7s1-3
    assert _parameters(table) == 11_378_179
    module = base.GENERATORS.build(config.choice("resnet"), dtype=jnp.float32)
    assert _count(module, 256) == 11_378_179


@pytest.mark.parametrize("norm", ["instance", "none"])
def test_blocks_in_a_loop_are_the_same(monkeypatch, norm):
    module, pictures, rng = _build("resnet", blocks=3, norm=norm), _pictures(16, 16), np.random.default_rng(1)
    # Not as they start: without a norm, blocks are the identity then.
    variables = jax.tree.map(
        lambda leaf: leaf + 0.05 * rng.standard_normal(leaf.shape, np.float32), _random(module, pictures)
    )

    def passed(variables):
        fakes = module.apply(variables, pictures)
        return jnp.sum(fakes**2), fakes

    results = []
    pixels = 2 * 4 * 4
    for fewest in (pixels, pixels + 1):
        monkeypatch.setattr(resnet, "_FEWEST_PIXELS", fewest)
        traced = jax.jit(jax.value_and_grad(passed, has_aux=True)).trace(variables)
        assert ("scan[" in str(traced.jaxpr)) == (fewest == pixels)
        results.append(traced.lower().compile()(variables))
        jax.clear_caches()
    for looped, one_by_one in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(looped, one_by_one, rtol=1e-4, atol=1e-4 * np.abs(one_by_one).max())


@pytest.mark.parametrize("options", [{"norm": "batch"}, {"norm": "group"}, {"noise": True}, {"blocks": 1}])
def test_blocks_with_more_than_convolutions_are_no_loop(monkeypatch, options):
    monkeypatch.setattr(resnet, "_FEWEST_PIXELS", 0)
    module, pictures = _build("resnet", **{"blocks": 2, **options}), _pictures(16, 16)
    assert "scan[" not in str(jax.make_jaxpr(module.apply)(_random(module, pictures), pictures))


def test_blocks_are_unrolled_where_operations_are_counted(monkeypatch):
    monkeypatch.setattr(resnet, "_FEWEST_PIXELS", 0)
    module, pictures = _build("resnet", blocks=2), _pictures(16, 16)
    variables = _random(module, pictures)
    assert "scan[" in str(jax.make_jaxpr(lambda: module.apply(variables, pictures))())
    with blocks.unrolled():
        assert "scan[" not in str(jax.make_jaxpr(lambda: module.apply(variables, pictures))())


def test_unet_has_the_layers_of_the_paper():
    """The paper's table C64-...-C512, with 3x3 kernels instead of 4x4 in the decoder."""
    down = [3, 64, 128, 256, 512, 512, 512, 512, 512]
    table = [(4, i, o) for i, o in itertools.pairwise(down)]
    up = [(512, 512), (1024, 512), (1024, 512), (1024, 512), (1024, 256), (512, 128), (256, 64), (128, 3)]
    table += [(3, i, o) for i, o in up]
    module = base.GENERATORS.build(config.choice("unet"), dtype=jnp.float32)
    assert _count(module, 256) == _parameters(table)


def test_resnet50_has_the_published_encoder():
    """torchvision's resnet50 has 25,557,032 parameters, 2048 x 1000 + 1000 of them in its classifier."""
    module = base.GENERATORS.build(config.choice("resnet50"), dtype=jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    assert base.parameter_count(shapes["params"]["encoder"]) == 25_557_032 - 2_049_000


@pytest.mark.parametrize("name", SMALL)
def test_taps_are_the_encoders_layers(name):
    """They come from one pass, alone or together."""
    module, pictures = _build(name), _pictures(2 * SMALLEST[name], 2 * SMALLEST[name])
    variables = _random(module, pictures)
    activations = jax.jit(lambda v, x: module.apply(v, x, taps=module.taps))(variables, pictures)
    assert set(activations) == set(module.taps)
    assert all(x.shape[0] == 2 and x.ndim == 4 for x in activations.values())
    last = jax.eval_shape(lambda v, x: module.apply(v, x, taps=module.taps[-1:]), variables, pictures)
    assert {name: x.shape for name, x in last.items()} == {module.taps[-1]: activations[module.taps[-1]].shape}


def test_resnets_taps_are_those_of_cut():
    """Layers 0, 4, 8, 12 and 16 in CUT's count: the picture, both halvings, the first and fifth of nine blocks."""
    module = base.GENERATORS.build(config.choice("resnet", blocks=9), dtype=jnp.float32)
    assert module.taps == ("pixels", "down1", "down2", "block1", "block5")


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        # Fifty layers take long to compile; the published network's norm is enough where only fast tests run.
        pytest.param(name, norm, marks=pytest.mark.slow if name == "resnet50" and norm != "batch" else ())
        for name in SMALL
        for norm in ("instance", "batch", "group", "none")
    ],
)
def test_output_has_the_input_size_and_range(name, norm):
    pictures = _pictures(SMALLEST[name] + 13, SMALLEST[name] + 22)
    fake, params = _apply(_build(name, norm=norm), pictures)
    assert fake.shape == pictures.shape and fake.dtype == np.float32
    assert 0.0 <= fake.min() < fake.max() <= 1.0
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    # Parameters far from their initial values stay in range, too.
    factor = 1.5 if name == "resnet50" else 50.0  # values overflow across fifty layers
    large = jax.tree.map(lambda x: factor * x, params)
    fake = np.asarray(_run(_build(name, norm=norm), large, pictures))
    assert np.isfinite(fake).all() and fake.min() >= 0.0 and fake.max() <= 1.0


@pytest.mark.parametrize("name", SMALL)
def test_pictures_are_translated_independently(name):
    module, pictures = _build(name), _pictures(max(16, SMALLEST[name]), 48)
    batch, params = _apply(module, pictures)
    single = _run(module, params, pictures[1:])
    np.testing.assert_allclose(batch[1:], single, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_a_start_at_the_identity_reproduces_the_source(name):
    pictures = _pictures(SMALLEST[name] + 15, SMALLEST[name])
    pictures[0, :4] = 0.0
    pictures[0, 4:8] = 1.0
    fake, _ = _apply(_build(name, start_at_identity=True), pictures)
    np.testing.assert_allclose(fake, pictures, atol=0.02)
    inner = pictures[1].clip(0.02, 0.98)
    np.testing.assert_allclose(fake[1].clip(0.02, 0.98), inner, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_computes_narrow_and_keeps_parameters_wide(name, monkeypatch):
    dtypes = set()
    original = convolutions.conv2d

    def conv2d(x, kernel, **options):
        dtypes.update({x.dtype, kernel.dtype})
        return original(x, kernel, **options)

    monkeypatch.setattr(convolutions, "conv2d", conv2d)
    pictures = _pictures(2 * SMALLEST[name], 2 * SMALLEST[name])
    wide = _build(name)
    narrow = wide.clone(dtype=jnp.bfloat16)
    params = _random(narrow, pictures)
    assert dtypes == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    fakes = [np.asarray(_run(m, params, pictures)) for m in (wide, narrow)]
    assert fakes[1].dtype == np.float32
    difference = np.abs(fakes[0] - fakes[1])
    assert 0.0 < difference.max() < 0.1 and difference.mean() < 0.01


@pytest.mark.parametrize(("name", "smallest"), SMALLEST.items())
def test_too_small_pictures(name, smallest):
    module = _build(name)
    jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, smallest, smallest, 3)))
    with pytest.raises(ValueError, match=f"needs pictures of {smallest} px a side, got {smallest - 1}x{smallest}"):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, smallest - 1, smallest, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(overrides.bundled()))
def test_every_config_traces_at_its_real_size(name):
    cfg = overrides.load(name)
    recipe = Recipe(cfg, paired=cfg.conditional or "l1" in cfg.losses)
    before = jax.eval_shape(lambda: state.create(recipe, jax.random.key(0)))
    after, metrics = summary.trace(recipe)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert _kinds(before) == _kinds(after)
    assert metrics["loss/generator"].shape == () and metrics["loss/generator"].dtype == jnp.float32


def test_a_step_in_bfloat16_keeps_a_wide_state():
    cfg = conftest.small("style_image")
    narrow = overrides.override(cfg, ["compute_dtype=bfloat16"])
    states = [summary.trace(Recipe(c, paired=False))[0] for c in (cfg, narrow)]
    assert _kinds(states[0]) == _kinds(states[1])


def _kinds(tree):
    return [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]


def test_a_picture_size_that_the_network_cannot_take():
    cfg = overrides.override(overrides.load("pix2pix"), ["image_size=128"])
    with pytest.raises(types.InputError, match="image_size=128: the network needs pictures of 256 px"):
        Recipe(cfg, paired=True)


def test_options_have_defaults():
    for name in base.GENERATORS:
        for parameter in base.GENERATORS.options(name, given=["dtype"]).values():
            assert parameter.default is not inspect.Parameter.empty
