"""Convolutions against XLA's own, in values and in first and second derivatives, and once against SciPy."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from jax import lax

from gqst.ops import convolutions


def close(actual, expected, tolerance=2e-5):
    """Asserts equality up to a fraction of the largest value: reordered sums differ on that scale."""
    actual, expected = (np.asarray(x, np.float32) for x in (actual, expected))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# size (h, w), kernel (h, w), inputs, outputs, stride: wide and narrow forms, odd sizes, pixels past the last window.
CASES = [
    ((6, 5), (1, 1), 4, 6, 1),
    ((9, 7), (3, 3), 5, 4, 1),
    ((8, 9), (4, 4), 4, 6, 1),
    ((9, 8), (7, 7), 3, 24, 1),
    ((8, 7), (7, 7), 24, 3, 1),
    ((9, 8), (2, 3), 8, 1, 1),
    ((7, 6), (1, 1), 4, 6, 2),
    ((9, 9), (3, 3), 4, 6, 2),
    ((10, 8), (3, 3), 16, 2, 2),
    ((10, 12), (4, 4), 3, 8, 2),
    ((11, 9), (4, 4), 6, 4, 2),
    ((12, 13), (7, 7), 3, 4, 2),
]


def normal(seed, *shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def plain(x, kernel, stride=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=numbers)


def plain_upsample(x, kernel):
    x = x.repeat(2, 1).repeat(2, 2)
    return plain(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge"), kernel)


def derivatives(function, x, kernel):
    """The value, both gradients, and both gradients of a gradient penalty, compiled once."""

    def loss(x, kernel):
        return jnp.sin(function(x, kernel)).sum()

    def penalty(x, kernel):
        gradients = jax.grad(loss, (0, 1))(x, kernel)
        return sum(jnp.mean(gradient**2) for gradient in gradients)

    @jax.jit
    def run(x, kernel):
        first, second = (jax.grad(f, (0, 1))(x, kernel) for f in (loss, penalty))
        return function(x, kernel), first, second

    return run(x, kernel)


@pytest.mark.parametrize(("size", "window", "inputs", "outputs", "stride"), CASES)
def test_value_and_derivatives_match_xla(size, window, inputs, outputs, stride):
    x, kernel = normal(0, 2, *size, inputs), 0.1 * normal(1, *window, inputs, outputs)
    ours = derivatives(functools.partial(convolutions.conv2d, stride=stride), x, kernel)
    jax.tree.map(close, ours, derivatives(functools.partial(plain, stride=stride), x, kernel))


@pytest.mark.parametrize(("size", "inputs", "outputs"), [((4, 5), 3, 4), ((1, 3), 2, 2)])
def test_upsample_matches_the_enlarged_image(size, inputs, outputs):
    x, kernel = normal(0, 2, *size, inputs), 0.3 * normal(1, 3, 3, inputs, outputs)
    ours = derivatives(convolutions.upsample_conv2d, x, kernel)
    jax.tree.map(close, ours, derivatives(plain_upsample, x, kernel))


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (16, 2)])
def test_matches_scipy(inputs, outputs):
    x, kernel = normal(0, 1, 8, 9, inputs), normal(1, 3, 4, inputs, outputs)
    expected = [
        sum(scipy.signal.correlate2d(x[0, :, :, c], kernel[:, :, c, d], "valid") for c in range(inputs))
        for d in range(outputs)
    ]
    close(convolutions.conv2d(x, kernel)[0], np.stack(expected, -1))


@pytest.mark.parametrize("function", [convolutions.conv2d, convolutions.upsample_conv2d])
def test_bfloat16_keeps_its_type_and_is_near_float32(function):
    x, kernel = normal(0, 2, 6, 6, 8), 0.1 * normal(1, 3, 3, 8, 8)
    narrow = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    ours = derivatives(function, *narrow)
    assert all(a.dtype == jnp.bfloat16 for a in jax.tree.leaves(ours))
    # 8 bits of mantissa, rounded after each of up to five successive products.
    jax.tree.map(functools.partial(close, tolerance=0.05), ours, derivatives(function, x, kernel))


def test_vmap_over_images_and_kernels():
    x, kernel = normal(0, 3, 2, 7, 7, 4), normal(1, 3, 3, 3, 4, 4)
    gradient = jax.grad(lambda x, k: jnp.sin(convolutions.conv2d(x, k, stride=2)).sum(), (0, 1))
    expected = jax.tree.map(lambda *a: jnp.stack(a), *[gradient(a, b) for a, b in zip(x, kernel, strict=True)])
    jax.tree.map(close, jax.jit(jax.vmap(gradient))(x, kernel), expected)


def test_scan_over_kernels():
    x, kernels = normal(0, 1, 5, 5, 4), 0.2 * normal(1, 3, 1, 1, 4, 4)

    def last(kernels, conv):
        return lax.scan(lambda x, k: (conv(x, k), None), x, kernels)[0].sum()

    ours, expected = (jax.grad(last)(kernels, conv) for conv in (convolutions.conv2d, plain))
    close(ours, expected)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the order of axes of the form for CPU")
@pytest.mark.parametrize(
    ("size", "inputs", "outputs", "stride"), [(3, 8, 8, 1), (7, 3, 24, 1), (4, 4, 8, 2), (1, 8, 8, 2)]
)
def test_convolutions_in_loops_have_the_order_of_axes_that_is_fast_on_cpu(size, inputs, outputs, stride):
    x, kernels = normal(0, 1, 20, 20, inputs), normal(1, 2, size, size, inputs, outputs)

    def loss(x, kernels):
        conv = functools.partial(convolutions.conv2d, stride=stride)
        return lax.scan(lambda total, kernel: (total + jnp.sum(conv(x, kernel) ** 2), None), 0.0, kernels)[0]

    text = jax.jit(jax.grad(loss, (0, 1))).lower(x, kernels).compile().as_text()
    assert " while(" in text
    assert set(re.findall(r"dim_labels=(\S+?)[,\s]", text)) == {"b01f_01io->b01f"}


@pytest.mark.skipif(jax.device_count() < 2, reason="needs several devices")
def test_keeps_the_batch_sharding():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    shard = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x, kernel = normal(0, 4, 8, 8, 4), normal(1, 3, 3, 4, 4)
    step = jax.jit(jax.grad(lambda x, k: jnp.sin(convolutions.upsample_conv2d(x, k)).sum(), (0, 1)))
    sharded = jax.device_put(x, shard)
    text = step.lower(sharded, kernel).compile().as_text()
    assert not any(f" {name}(" in text for name in ("all-gather", "all-to-all", "collective-permute"))
    assert step(sharded, kernel)[0].sharding.is_equivalent_to(shard, 4)
    jax.tree.map(close, step(sharded, kernel), step(x, kernel))


@pytest.mark.parametrize(("platform", "convolutions_in_text"), [("cpu", 0), ("tpu", 3), ("cuda", 3)])
def test_the_platform_decides_the_form(platform, convolutions_in_text):
    gradient = jax.grad(lambda x, k: jnp.sin(convolutions.upsample_conv2d(x, k)).sum(), (0, 1))
    traced = jax.jit(gradient).trace(normal(0, 1, 5, 5, 4), normal(1, 3, 3, 4, 4))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == convolutions_in_text


@pytest.mark.parametrize(("platform", "kernel"), [("cpu", "1x5x16x10xf32"), ("tpu", "5x5x16x2xf32")])
def test_narrow_kernels_go_row_by_row_on_cpu(platform, kernel):
    traced = jax.jit(convolutions.conv2d).trace(normal(0, 1, 8, 8, 16), normal(1, 5, 5, 16, 2))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    (line,) = (line for line in text.splitlines() if "stablehlo.convolution" in line)
    assert f"tensor<{kernel}>" in line


@pytest.mark.parametrize(
    ("shape", "stride", "message"),
    [((3, 3, 4, 4), 3, "stride"), ((3, 3, 5, 4), 1, "channels"), ((9, 3, 4, 4), 1, "larger")],
)
def test_arguments_that_do_not_fit(shape, stride, message):
    with pytest.raises(ValueError, match=message):
        convolutions.conv2d(normal(0, 1, 8, 8, 4), normal(1, *shape), stride=stride)


def test_upsample_refuses_kernels_other_than_3x3():
    with pytest.raises(ValueError, match="3x3"):
        convolutions.upsample_conv2d(normal(0, 1, 8, 8, 4), normal(1, 4, 4, 4, 4))
