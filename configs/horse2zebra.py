"""Horses to zebras and back: `cyclegan` on the TFDS dataset cycle_gan/horse2zebra.

Command: `python -m gqst.train --config horse2zebra --workdir runs/zebra`; the pictures (111 MB) are downloaded and
prepared on first use.

Cost: as `cyclegan`, 267,000 steps at 256 px, batch 1 (200 epochs of 1,334 zebras). Expected: stripes after some
20,000 steps.
"""

import dataclasses

from gqst import config, overrides


def get_config() -> config.Config:
    """Returns the experiment."""
    data = config.choice("tfds", dataset="cycle_gan/horse2zebra")
    return dataclasses.replace(overrides.load("cyclegan"), data=data, steps=267_000)
