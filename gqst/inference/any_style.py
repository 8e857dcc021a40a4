"""Any picture as a style, at once: a generator that takes styles, and what it is told of one of them."""

import functools
import hashlib
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from gqst import types
from gqst.inference import generator
from gqst.models import base as models
from gqst.models import conditions, style_files
from gqst.pictures import decode, files, folders
from gqst.runtime import caches, devices

SIDE = 384
"""Default size in pixels of the shorter side at which a style picture is looked at."""

STRUCTURE = 0.7
"""Default contrast_structure that is asked for."""

_MOST_SQUARES = 4

StylePictures = str | pathlib.Path | Mapping[str | pathlib.Path, float]
"""A style picture, several with weights, or both as text: `a.jpg:0.7,b.jpg:0.3`."""


class Stylizer(generator.Generator):
    """A function of pictures that paints them like a style picture, without training.

    A `Generator` like that of a trained style: pictures of any size, floors of structure and seeds work alike.
    """

    def __init__(
        self,
        style: StylePictures,
        *,
        structure: float = STRUCTURE,
        base: style_files.Style | None = None,
        size: int = SIDE,
        keep_colors: bool = False,
        memory: int | None = None,
        seed: int | None = None,
    ):
        """Looks at the style.

        Args:
          style: The style picture, or several with their weights, as in {"a.jpg": 0.7, "b.jpg": 0.3} or
            "a.jpg:0.7,b.jpg:0.3".
          structure: contrast_structure of results to their sources that is asked for, on average: the lowest has the
            most brushwork, 0.9 is little more than the palette.
          base: A generator that takes styles; None takes the one that comes with gqst.
          size: Shorter side in pixels at which the style picture is looked at: a larger one has wider strokes.
          keep_colors: Whether to take only the brightness of the style.
          memory: Number of bytes that a program may take beside the pictures; None depends on the device.
          seed: Seed of the generator's noise, as for `load_generator`.

        Raises:
          InputError: A style picture cannot be read, or a weight is not above 0; the base takes no styles, or not this
            structure.
        """
        base = style_files.base() if base is None else base
        module: Any = base.module
        if getattr(module, "structures", None) is None:
            raise types.InputError("this generator takes no style: train one with --config any_style")
        low, high = module.structures
        if not low <= structure <= high:
            raise types.InputError(f"structure must lie between {low} and {high}, got {structure}")
        weights = _weights(style)
        looked = Looked(base)
        statistics = sum(weight * looked(path, size=size) for path, weight in weights.items())
        asked = conditions.Conditions(np.asarray(statistics)[None], np.array([structure], np.float32))
        variables = conditions.conditioned(base.variables, asked)
        options: dict[str, Any] = {"keep_colors": keep_colors, "memory": memory, "seed": seed}
        super().__init__(base.config, module, variables, base.step, **options)


def of_run(workdir: str | pathlib.Path, *, which: Any = "best", direction: str = "forward") -> style_files.Style:
    """Returns the generator of a run that takes styles; InputError as `generator.load_generator`."""
    cfg, variables, step = generator.restored(workdir, which, direction)
    return style_files.Style(cfg, models.build_generator(cfg), variables, step)


def is_picture(style: str | pathlib.Path) -> bool:
    """Returns whether text names pictures as a style, rather than a style file or the name of one."""
    text = str(style)
    return text not in style_files.bundled() and pathlib.Path(text).suffix not in ("", style_files.SUFFIX)


class Looked:
    """A function of a style picture to what a generator is told of it, kept for the next time."""

    def __init__(self, base: style_files.Style):
        """Compiles nothing yet; `base` holds the generator."""
        self._base = base
        module: Any = base.module
        self._entries = module.entries

    def __call__(self, path: str | pathlib.Path, *, size: int = SIDE) -> Float[np.ndarray, "n"]:
        """Returns the style of a picture, see `conditions.style_of`.

        Args:
          path: The picture; `demo:styles/...` names a bundled one.
          size: Shorter side in pixels at which it is looked at.

        Raises:
          InputError: It cannot be read.
        """
        try:
            image = decode.decode(folders.resolve(path), shorter=size)
        except decode.UnreadableError as error:
            raise types.InputError(f"the style picture {path} cannot be read: {error.reason}") from error
        squares = _squares(image, size)
        kept = caches.folder("styles") / f"{hashlib.sha256(self._hash + squares.tobytes()).hexdigest()[:32]}.npy"
        try:
            row = np.load(kept, allow_pickle=False)
            if row.shape == (self._entries,) and np.isfinite(row).all():
                return row
        except (OSError, ValueError):
            pass
        row = np.mean([np.asarray(self._look(square[None].astype(np.float32) / 255))[0] for square in squares], axis=0)
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with files.atomic(kept) as part, part.open("wb") as stream:
                np.save(stream, row, allow_pickle=False)
        except OSError:
            # It is looked at again the next time.
            pass
        return row

    @functools.cached_property
    def _hash(self) -> bytes:
        """Stands for the generator, whose weights decide what it sees."""
        hashed = hashlib.sha256()
        for leaf in jax.tree.leaves(self._base.variables):
            hashed.update(np.ascontiguousarray(leaf).tobytes())
        return hashed.digest()

    @functools.cached_property
    def _look(self) -> Any:
        variables = self._base.variables

        def look(variables: Any, square: jax.Array) -> jax.Array:
            return conditions.style_of(self._base.module, variables, square)

        jitted = jax.jit(look, compiler_options=devices.compile_options(1))
        return lambda square: jitted(variables, square)


def _squares(image: Image.Image, size: int) -> UInt8[np.ndarray, "n size size 3"]:
    """Squares that cover a picture, evenly spaced along its longer side."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    count = min(_MOST_SQUARES, math.ceil(max(width, height) / size))
    firsts = np.linspace(0, max(width, height) - size, count).round().astype(int)
    if width >= height:
        return np.stack([pixels[:, first : first + size] for first in firsts])
    return np.stack([pixels[first : first + size] for first in firsts])


def _weights(style: StylePictures) -> dict[str, float]:
    """Weights of the style pictures, with the sum 1."""
    given = (
        {str(path): float(weight) for path, weight in style.items()} if isinstance(style, Mapping) else _parsed(style)
    )
    if not given or not all(math.isfinite(weight) and weight > 0 for weight in given.values()):
        raise types.InputError(f"weights of style pictures must be above 0, got {style}")
    total = sum(given.values())
    return {path: weight / total for path, weight in given.items()}


def _parsed(style: str | pathlib.Path) -> dict[str, float]:
    text = str(style)
    if isinstance(style, pathlib.Path) or folders.resolve(text).is_file():
        return {text: 1.0}
    weights: dict[str, float] = {}
    for part in text.split(","):
        path, colon, number = part.rpartition(":")
        try:
            weight = float(number)
        except ValueError:
            path, colon = part, ""
        weights[path if colon else part] = weight if colon else 1.0
    return weights
