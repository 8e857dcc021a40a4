"""Makes the generator that takes any picture as its style, `gqst/models/weights/any_style.safetensors`.

    python docs/make_any_style.py statistics PAINTINGS
    python docs/make_any_style.py start START
    python -m gqst.train --config any_style --workdir RUN --set data=folders data.root=FOLDER start_from=START
    python docs/make_any_style.py pack RUN

The first writes mean and deviation of the paintings' statistics, by which styles are standardised: generators that were
trained with others do not fit. The second widens a bundled style to more channels, so that the training starts with a
network that paints already. The last writes the file with its card.
"""

import dataclasses
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util
from PIL import Image

import gqst
from gqst.data import transforms
from gqst.inference import styles
from gqst.models import base, conditions, style_files
from gqst.models.features import base as features
from gqst.pictures import folders

FIRST_STYLE = "shipwreck"
SIDE, LOAD_SIZE, SCALES = 192, 320, (0.7, 1.2)


def statistics(paintings: str) -> None:
    """Writes mean and deviation of `conditions.logarithms` over crops as training sees them."""
    params, rng = features.load(conditions.NETWORK), np.random.default_rng(0)
    look = jax.jit(lambda x: conditions.logarithms(conditions.statistics(params, x)))
    listed = folders.listing(paintings, option="paintings")
    rows = np.concatenate([look(_crop(listed.load(index), rng)[None]) for index in range(len(listed))])
    moments = {"mean": rows.mean(0), "deviation": np.maximum(rows.std(0), 0.05)}
    halved = {name: value.astype(np.float16) for name, value in moments.items()}
    safetensors.numpy.save_file(halved, style_files.BASE.parent / "paintings.safetensors")


def _crop(painting: Image.Image, rng: np.random.Generator) -> np.ndarray:
    scale = LOAD_SIZE * rng.uniform(*SCALES) / min(painting.size)
    size = [max(SIDE, round(side * scale)) for side in painting.size]
    pixels = np.asarray(painting.resize(size, Image.Resampling.LANCZOS))
    top, left = (rng.integers(0, n - SIDE + 1) for n in pixels.shape[:2])
    crop = np.float32(pixels[top : top + SIDE, left : left + SIDE]) / 255
    return transforms.recolored(crop, rng, gqst.load_config("any_style").preprocess.recolor_target)


def start(out: str) -> None:
    """Writes a generator that does what a bundled style does but for its last layer, with new channels beside."""
    cfg = gqst.load_config("any_style")
    variables = base.build_generator(cfg).init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    new = traverse_util.flatten_dict(variables["params"]["network"])
    old = traverse_util.flatten_dict(style_files.read(FIRST_STYLE).variables["params"])
    last = max((path[0] for path in old), key=lambda name: ("UpConv" not in name, len(name), name))
    for path, weights in old.items():
        if path[0] != last:
            new[path] = _widened(np.asarray(weights), np.asarray(new[path]))
    params: Any = {**variables["params"], "network": traverse_util.unflatten_dict(new)}
    style_files.write(out, cfg, {"params": params}, {"step": 0}, dtype="float32")


def _widened(weights: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The weights among new ones; what former channels take from new ones is nothing at first."""
    new = new.copy()
    if weights.ndim == 4:
        inputs, outputs = weights.shape[2:]
        new[:, :, :, :outputs] = 0
        new[:, :, :inputs, :outputs] = weights
    else:
        new[: len(weights)] = weights
    return new


def pack(run: str) -> None:
    """Writes the run's generator with its card."""
    about = {
        "name": "Any style: takes a picture as its style, and a structure",
        "licence": "paintings in the public domain; photographs under free licences; weights under Apache-2.0",
        "data": "landscape photographs and landscape paintings, and ukiyo-e prints",
        "made_by": "docs/make_any_style.py, config any_style",
    }
    card = styles.pack(run, style_files.BASE, about=about)
    # Where the pictures lay is nobody's business.
    packed = style_files.read(style_files.BASE)
    cfg = dataclasses.replace(packed.config, data=gqst.choice("demo"), start_from=None)
    style_files.write(style_files.BASE, cfg, packed.variables, card)
    print(card)


if __name__ == "__main__":
    {"statistics": statistics, "start": start, "pack": pack}[sys.argv[1]](*sys.argv[2:3])
