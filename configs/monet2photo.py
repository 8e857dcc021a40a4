"""Paintings by Monet to photographs and back: `cyclegan` on the TFDS dataset cycle_gan/monet2photo.

Command: `python -m gqst.train --config monet2photo --workdir runs/monet`; the pictures (291 MB) are downloaded and
prepared on first use. Photographs in Monet's style: `--direction backward` when stylising.

Cost: that of `cyclegan`, 1,257,000 steps at 256 px, batch 1 (200 epochs of 6,287 photographs); a tenth of it shows
the style.
"""

import dataclasses

from gqst import config, overrides


def get_config() -> config.Config:
    """The experiment."""
    data = config.choice("tfds", dataset="cycle_gan/monet2photo")
    return dataclasses.replace(overrides.load("cyclegan"), data=data, steps=1_257_000)
