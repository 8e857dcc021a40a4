"""Patches, scales, spectral norm and published parameter counts of discriminators."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gqst import config
from gqst.models import base, blocks

SMALL = {
    "patch": {"filters": 8, "layers": 2},
    "multiscale": {"filters": 8, "layers": 1, "scales": 2},
    "pixel": {"filters": 8},
    "resnet50": {"filters": 4, "norm": "instance"},
}
CONVOLUTIONS = {"patch": 4, "multiscale": 6, "pixel": 3}
SPECTRAL = [(name, on) for name in SMALL for on in (False, True) if name in CONVOLUTIONS or not on]


def _build(name: str, **options):
    choice = config.choice(name, **{**SMALL[name], **options})
    return base.DISCRIMINATORS.build(choice, dtype=jnp.float32)


def _init(module, pictures):
    return jax.jit(module.init)(jax.random.key(0), pictures)


def _run(module, variables, pictures):
    return jax.jit(module.apply)(variables, pictures)


def _pictures(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((2, height, width, channels), np.float32)


def _count(module, channels: int) -> int:
    picture = jnp.zeros((1, 256, 256, channels))
    return base.parameter_count(jax.eval_shape(module.init, jax.random.key(0), picture))


def test_every_discriminator_is_tested_here():
    assert set(SMALL) | {"projected"} == set(base.DISCRIMINATORS)


@pytest.mark.parametrize(("channels", "published"), [(3, 2_764_737), (6, 2_767_809)])
def test_patch_has_the_published_number_of_parameters(channels, published):
    table = [(channels, 64), (64, 128), (128, 256), (256, 512), (512, 1)]  # C64-C128-C256-C512 and the logit
    assert sum(4 * 4 * i * o + o for i, o in table) == published
    module = base.DISCRIMINATORS.build(config.choice("patch"), dtype=jnp.float32)
    assert _count(module, channels) == published
    multiscale = base.DISCRIMINATORS.build(config.choice("multiscale"), dtype=jnp.float32)
    assert _count(multiscale, channels) == 3 * published


@pytest.mark.parametrize(("layers", "patch"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_a_patch(layers, patch):
    """Without instance norm, whose means see the whole picture."""
    module = _build("patch", layers=layers, norm="none", filters=4)
    pictures = _pictures(112, 112)[:1]
    variables = _init(module, pictures)

    def centre(x):
        logits = module.apply(variables, x).logits[0]
        return logits[0, logits.shape[1] // 2, logits.shape[2] // 2, 0]

    visible = np.asarray(jax.jit(jax.grad(centre))(pictures)).any(axis=(0, 3))
    assert visible.any(0).sum() == visible.any(1).sum() == patch
    assert visible.sum() == patch**2


def test_shapes_of_a_verdict():
    pictures = _pictures(33, 46)
    module = _build("patch", norm="instance")
    verdict = _run(module, _init(module, pictures), pictures)
    # Two halvings, rounded down, then one pixel less twice.
    assert [x.shape for x in verdict.logits] == [(2, 6, 9, 1)]
    assert [x.shape for x in verdict.activations[0]] == [(2, 16, 23, 8), (2, 8, 11, 16), (2, 7, 10, 32)]


def test_each_scale_judges_the_picture_at_half_the_size():
    pictures = _pictures(32, 33)
    module = _build("multiscale")
    variables = _init(module, pictures)
    verdict = _run(module, variables, pictures)
    assert [x.shape for x in verdict.logits] == [(2, 14, 14, 1), (2, 6, 6, 1)]
    assert len(verdict.activations) == 2
    half = pictures[:, :, :32].reshape(2, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    patch = _build("patch", layers=1)
    second = sorted(variables["params"])[1]
    expected = _run(patch, {"params": variables["params"][second]}, half)
    np.testing.assert_allclose(verdict.logits[1], expected.logits[0], atol=1e-5)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_spectral_norm_leaves_a_largest_singular_value_of_one(name, monkeypatch):
    module, pictures = _build(name, spectral_norm=True), _pictures(32, 32)
    variables = _init(module, pictures)
    params, stats = variables["params"], {"batch_stats": variables["batch_stats"]}
    advance = jax.jit(
        lambda stats: module.apply({"params": params, **stats}, pictures, update_stats=True, mutable=list(stats))[1],
    )
    for _ in range(60):
        stats = advance(stats)
    kernels = []
    original = blocks.convolutions.conv2d

    def conv2d(x, kernel, **options):
        kernels.append(kernel)
        return original(x, kernel, **options)

    monkeypatch.setattr(blocks.convolutions, "conv2d", conv2d)

    def normalized_kernels(stats):
        module.apply({"params": params, **stats}, pictures)
        return kernels

    normalized = jax.jit(normalized_kernels)(stats)
    assert len(normalized) == CONVOLUTIONS[name]
    for kernel in normalized:
        largest = np.linalg.svd(np.asarray(kernel).reshape(-1, kernel.shape[-1]), compute_uv=False)[0]
        assert abs(largest - 1.0) < 0.01


def test_spectral_norm_is_updated_only_on_request():
    module, pictures = _build("patch", spectral_norm=True), _pictures(32, 32)
    variables = _init(module, pictures)
    assert set(variables) == {"params", "batch_stats"}

    def stats(update):
        apply = functools.partial(module.apply, update_stats=update, mutable=["batch_stats"])
        return jax.jit(apply)(variables, pictures)[1]

    unchanged, updated = stats(False), stats(True)
    before = jax.tree.leaves(variables["batch_stats"])
    assert all(map(np.array_equal, before, jax.tree.leaves(unchanged["batch_stats"])))
    assert not all(map(np.array_equal, before, jax.tree.leaves(updated["batch_stats"])))


@pytest.mark.parametrize(("name", "spectral_norm"), SPECTRAL)
def test_bfloat16_computes_narrow_and_returns_wide_logits(name, spectral_norm):
    wide = _build(name, **({"spectral_norm": True} if spectral_norm else {}))
    module, pictures = wide.clone(dtype=jnp.bfloat16), _pictures(64, 64)
    variables = _init(module, pictures)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    narrow, reference = (_run(m, variables, pictures) for m in (module, wide))
    assert {x.dtype for x in narrow.logits} == {jnp.dtype(jnp.float32)}
    assert {x.dtype for scale in narrow.activations for x in scale} == {jnp.dtype(jnp.bfloat16)}
    for logits, expected in zip(narrow.logits, reference.logits, strict=True):
        assert 0.0 < np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize(("name", "smallest", "got"), [("patch", 16, "15x16"), ("multiscale", 16, "7x8")])
def test_too_small_pictures(name, smallest, got):
    module = _build(name)
    jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, smallest, smallest, 3)))
    with pytest.raises(ValueError, match=f"px a side, got {got}"):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, smallest - 1, smallest, 3)))


def test_pixel_sees_one_pixel_and_has_the_layers_of_the_paper():
    """1x1 convolutions C64-C128 and the logit."""
    module = base.DISCRIMINATORS.build(config.choice("pixel"), dtype=jnp.float32)
    assert _count(module, 3) == 3 * 64 + 64 + 64 * 128 + 128 + 128 + 1
    module, pictures = _build("pixel", norm="none"), _pictures(9, 7)[:1]
    variables = _init(module, pictures)
    assert module.apply(variables, pictures).logits[0].shape == (1, 9, 7, 1)
    gradient = jax.grad(lambda x: module.apply(variables, x).logits[0][0, 4, 3, 0])(pictures)
    assert np.argwhere(np.asarray(gradient).any(axis=(0, 3))).tolist() == [[4, 3]]


def test_resnet50_has_one_logit_per_picture():
    module = base.DISCRIMINATORS.build(config.choice("resnet50"), dtype=jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    assert base.parameter_count(shapes["params"]) == 25_557_032 - 2_049_000 + 2048 + 1
    module, pictures = _build("resnet50"), _pictures(64, 96)
    verdict = _run(module, _init(module, pictures), pictures)
    assert [x.shape for x in verdict.logits] == [(2, 1, 1, 1)]
    assert [x.shape[1:3] for x in verdict.activations[0]] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize("name", SMALL)
def test_a_conditional_discriminator_sees_two_pictures(name):
    module = _build(name)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 64, 64, 6)))
    verdict = jax.eval_shape(module.apply, shapes, jnp.zeros((1, 64, 64, 6)))
    assert {x.shape[-1] for x in verdict.logits} == {1}


@pytest.mark.parametrize("name", SMALL)
def test_batch_norm_takes_the_batchs_own_statistics(name):
    """Discriminators are used in training only."""
    module, pictures = _build(name, norm="batch"), _pictures(64, 64)
    variables = _init(module, pictures)
    assert set(variables) == {"params", "batch_stats"}
    judge = jax.jit(lambda x: module.apply(variables, x, mutable=["batch_stats"])[0].logits)
    batch, single = judge(pictures)[0][:1], judge(pictures[:1])[0]
    assert np.abs(batch - single).max() > 1e-4


def test_projected_has_a_head_for_each_layer_of_the_features():
    module = base.DISCRIMINATORS.build(config.choice("projected", filters=8), dtype=jnp.float32)
    network, layers = module.wants
    assert (network, layers) == ("vgg16", ("relu1_2", "relu2_2", "relu3_3", "relu4_1"))
    rng = np.random.default_rng(0)
    features = {layer: rng.random((2, 32 // 2**n, 48 // 2**n, 4 * 2**n), np.float32) for n, layer in enumerate(layers)}
    pictures = _pictures(32, 48)
    variables = jax.jit(lambda: module.init(jax.random.key(0), pictures, features=features))()
    judge = jax.jit(lambda pictures, features: module.apply(variables, pictures, features=features))
    verdict = judge(pictures, features)
    assert [x.shape for x in verdict.logits] == [(2, 16, 24, 1), (2, 8, 12, 1), (2, 4, 6, 1), (2, 2, 3, 1)]
    # Neither the pictures nor the scale of the features matter.
    scaled = judge(pictures[::-1], {layer: 7.0 * x for layer, x in features.items()})
    for logits, expected in zip(scaled.logits, verdict.logits, strict=True):
        np.testing.assert_allclose(logits, expected, atol=1e-3)
