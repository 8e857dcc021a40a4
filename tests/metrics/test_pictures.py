"""Quality of single pictures against scikit-image and SciPy, on real pictures."""

from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage.metrics
from PIL import Image

from gqst import metrics
from gqst.ops import color

PHOTOS = resources.files("gqst.data") / "demo" / "photos" / "train"


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """Three photographs of odd size, f32[3 61 75 3] in [0, 1]."""
    names = ("astronaut", "flower", "rocket")
    images = [Image.open(str(PHOTOS / f"{name}.jpg")).convert("RGB").resize((75, 61)) for name in names]
    return np.stack([np.asarray(image) for image in images]).astype(np.float32) / 255.0


@pytest.fixture(scope="module")
def damaged(photos) -> np.ndarray:
    """The photographs with noise, blur and another exposure."""
    noise = np.random.default_rng(0).normal(0.0, 0.05, photos[0].shape)
    return (
        np.stack([photos[0] + noise, scipy.ndimage.gaussian_filter(photos[1], (1, 1, 0)), 0.7 * photos[2] + 0.1])
        .clip(0.0, 1.0)
        .astype(np.float32)
    )


def _reference_ssim(one, other) -> float:
    # dm-pix averages over the windows that lie inside the picture.
    _, whole = skimage.metrics.structural_similarity(
        one.astype(np.float64),
        other.astype(np.float64),
        data_range=1.0,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return whole[5:-5, 5:-5].mean()


def _reference_structure(one, other) -> float:
    """Equation 6 of Wang et al. 2004 without the luminance, on BT.601 luma."""
    x, y = (np.float64(p) @ [0.299, 0.587, 0.114] for p in (one, other))

    def blur(image):
        return scipy.ndimage.gaussian_filter(image, 1.5, truncate=3.5)[5:-5, 5:-5]

    mx, my = blur(x), blur(y)
    vx, vy, covariance = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c2 = 0.03**2
    return ((2 * covariance + c2) / (vx + vy + c2)).mean()


def test_ssim_is_that_of_scikit_image(photos, damaged):
    expected = [_reference_ssim(*pair) for pair in zip(photos, damaged, strict=True)]
    actual = np.asarray(jax.jit(metrics.ssim)(photos, damaged))
    assert actual.dtype == np.float32 and actual.shape == (3,)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    assert 0.1 < min(expected) < max(expected) < 0.98


def test_psnr_is_that_of_scikit_image(photos, damaged):
    expected = [
        skimage.metrics.peak_signal_noise_ratio(*pair, data_range=1.0) for pair in zip(photos, damaged, strict=True)
    ]
    np.testing.assert_allclose(metrics.psnr(photos, damaged), expected, atol=1e-4)


def test_contrast_structure_is_that_of_the_equation(photos, damaged):
    expected = [_reference_structure(*pair) for pair in zip(photos, damaged, strict=True)]
    np.testing.assert_allclose(jax.jit(metrics.contrast_structure)(photos, damaged), expected, atol=1e-4)


def test_contrast_structure_forgives_colour_and_not_inversion(photos):
    shifted = 0.8 * photos + np.array([0.15, 0.05, 0.0], np.float32)
    structure = jax.jit(metrics.contrast_structure)
    assert (np.asarray(structure(photos, shifted)) > 0.95).all()
    inverted = np.asarray(structure(photos, 1.0 - photos))
    assert (inverted[:2] < -0.3).all()
    # The third is mostly empty sky: windows without contrast count as 1 whatever becomes of them.
    assert inverted[2] < 0.3


def test_bounds(photos):
    for name in ("ssim", "contrast_structure"):
        metric = jax.jit(metrics.METRICS[name])
        np.testing.assert_allclose(metric(photos, photos), 1.0, atol=1e-5)
        others = np.roll(photos, 1, axis=0)
        assert (np.abs(metric(photos, others)) < 0.9).all()
        np.testing.assert_allclose(metric(photos, others), metric(others, photos), atol=1e-5)
    assert np.isposinf(metrics.psnr(photos, photos)).all()


def test_black_against_white_by_hand():
    black, white = np.zeros((1, 12, 11, 3), np.float32), np.ones((1, 12, 11, 3), np.float32)
    # No structure at all: what is left of SSIM is the luminance factor c1 / (1 + c1).
    np.testing.assert_allclose(jax.jit(metrics.ssim)(black, white), 1e-4 / (1 + 1e-4), rtol=1e-3)
    np.testing.assert_allclose(jax.jit(metrics.contrast_structure)(black, white), 1.0, atol=1e-5)
    np.testing.assert_allclose(metrics.psnr(black, white), 0.0, atol=1e-5)


def test_log_mse(photos, damaged):
    error = ((photos.astype(np.float64) - damaged) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(metrics.log_mse(photos, damaged), np.log(error), rtol=1e-5)
    np.testing.assert_allclose(
        metrics.log_mse(photos, damaged), metrics.psnr(photos, damaged) * -np.log(10) / 10, rtol=1e-5
    )
    np.testing.assert_allclose(metrics.log_mse(photos, photos), np.log(1e-5), rtol=1e-6)
    np.testing.assert_allclose(metrics.log_mse(photos, photos, floor=0.1), np.log(0.1), rtol=1e-6)


def test_luma_is_that_of_pillow(photos):
    image = Image.fromarray((photos[0] * 255).round().astype(np.uint8)).convert("L")
    np.testing.assert_allclose(color.luma(photos)[0, :, :, 0], np.asarray(image) / 255, atol=1.1 / 255)


@pytest.mark.parametrize("name", ["ssim", "contrast_structure"])
@pytest.mark.parametrize("shape", [(10, 64), (64, 10)])
def test_pictures_smaller_than_the_window(name, shape):
    small = jnp.ones((1, *shape, 3))
    with pytest.raises(ValueError, match=f"at least 11 px a side, got {shape[0]}x{shape[1]}"):
        metrics.METRICS[name](small, small)


@pytest.mark.parametrize("name", ["ssim", "contrast_structure", "psnr"])
def test_narrow_pictures_are_measured_wide(name, photos):
    """bfloat16 has 8 bits, so that pictures in it are exact if they have 6."""
    coarse = np.round(photos * 64) / 64
    other = np.round(photos[::-1] * 64) / 64
    metric = jax.jit(metrics.METRICS[name])
    narrow = metric(jnp.asarray(coarse, jnp.bfloat16), jnp.asarray(other, jnp.bfloat16))
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, metric(coarse, other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ssim", "contrast_structure", "log_mse"])
def test_gradients_are_finite(name, photos):
    """Everywhere except psnr's where both are equal; black, white and grey pictures too."""
    flats = [np.full_like(photos[0], value) for value in (0.0, 0.5, 1.0)]
    ones = np.stack([photos[0], *flats, flats[0], flats[2], photos[1]])
    others = np.stack([photos[0], *flats, flats[2], photos[1], flats[0]])
    metric = getattr(metrics, name)
    gradient = jax.jit(jax.grad(lambda x, y: jnp.sum(metric(x, y)), argnums=(0, 1)))(ones, others)
    assert np.isfinite(gradient).all()


@pytest.fixture(scope="module")
def large() -> tuple[np.ndarray, np.ndarray]:
    """A photograph of odd size that takes five scales, and it blurred with noise; f32[1 211 187 3]."""
    image = Image.open(str(PHOTOS / "astronaut.jpg")).convert("RGB").resize((187, 211))
    photo = np.asarray(image, np.float32) / 255.0
    noise = np.random.default_rng(0).normal(0.0, 0.05, photo.shape)
    spoilt = (scipy.ndimage.gaussian_filter(photo, (1, 1, 0)) + noise).clip(0.0, 1.0).astype(np.float32)
    return photo[None], spoilt[None]


def _scale(one, other, *, luminance: bool) -> float:
    """SSIM by its definition over channels with SciPy's filter, windows inside the picture only."""
    x, y = one.astype(np.float64), other.astype(np.float64)

    def blur(z):
        return scipy.ndimage.gaussian_filter(z, (1.5, 1.5, 0), truncate=3.5)[5:-5, 5:-5]

    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    value = (2 * vxy + 0.03**2) / (vx + vy + 0.03**2)
    if luminance:
        value = value * (2 * mx * my + 0.01**2) / (mx * mx + my * my + 0.01**2)
    return value.mean()


def test_ms_ssim_is_the_product_of_its_scales(large):
    one, other = (x[0].astype(np.float64) for x in large)
    expected = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        expected *= _scale(one, other, luminance=scale == 4) ** weight
        height, width = (side // 2 * 2 for side in one.shape[:2])
        one, other = (x[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3)) for x in (one, other))
    got = jax.jit(metrics.ms_ssim)(*large)
    assert float(got[0]) == pytest.approx(expected, abs=1e-4)


def test_ms_ssim_has_bounds_and_finite_gradients(large):
    photo, spoilt = large
    value = jax.jit(jax.value_and_grad(lambda x, y: metrics.ms_ssim(x, y)[0]))
    for other, least, most in ((photo, 0.9999, 1.0001), (spoilt, 0.3, 0.99), (1.0 - photo, 0.0, 0.3)):
        got, gradient = value(jnp.asarray(other), jnp.asarray(photo))
        assert least <= got <= most and np.isfinite(gradient).all()
    with pytest.raises(ValueError, match="MS-SSIM needs at least 176 px a side, got 175x176"):
        metrics.ms_ssim(jnp.zeros((1, 175, 176, 3)), jnp.zeros((1, 175, 176, 3)))


def test_pixel_accuracy_by_hand():
    one = np.zeros((2, 2, 2, 3), np.float32)
    other = one.copy()
    other[0, 0, 0] = [0.05, 0.05, 0.0]  # within
    other[0, 0, 1, 2] = 0.06  # one channel is enough
    other[0, 1] = 1.0
    np.testing.assert_allclose(metrics.pixel_accuracy(one, other), [0.25, 1.0])
    np.testing.assert_allclose(metrics.pixel_accuracy(one, other, tolerance=0.1), [0.5, 1.0])


def test_color_shift_by_hand():
    flat = np.broadcast_to(np.float32([0.2, 0.5, 0.4]), (1, 8, 8, 3))
    other = np.broadcast_to(np.float32([0.2, 0.8, 0.8]), (1, 8, 8, 3))
    np.testing.assert_allclose(metrics.color_shift(flat, other), [0.5], atol=1e-5)
    gradient = jax.jit(jax.grad(lambda x: metrics.color_shift(x, flat)[0]))(jnp.asarray(flat))
    assert np.isfinite(gradient).all() and float(metrics.color_shift(flat, flat)[0]) == pytest.approx(0.0, abs=1e-6)


def test_style_gain_by_hand():
    # Each layer has one channel; the style's statistics are a mean of 3 and a deviation of 4, of length 5.
    style = [np.float32([[3.0], [4.0]])] * 2
    source = np.zeros((2, 2, 2, 1), np.float32)
    there = np.float32([-1.0, 7.0] * 2).reshape(1, 2, 2, 1)
    halfway = np.float32([-0.5, 3.5] * 2).reshape(1, 2, 2, 1)
    output = np.concatenate([there, halfway])
    gain = metrics.style_gain([output, output], [source, source], style)
    np.testing.assert_allclose(gain, [1.0, 0.5], atol=1e-5)
    np.testing.assert_allclose(metrics.style_gain([source], [source], style[:1]), 0.0, atol=1e-6)


def _reference_repetition(window) -> float:
    """Highest correlation of the overlapping parts, by a loop over all distances."""
    padded = np.pad(np.float64(window), 8, mode="edge")
    fine = window - scipy.ndimage.uniform_filter(padded, 17)[8:-8, 8:-8]
    side, highest = len(fine), 0.0
    for dy in range(41):
        for dx in range(-40, 41):
            if not 6 <= np.hypot(dy, dx) <= 40:
                continue
            one = fine[dy:, max(dx, 0) : side + min(dx, 0)]
            other = fine[: side - dy, max(-dx, 0) : side + min(-dx, 0)]
            highest = max(highest, (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))
    return highest


def test_repetition_is_the_highest_correlation_of_a_window_with_itself():
    rng = np.random.default_rng(3)
    strokes = scipy.ndimage.gaussian_filter(rng.normal(size=(96, 96)), (1.0, 4.0))
    luma = (0.5 + 0.1 * strokes / strokes.std()).clip(0, 1)
    output = np.repeat(luma[None, ..., None], 3, -1).astype(np.float32)
    actual = jax.jit(metrics.repetition)(output, np.zeros_like(output))
    np.testing.assert_allclose(actual, _reference_repetition(luma), atol=2e-3)


def test_repetition_sees_stamps_where_the_source_is_flat():
    rng = np.random.default_rng(4)
    source = rng.random((1, 96, 288, 3), np.float32)
    source[:, :, :144] = 0.5
    stamp = np.tile(rng.random((1, 24, 24, 3), np.float32), (1, 4, 6, 1))
    noise = rng.random((1, 96, 144, 3), np.float32)
    stamped_sky, stamped_ground = (np.concatenate(x, 2) for x in ((stamp, noise), (noise, stamp)))
    assert jax.jit(metrics.repetition)(stamped_sky, source)[0] > 0.75
    assert jax.jit(metrics.repetition)(stamped_ground, source)[0] < 0.45
    # What nobody can see does not count.
    faint = 0.5 + 0.001 * np.concatenate([stamp, stamp], 2)
    assert jax.jit(metrics.repetition)(faint, source)[0] < 0.05
