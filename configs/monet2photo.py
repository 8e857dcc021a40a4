"""Paintings by Monet to photographs and back: `cyclegan` on the TFDS dataset cycle_gan/monet2photo.

Command: `python -m gqst.train --config monet2photo --workdir runs/monet`; the pictures (291 MB) are downloaded and
prepared on first use. For photographs in Monet's style, stylise with `--direction backward`.

Cost: as `cyclegan`, 1,257,000 steps at 256 px, batch 1 (200 epochs of 6,287 photographs); the style already shows after
a tenth of them.
"""

import dataclasses

from gqst import config, overrides


def get_config() -> config.Config:
    """Returns the experiment."""
    data = config.choice("tfds", dataset="cycle_gan/monet2photo")
    return dataclasses.replace(overrides.load("cyclegan"), data=data, steps=1_257_000)
