"""Baselines that need no training, as a scale for the results."""

import numpy as np
from jaxtyping import Float

# sRGB to XYZ under D65 (IEC 61966-2-1), each row over the white point, so that white is 1 1 1.
_WHITE = np.asarray([0.95047, 1.0, 1.08883])
_TO_XYZ = (
    np.asarray(
        [
            [0.412453, 0.357580, 0.180423],
            [0.212671, 0.715160, 0.072169],
            [0.019334, 0.119193, 0.950227],
        ]
    )
    / _WHITE[:, None]
)
_FROM_XYZ = np.linalg.inv(_TO_XYZ)
_EDGE = 6.0 / 29.0


def color_transfer(
    source: Float[np.ndarray, "h w 3"], style: Float[np.ndarray, "h2 w2 3"]
) -> Float[np.ndarray, "h w 3"]:
    """Gives a picture the mean and deviation of each CIE Lab channel of another (after Reinhard et al. 2001).

    Args:
      source: Picture in [0, 1].
      style: Picture in [0, 1] of any size.

    Returns:
      The recoloured source, f32[h w 3]; colours outside of [0, 1] are clipped.
    """
    content, palette = to_lab(source), to_lab(style)
    axes = (0, 1)
    scale = palette.std(axes) / np.maximum(content.std(axes), 1e-6)
    recolored = from_lab((content - content.mean(axes)) * scale + palette.mean(axes))
    return np.clip(recolored, 0.0, 1.0).astype(np.float32)


def to_lab(rgb: Float[np.ndarray, "*s 3"]) -> Float[np.ndarray, "*s 3"]:
    """Returns CIE Lab under D65 of sRGB in [0, 1]: L in [0, 100], a and b around 0."""
    rgb = rgb.astype(np.float64)
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = linear @ _TO_XYZ.T
    x, y, z = np.moveaxis(np.where(xyz > _EDGE**3, np.cbrt(xyz), xyz / (3 * _EDGE**2) + 4.0 / 29.0), -1, 0)
    return np.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)


def from_lab(lab: Float[np.ndarray, "*s 3"]) -> Float[np.ndarray, "*s 3"]:
    """Returns sRGB of CIE Lab; below 0 or above 1 for colours outside of the gamut."""
    lightness, a, b = np.moveaxis(lab, -1, 0)
    y = (lightness + 16.0) / 116.0
    f = np.stack([y + a / 500.0, y, y - b / 200.0], axis=-1)
    linear = np.where(f > _EDGE, f**3, 3 * _EDGE**2 * (f - 4.0 / 29.0)) @ _FROM_XYZ.T
    return np.where(linear > 0.0031308, 1.055 * np.maximum(linear, 0.0) ** (1 / 2.4) - 0.055, 12.92 * linear)
