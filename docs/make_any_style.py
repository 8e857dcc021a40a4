r"""Makes the generator that takes any picture as its style, `gqst/models/weights/any_style.safetensors`.

    python docs/make_any_style.py start PICTURES START
    python -m gqst.train --config any_style --workdir RUN --set data=folders data.root=FOLDER start_from=START \
      steps=1000 batch_size=2 image_size=160 preprocess.load_size=300 "preprocess.random_scale=(0.7,1.2)" \
      round_every=500 round_size=320 round_pictures=28 validation=14 ema_decay=0.98
    python docs/make_any_style.py pack RUN PHOTOS PAINTINGS

The first trains the decoder to give back the pictures of a folder, photographs and paintings, from what the encoder
sees: already that paints. The last writes the file with its card, and sets the dial so that photographs and paintings
of two folders, held out or not, have the structure that is asked for, on average.
"""

import dataclasses
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

import gqst
from gqst.inference import styles
from gqst.models import base, conditions, style_files
from gqst.models.features import base as features
from gqst.models.generators import any_style
from gqst.pictures import folders

STEPS, BATCH, SIDE = 600, 4, 128
DIALS, PAIRS, WHOLE = (0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0), 24, 320
LAYERS = ("relu1_1", "relu2_1", "relu3_1")


def start(pictures: str, out: str) -> None:
    """Writes a generator whose decoder gives back what the encoder has seen."""
    cfg, rng = gqst.load_config("any_style"), np.random.default_rng(0)
    module, frozen = base.build_generator(cfg), features.load("vgg16")
    listed = folders.listing(pictures, option="pictures")
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3)))["params"]
    rate = optax.warmup_cosine_decay_schedule(0.0, 2e-3, STEPS // 20, STEPS, 1e-5)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.99))

    def seen(x: jax.Array) -> dict[str, jax.Array]:
        return features.FEATURES["vgg16"]().apply({"params": frozen}, x, layers=LAYERS)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        # In its own style a picture is only decoded.
        style = jax.lax.stop_gradient(conditions.style_of(module, {"params": params}, x))
        asked = conditions.Conditions(style, jnp.full(len(x), 0.6))
        fake = module.apply(conditions.conditioned({"params": params}, asked), x)
        pairs = zip(seen(x).values(), seen(fake).values(), strict=True)
        return 10 * jnp.mean((fake - x) ** 2) + sum(jnp.mean((a - b) ** 2) / jnp.mean(a**2) for a, b in pairs)

    @jax.jit
    def step(params: Any, state: Any, x: jax.Array) -> tuple[Any, Any, jax.Array]:
        value, grads = jax.value_and_grad(loss)(params, x)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    for number in range(STEPS):
        x = np.stack([_crop(listed.load(rng.integers(len(listed))), rng) for _ in range(BATCH)])
        params, state, value = step(params, state, x)
        if number % 50 == 49:
            print(f"step {number + 1}: loss {value:.3f}", flush=True)
    style_files.write(out, cfg, {"params": jax.device_get(params)}, {"step": 0}, dtype="float32")


def _crop(picture: Image.Image, rng: np.random.Generator) -> np.ndarray:
    side = min(*picture.size, round(SIDE / rng.uniform(0.6, 1.0)))
    left, top = (rng.integers(0, n - side + 1) for n in picture.size)
    box = (left, top, left + side, top + side)
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box), np.float32) / 255


def pack(run: str, photos: str, paintings: str) -> None:
    """Writes the run's generator with its card, and with a dial that is right for pictures of these folders."""
    about = {
        "name": "Any style: takes a picture as its style, and a structure",
        "licence": "paintings in the public domain; photographs under free licences; weights under Apache-2.0, "
        "those of VGG-16 as in LICENSE.torchvision",
        "data": "landscape photographs, landscape paintings, ukiyo-e prints, and drawings of docs/draw_paintings.py",
        "made_by": "docs/make_any_style.py, config any_style",
    }
    card = styles.pack(run, style_files.BASE, about=about)
    packed = style_files.read(style_files.BASE)
    _calibrate(packed, photos, paintings)
    # Where the pictures lay is nobody's business.
    cfg = dataclasses.replace(packed.config, data=gqst.choice("demo"), start_from=None)
    style_files.write(style_files.BASE, cfg, packed.variables, card)
    style_files.BASE.chmod(0o644)
    print(card)


def _calibrate(style: style_files.Style, photos: str, paintings: str) -> None:
    """Changes the dial so that the mean structure over pairs of pictures is what was asked for."""
    rng = np.random.default_rng(1)
    listed = [folders.listing(place, option="pictures") for place in (photos, paintings)]
    pairs = [[_any(pictures, rng) for pictures in listed] for _ in range(PAIRS)]

    @jax.jit
    def structures(photo: jax.Array, painting: jax.Array) -> jax.Array:
        told = conditions.style_of(style.module, style.variables, painting)

        def reached(structure: jax.Array) -> jax.Array:
            asked = conditions.conditioned(style.variables, conditions.Conditions(told, structure[None]))
            return gqst.metrics.METRICS["contrast_structure"](style.module.apply(asked, photo), photo)[0]

        return jax.lax.map(reached, jnp.asarray(DIALS))

    reached = np.mean([structures(*pair) for pair in pairs], axis=0)
    print("asked for and reached before calibration:", dict(zip(DIALS, reached.round(3).tolist(), strict=True)))
    wanted = np.linspace(max(0.65, reached.min()), min(0.9, reached.max()), 9)
    slope, start = np.polyfit(wanted, np.interp(wanted, reached, DIALS), 1)
    # dial -> offset + slope dial, put into the layer that takes the dial and its square.
    offset = (any_style.MIDDLE - start - slope * any_style.MIDDLE) / any_style.HALF
    dense = style.variables["params"]["shares"]["Dense_0"]
    first, second = dense["kernel"]
    dense["bias"] = dense["bias"] + first * offset + second * offset**2
    dense["kernel"] = np.stack([first * slope + 2 * second * offset * slope, second * slope**2])


def _any(listed: Any, rng: np.random.Generator) -> np.ndarray:
    """The middle square of some picture, f32[1 h w 3]."""
    picture = listed.load(rng.integers(len(listed)))
    side = min(picture.size)
    box = [(n - side) // 2 for n in picture.size]
    square = picture.resize((WHOLE, WHOLE), Image.Resampling.LANCZOS, box=(*box, box[0] + side, box[1] + side))
    return np.asarray(square, np.float32)[None] / 255


if __name__ == "__main__":
    {"start": start, "pack": pack}[sys.argv[1]](*sys.argv[2:])
