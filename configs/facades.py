"""Photographs and label maps of facades, unpaired and both ways: `cyclegan` on the TFDS dataset cycle_gan/facades.

Command: `python -m gqst.train --config facades --workdir runs/facades`; the pictures (33 MB) are downloaded and
prepared on first use. TFDS has them as two domains; for the side-by-side files of pix2pix use `pix2pix`.

Cost: as `cyclegan`, 80,000 steps at 256 px, batch 1 (200 epochs of 400 pictures).
"""

import dataclasses

from gqst import config, overrides


def get_config() -> config.Config:
    """Returns the experiment."""
    data = config.choice("tfds", dataset="cycle_gan/facades")
    return dataclasses.replace(overrides.load("cyclegan"), data=data, steps=80_000)
