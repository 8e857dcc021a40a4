"""Shared layers against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gqst.models import blocks


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).random((2, 7, 6, 3), np.float32)


def _normalize(x, kind):
    return blocks.Normalize(kind=kind).apply({}, x)


def _init(module, x):
    return module.init(jax.random.key(0), x)["params"]


@pytest.mark.parametrize("padding", ["reflect", "zero"])
def test_conv_of_a_single_tap_is_the_padded_picture(pictures, padding):
    """A kernel with a single 1 at its edge shows the content of the border."""
    module = blocks.Conv(features=1, size=3, padding=padding)
    kernel = np.zeros((3, 3, 3, 1), np.float32)
    kernel[0, 0, 1, 0] = 1.0
    bias = np.full(1, 0.25, np.float32)
    out = module.apply({"params": {"kernel": kernel, "bias": bias}}, pictures)
    mode = {"reflect": "reflect", "zero": "constant"}[padding]
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode)
    np.testing.assert_allclose(out[..., 0], padded[:, :-2, :-2, 1] + 0.25, atol=1e-6)


def test_sizes_of_convolutions(pictures):
    for module, size in (
        (blocks.Conv(features=4), (7, 6)),
        (blocks.Conv(features=4, size=7, padding="zero"), (7, 6)),
        (blocks.Conv(features=4, stride=2), (4, 3)),
        (blocks.Conv(features=4, size=4, padding="zero"), (6, 5)),
        (blocks.UpConv(features=4), (14, 12)),
    ):
        params = jax.eval_shape(lambda m=module: _init(m, pictures))
        assert jax.eval_shape(module.apply, {"params": params}, pictures).shape == (2, *size, 4)
        assert set(params) == {"kernel", "bias"}


def test_up_convolution_of_a_centre_tap_repeats_pixels(pictures):
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[1, 1] = np.eye(3)
    variables = {"params": {"kernel": kernel, "bias": np.zeros(3, np.float32)}}
    out = blocks.UpConv(features=3).apply(variables, pictures)
    np.testing.assert_allclose(out, pictures.repeat(2, axis=1).repeat(2, axis=2), atol=1e-6)


def test_kernels_start_small(pictures):
    wide = np.zeros((1, 8, 8, 64), np.float32)
    params = jax.jit(lambda: _init(blocks.Conv(features=64), wide))()
    kernel = np.asarray(params["kernel"])
    np.testing.assert_array_equal(params["bias"], 0.0)
    assert abs(kernel.std() - 0.02) < 1e-3 and abs(kernel.mean()) < 1e-3


@pytest.mark.parametrize(("layer", "factor"), [(blocks.Conv, 1), (blocks.UpConv, 4)])
def test_a_bias_in_bfloat16_gets_the_gradient_of_all_pixels(layer, factor):
    """A sum in bfloat16 would stop at 256, where the next number is 258."""
    x = jnp.ones((1, 64, 64, 1))
    module = layer(features=1, dtype=jnp.bfloat16)
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(module.apply({"params": params}, x).astype(jnp.float32))))
    assert float(gradient(_init(module, x))["bias"][0]) == factor * 64 * 64


def test_instance_norm(pictures):
    x = 3.0 * pictures + 1.0
    wide = x.astype(np.float64)
    mean, deviation = wide.mean((1, 2), keepdims=True), np.sqrt(wide.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(_normalize(x, "instance"), (wide - mean) / deviation, atol=1e-5)
    assert _normalize(x, "none") is x
    narrow = jnp.asarray(x, jnp.bfloat16)
    assert _normalize(narrow, "instance").dtype == jnp.bfloat16


def test_instance_norm_has_the_derivatives_of_its_formula(pictures):
    def formula(x):
        mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
        return (x - mean) / jnp.sqrt(variance + 1e-5)

    def derivatives(norm):
        def gradient(x):
            return jax.grad(lambda x: jnp.sum(jnp.sin(3.0 * norm(x))))(x)

        return gradient(pictures), jax.grad(lambda x: jnp.sum(gradient(x) ** 2))(pictures)

    for actual, expected in zip(derivatives(lambda x: _normalize(x, "instance")), derivatives(formula), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("layer", [blocks.Conv, blocks.UpConv])
@pytest.mark.parametrize(("norm", "learns"), [("instance", False), ("batch", False), ("group", True), ("none", True)])
def test_a_bias_that_the_norm_cancels_has_no_gradient(pictures, layer, norm, learns):
    module = layer(features=4, before_norm=norm)
    params = _init(module, pictures)
    gradient = jax.grad(lambda params: jnp.sum(module.apply({"params": params}, pictures) ** 2))(params)
    assert bool(jnp.any(gradient["bias"] != 0.0)) == learns
    assert jnp.any(gradient["kernel"] != 0.0)
    shifted = params | {"bias": params["bias"] + 0.5}
    np.testing.assert_allclose(
        module.apply({"params": shifted}, pictures), module.apply({"params": params}, pictures) + 0.5, atol=1e-6
    )


def test_batch_norm(pictures):
    """Training normalises by the batch's statistics and updates the averages, evaluation normalises by the averages."""
    x = 3.0 * pictures + 1.0
    module = blocks.Normalize(kind="batch")
    variables = module.init(jax.random.key(0), x, train=True)
    mean, variance = x.astype(np.float64).mean((0, 1, 2)), x.astype(np.float64).var((0, 1, 2))
    out, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(out, (x - mean) / np.sqrt(variance + 1e-5), atol=1e-4)
    (averages,) = updated["batch_stats"].values()
    np.testing.assert_allclose(averages["mean"], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(averages["var"], 0.9 + 0.1 * variance, rtol=1e-5)
    out = module.apply({**variables, **updated}, x)
    np.testing.assert_allclose(out, (x - 0.1 * mean) / np.sqrt(0.9 + 0.1 * variance + 1e-5), atol=1e-4)


def test_group_norm():
    """Statistics per picture and group of channels: 32 groups, or the most below that divide the channels."""
    rng = np.random.default_rng(0)
    for channels, groups in ((64, 32), (48, 24), (8, 8), (7, 7)):
        x = rng.normal(2.0, 3.0, (2, 5, 4, channels)).astype(np.float32)
        module = blocks.Normalize(kind="group")
        out = module.apply(module.init(jax.random.key(0), x), x)
        split = x.astype(np.float64).reshape(2, 20, groups, -1)
        mean, variance = split.mean((1, 3), keepdims=True), split.var((1, 3), keepdims=True)
        expected = ((split - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
        np.testing.assert_allclose(out, expected, atol=1e-4)


def test_instance_norm_of_a_flat_picture_is_zero_with_a_finite_gradient():
    flat = jnp.full((1, 4, 4, 2), 0.7)
    np.testing.assert_allclose(_normalize(flat, "instance"), 0.0, atol=1e-3)
    gradient = jax.grad(lambda x: jnp.sum(_normalize(x, "instance") ** 2 + x))(flat)
    assert np.isfinite(gradient).all()


def test_padding_to_a_multiple_reflects_at_the_end(pictures):
    out = blocks.pad_to_multiple(pictures, 4)
    np.testing.assert_array_equal(out, np.pad(pictures, ((0, 0), (0, 1), (0, 2), (0, 0)), mode="reflect"))
    np.testing.assert_array_equal(blocks.pad_to_multiple(pictures, 1), pictures)
    with pytest.raises(ValueError, match="8 px a side, got 7x6"):
        blocks.pad_to_multiple(pictures, 8)


def test_pictures_from_activations():
    change = np.linspace(-9, 9, 24, dtype=np.float32).reshape(1, 2, 4, 3)
    out = np.asarray(blocks.to_picture(change, None))
    np.testing.assert_allclose(out, (1 + np.tanh(change.astype(np.float64))) / 2, atol=1e-6)
    source = np.linspace(0, 1, 24, dtype=np.float32).reshape(1, 2, 4, 3)
    np.testing.assert_allclose(blocks.to_picture(np.zeros_like(change), source), source.clip(0.02, 0.98), atol=1e-6)
    clipped = np.clip(source.astype(np.float64), 0.02, 0.98)
    logit = np.log(clipped / (1 - clipped)) + 2.0 * change
    np.testing.assert_allclose(blocks.to_picture(change, source), 1 / (1 + np.exp(-logit)), atol=1e-6)
    np.testing.assert_allclose(blocks.centre(source), 2.0 * source - 1.0)
