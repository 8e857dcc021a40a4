"""Image style transfer whose quality is measured, steered and proven: GANs in JAX for CPU, GPU and TPU.

The public names below are imported when they are first used, so that `import gqst` takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gqst import config, losses, metrics
    from gqst.config import Config, choice, loss
    from gqst.data.pipeline import make_iterator as batches
    from gqst.data.sources import load as load_data
    from gqst.inference.any_style import Stylizer
    from gqst.inference.generator import Generator, load_generator
    from gqst.inference.styles import load as load_style
    from gqst.models.translate import translate
    from gqst.overrides import load as load_config
    from gqst.pictures.files import read_picture, write_picture
    from gqst.pictures.grid import picture_grid
    from gqst.training.loop import fit
    from gqst.training.recipe import Recipe
    from gqst.training.restore import create_state
    from gqst.training.step import train_step
    from gqst.types import InputError, RunError

__version__ = "0.1.0"
__all__ = [
    "Config",
    "Generator",
    "InputError",
    "Recipe",
    "RunError",
    "Stylizer",
    "batches",
    "choice",
    "config",
    "create_state",
    "fit",
    "load_config",
    "load_data",
    "load_generator",
    "load_style",
    "loss",
    "losses",
    "metrics",
    "picture_grid",
    "read_picture",
    "train_step",
    "translate",
    "write_picture",
]

_ORIGINS = {
    "Config": "config.Config",
    "Generator": "inference.generator.Generator",
    "InputError": "types.InputError",
    "Recipe": "training.recipe.Recipe",
    "RunError": "types.RunError",
    "Stylizer": "inference.any_style.Stylizer",
    "batches": "data.pipeline.make_iterator",
    "choice": "config.choice",
    "create_state": "training.restore.create_state",
    "fit": "training.loop.fit",
    "load_config": "overrides.load",
    "load_data": "data.sources.load",
    "load_generator": "inference.generator.load_generator",
    "load_style": "inference.styles.load",
    "loss": "config.loss",
    "picture_grid": "pictures.grid.picture_grid",
    "read_picture": "pictures.files.read_picture",
    "train_step": "training.step.train_step",
    "translate": "models.translate.translate",
    "write_picture": "pictures.files.write_picture",
}


def __getattr__(name: str) -> Any:
    if name in _ORIGINS:
        module, _, member = _ORIGINS[name].rpartition(".")
        value = getattr(importlib.import_module(f"gqst.{module}"), member)
        globals()[name] = value
        return value
    if name in __all__:
        return importlib.import_module(f"gqst.{name}")
    raise AttributeError(f"module 'gqst' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
