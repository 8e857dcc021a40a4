"""Winograd's form of 3x3 convolutions: against SciPy in float64, and where conv2d takes it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from gqst.ops import convolutions, winograd
from tests.ops import test_convolutions as others

SIDES = [(6, 8), (7, 4), (5, 9), (1, 2)]
"""Of the outputs: even, odd, and less than a patch."""


def _given(height, width, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"x": (2, height + 2, width + 2, 3), "kernel": (3, 3, 3, 4), "g": (2, height, width, 4)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _summed(mode, one, other):
    """Correlation, or `full` convolution, of planes in float64, summed over the last axis."""
    function = scipy.signal.convolve2d if mode == "full" else scipy.signal.correlate2d
    planes = (np.moveaxis(x.astype(np.float64), -1, 0) for x in (one, other))
    return sum(function(*pair, mode=mode) for pair in zip(*planes, strict=True))


@pytest.mark.parametrize("sides", SIDES)
def test_product(sides):
    x, kernel, _ = _given(*sides).values()
    want = [[_summed("valid", one, kernel[..., d]) for d in range(4)] for one in x]
    others.close(winograd.product(x, kernel), np.moveaxis(want, 1, -1), 1e-6)


@pytest.mark.parametrize("sides", SIDES)
def test_input_gradient(sides):
    _, kernel, g = _given(*sides).values()
    want = [[_summed("full", one, kernel[..., c, :]) for c in range(3)] for one in g]
    others.close(winograd.input_gradient(g, kernel), np.moveaxis(want, 1, -1), 1e-6)


@pytest.mark.parametrize("sides", SIDES)
def test_kernel_gradient(sides):
    x, _, g = _given(*sides).values()
    pictures, gradients = (np.moveaxis(given, 0, -1) for given in (x, g))
    want = [[_summed("valid", pictures[:, :, c], gradients[:, :, d]) for d in range(4)] for c in range(3)]
    others.close(winograd.kernel_gradient(x, g), np.moveaxis(want, (0, 1), (2, 3)), 1e-6)


def test_conv2d_with_it_has_all_derivatives(monkeypatch):
    x, kernel, _ = _given(7, 6).values()
    want = others.derivatives(others.plain, x, 0.1 * kernel)
    monkeypatch.setattr(convolutions, "_FORWARD", (1, 1))
    monkeypatch.setattr(convolutions, "_BACKWARD", (1, 1))
    jax.tree.map(others.close, others.derivatives(convolutions.conv2d, x, 0.1 * kernel), want)


def _products(platform, *, side=64, channels=128, size=3, stride=1, dtype=jnp.float32):
    """How many matrix products and convolutions there are in a convolution with its gradients."""
    x = jax.ShapeDtypeStruct((1, side + size - 1, side + size - 1, channels), dtype)
    kernel = jax.ShapeDtypeStruct((size, size, channels, channels), dtype)
    gradient = jax.grad(lambda x, k: jnp.sin(convolutions.conv2d(x, k, stride=stride)).sum(), (0, 1))
    text = jax.jit(gradient).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    return text.count("stablehlo.dot_general"), text.count("stablehlo.convolution")


def test_where_conv2d_takes_it():
    assert _products("cpu") == (48, 0)
    assert _products("tpu") == _products("cuda") == (0, 3)
    # Few pixels, channels: at first it is not worth it forwards, then not at all.
    assert _products("cpu", side=32) == (32, 1)
    assert _products("cpu", channels=64) == (16, 2)
    assert _products("cpu", side=16) == _products("cpu", channels=32) == (0, 3)
    assert _products("cpu", dtype=jnp.bfloat16) == _products("cpu", size=5) == (0, 3)
    assert _products("cpu", stride=2)[0] == 0
