"""Winograd's algorithm against SciPy in float64, and the cases in which conv2d uses it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from gqst.ops import convolutions, winograd
from tests.ops import test_convolutions as reference

SIDES = [(6, 8), (7, 4), (5, 9), (1, 2)]
"""Heights and widths of the outputs: even, odd, and smaller than a patch."""


def _arrays(height, width, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"x": (2, height + 2, width + 2, 3), "kernel": (3, 3, 3, 4), "g": (2, height, width, 4)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _correlate(mode, a, b):
    """The correlation of planes (for `full`, the convolution) in float64, summed over the last axis."""
    function = scipy.signal.convolve2d if mode == "full" else scipy.signal.correlate2d
    planes = (np.moveaxis(x.astype(np.float64), -1, 0) for x in (a, b))
    return sum(function(*pair, mode=mode) for pair in zip(*planes, strict=True))


@pytest.mark.parametrize("sides", SIDES)
def test_product(sides):
    x, kernel, _ = _arrays(*sides).values()
    expected = [[_correlate("valid", picture, kernel[..., d]) for d in range(4)] for picture in x]
    reference.close(winograd.product(x, kernel), np.moveaxis(expected, 1, -1), 1e-6)


@pytest.mark.parametrize("sides", SIDES)
def test_input_gradient(sides):
    _, kernel, g = _arrays(*sides).values()
    expected = [[_correlate("full", picture, kernel[..., c, :]) for c in range(3)] for picture in g]
    reference.close(winograd.input_gradient(g, kernel), np.moveaxis(expected, 1, -1), 1e-6)


@pytest.mark.parametrize("sides", SIDES)
def test_kernel_gradient(sides):
    x, _, g = _arrays(*sides).values()
    pictures, gradients = (np.moveaxis(array, 0, -1) for array in (x, g))
    expected = [[_correlate("valid", pictures[:, :, c], gradients[:, :, d]) for d in range(4)] for c in range(3)]
    reference.close(winograd.kernel_gradient(x, g), np.moveaxis(expected, (0, 1), (2, 3)), 1e-6)


def test_conv2d_has_all_derivatives_with_winograd(monkeypatch):
    x, kernel, _ = _arrays(7, 6).values()
    expected = reference.derivatives(reference.plain, x, 0.1 * kernel)
    monkeypatch.setattr(convolutions, "_WINOGRAD_FORWARD", (1, 1))
    monkeypatch.setattr(convolutions, "_WINOGRAD_BACKWARD", (1, 1))
    # Equal layers are traced once: what was traced before, and what is traced here, has other forms.
    jax.clear_caches()
    jax.tree.map(reference.close, reference.derivatives(convolutions.conv2d, x, 0.1 * kernel), expected)
    jax.clear_caches()


def _products(platform, *, side=64, channels=128, size=3, stride=1, dtype=jnp.float32):
    """The numbers of matrix products and convolutions in a lowered convolution with its gradients."""
    x = jax.ShapeDtypeStruct((1, side + size - 1, side + size - 1, channels), dtype)
    kernel = jax.ShapeDtypeStruct((size, size, channels, channels), dtype)
    gradient = jax.grad(lambda x, k: jnp.sin(convolutions.conv2d(x, k, stride=stride)).sum(), (0, 1))
    text = jax.jit(gradient).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    return text.count("stablehlo.dot_general"), text.count("stablehlo.convolution")


def test_cases_in_which_conv2d_uses_winograd():
    assert _products("cpu") == (48, 0)
    assert _products("tpu") == _products("cuda") == (0, 3)
    # With fewer pixels only the gradients use it, with fewer channels only the forward pass, and below that neither.
    assert _products("cpu", side=32) == (32, 1)
    assert _products("cpu", channels=64) == (16, 2)
    assert _products("cpu", side=16) == _products("cpu", channels=32) == (0, 3)
    assert _products("cpu", dtype=jnp.bfloat16) == _products("cpu", size=5) == (0, 3)
    assert _products("cpu", stride=2)[0] == 0
