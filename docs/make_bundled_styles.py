"""Makes the styles that come with gqst: `python docs/make_bundled_styles.py PHOTOS PAINTINGS OUT`.

PHOTOS is a folder of photographs of 288 px, PAINTINGS one with the paintings below. Each takes half a minute on an
H100. Figures of the cards are measured on the bundled photographs, which take no part in the training.
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import gqst
from gqst.evaluation import networks
from gqst.models import style_files
from gqst.pictures import folders

PAINTINGS = {
    "starry_night": ("starry_night_van_gogh_1889", "The Starry Night, Vincent van Gogh, 1889"),
    "scream": ("the_scream_munch_1893", "The Scream, Edvard Munch, 1893"),
    "village": ("village_street_in_auvers_van_gogh_1890", "Village Street in Auvers, Vincent van Gogh, 1890"),
    "udnie": ("udnie_picabia_1913", "Udnie, Francis Picabia, 1913"),
    "kandinsky": ("composition_viii_kandinsky_1923", "Composition VIII, Wassily Kandinsky, 1923"),
    "shipwreck": ("shipwreck_of_the_minotaur_turner_1810", "Shipwreck of the Minotaur, J. M. W. Turner, 1810"),
    "forms": ("contrast_of_forms_leger_1913", "Contrast of Forms, Fernand Léger, 1913"),
}
CFG = gqst.load_config("style_image")
PHOTO_SCALES, PAINTING_SCALES, PAINTING_SIDE = (1.0, 1.3), (0.6, 0.75, 0.9), 512
SEEN = 384


def main(photos: pathlib.Path, paintings: pathlib.Path, out: pathlib.Path) -> None:
    """Trains a generator for each painting and writes its style file."""
    recipe = gqst.Recipe(CFG)
    step = gqst.train_step(recipe)
    sources = [_scaled(_read(path), scale) for path in sorted(photos.iterdir()) for scale in PHOTO_SCALES]
    for name, (stem, title) in PAINTINGS.items():
        painting = _with_shorter_side(_read(paintings / f"{stem}.jpg"), PAINTING_SIDE)
        targets = [_scaled(painting, scale) for scale in PAINTING_SCALES]
        state = gqst.create_state(recipe, jax.random.key(0))
        for number in range(CFG.steps):
            rng = np.random.default_rng((len(name), number))
            state, _ = step(state, {"source": _crops(sources, rng), "target": _crops(targets, rng)})
        write(out / f"{name}.safetensors", jax.device_get(state.ema["forward"]), title, painting, len(sources) // 2)


def write(path: pathlib.Path, variables: dict, title: str, painting: Image.Image, count: int) -> None:
    """Writes a style file with its card, measured with the weights as they are written."""
    halved = jax.tree.map(lambda x: np.asarray(x, np.float16).astype(np.float32), variables)
    card = {
        "name": title,
        "licence": "painting in the public domain; photographs under free licences; weights under Apache-2.0",
        "data": f"the painting, and {count} landscape photographs from free collections of wallpapers",
        "made_by": "docs/make_bundled_styles.py, config style_image",
        "step": CFG.steps,
        "measured_on": f"the 16 bundled photographs, their middle {SEEN} px at a shorter side of {SEEN} px",
        "held_out": measured(halved, painting),
    }
    style_files.write(path, CFG, variables, card)


def measured(variables: dict, painting: Image.Image) -> dict[str, float]:
    """Returns the figures of a card."""
    bundled = [photo for half in ("train", "test") for photo in _bundled(half)]
    photos = jnp.stack([_middle(_with_shorter_side(photo, SEEN)) for photo in bundled])
    recipe = gqst.Recipe(CFG)
    apply = jax.jit(lambda pictures: gqst.translate(recipe.generator, variables, pictures))
    fakes = jnp.concatenate([apply(photos[first : first + 4]) for first in range(0, len(photos), 4)])
    wanted = [gqst.metrics.METRICS[name] for name in ("contrast_structure", "style_gain", "repetition")]
    params = networks.load(wanted)
    shown = jnp.asarray(_middle(_with_shorter_side(painting, SEEN)))[None]
    goal = jax.tree.map(lambda rows: rows[0], networks.style_statistics(wanted, params, shown))
    values = networks.measure(wanted, params, fakes, photos, goal)
    figures = {name: round(float(np.mean(value)), 3) for name, value in values.items()}
    return figures | {"repetition_90th": round(float(np.quantile(values["repetition"], 0.9)), 3)}


def _bundled(half: str) -> list[Image.Image]:
    listed = folders.listing(f"demo:photos/{half}", option="photos")
    return [listed.load(index) for index in range(len(listed))]


def _read(path: pathlib.Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def _scaled(picture: Image.Image, scale: float) -> Image.Image:
    least = CFG.image_size
    return picture.resize([max(least, round(side * scale)) for side in picture.size], Image.Resampling.LANCZOS)


def _with_shorter_side(picture: Image.Image, side: int) -> Image.Image:
    scale = side / min(picture.size)
    return picture.resize([max(side, round(n * scale)) for n in picture.size], Image.Resampling.LANCZOS)


def _middle(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture, np.float32) / 255
    top, left = ((n - SEEN) // 2 for n in pixels.shape[:2])
    return pixels[top : top + SEEN, left : left + SEEN]


def _crops(pictures: list[Image.Image], rng: np.random.Generator) -> np.ndarray:
    """A batch of random crops, half of them mirrored, f32[b h w 3] in [0, 1]."""
    size, crops = CFG.image_size, []
    for _ in range(CFG.batch_size):
        picture = np.asarray(pictures[rng.integers(len(pictures))])
        top, left = (rng.integers(0, n - size + 1) for n in picture.shape[:2])
        crop = picture[top : top + size, left : left + size]
        crops.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
    return np.stack(crops).astype(np.float32) / 255


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:4]))
