"""What is said about a set of pictures: figures, and what each of them is."""

import dataclasses
from collections.abc import Mapping

DEFINITIONS = {
    "ssim": "structural similarity, 11 px Gaussian window, RGB; 1 is equal",
    "psnr": "peak signal-to-noise ratio in dB",
    "ms_ssim": "structural similarity over five scales; 1 is equal",
    "pixel_accuracy": "share of pixels with every channel within 0.05",
    "contrast_structure": "SSIM of luma without its luminance factor; 1 is the same edges",
    "content_retention": "mean cosine of VGG-16 relu3_1 features; 1 is the same content",
    "color_shift": "distance of the mean colours in RGB; 0 is none",
    "lpips": "LPIPS v0.1, AlexNet; 0 is equal",
    "kid": "kernel distance, unbiased, x1000, features of {network}, cubic kernel",
    "frechet": "Frechet distance of features of {network}",
    "art_fid": "(1 + lpips to the sources)(1 + frechet)",
}
"""What each figure is, by name."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was found about a set of pictures.

    Attributes:
      means: by metric, of single pictures and of the set.
      intervals: 95 % bootstrap interval of each mean over the pictures; for kid, two standard errors.
      against: what each metric compares with: sources, truths or style.
      count: pictures measured.
      pictures: every picture's values by metric and name.
      style: pictures of the style set; 0 without one.
    """

    means: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    against: Mapping[str, str]
    count: int
    pictures: Mapping[str, Mapping[str, float]]
    style: int
