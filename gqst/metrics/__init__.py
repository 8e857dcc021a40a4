"""Quality of single pictures and of sets of them."""

from gqst.metrics.pictures import (
    METRICS,
    MS_SMALLEST,
    WINDOW,
    color_shift,
    content_retention,
    contrast_structure,
    log_mse,
    lpips,
    ms_ssim,
    pixel_accuracy,
    psnr,
    ssim,
)

__all__ = [
    "METRICS",
    "MS_SMALLEST",
    "WINDOW",
    "color_shift",
    "content_retention",
    "contrast_structure",
    "log_mse",
    "lpips",
    "ms_ssim",
    "pixel_accuracy",
    "psnr",
    "ssim",
]
