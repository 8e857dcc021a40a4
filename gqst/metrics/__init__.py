"""Metrics of pictures and of sets of pictures, each declared by one record (see `gqst.metrics.base`)."""

from gqst.metrics.base import METRICS, Aim, Estimate, Metric, of_round, register
from gqst.metrics.pictures import (
    channel_statistics,
    color_shift,
    content_retention,
    contrast_structure,
    log_mse,
    lpips,
    ms_ssim,
    pixel_accuracy,
    psnr,
    repetition,
    ssim,
    style_gain,
)
from gqst.metrics.sets import Moments, art_fid, frechet, kid, palette_distance

__all__ = [
    "METRICS",
    "Aim",
    "Estimate",
    "Metric",
    "Moments",
    "art_fid",
    "channel_statistics",
    "color_shift",
    "content_retention",
    "contrast_structure",
    "frechet",
    "kid",
    "log_mse",
    "lpips",
    "ms_ssim",
    "of_round",
    "palette_distance",
    "pixel_accuracy",
    "psnr",
    "register",
    "repetition",
    "ssim",
    "style_gain",
]
