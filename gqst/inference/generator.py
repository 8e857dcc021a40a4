"""A trained generator, restored from its run."""

import copy
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float

from gqst import config, overrides, types
from gqst.losses import base as losses
from gqst.models import base as models
from gqst.models import translate
from gqst.ops import color
from gqst.quality import targets
from gqst.runtime import devices
from gqst.training import checkpoint
from gqst.training.recipe import FORWARD, directions


class Generator:
    """A function of pictures: the running-average generator of a run.

    Attributes:
      config: Config of the run.
      step: Step of the checkpoint.
      variables: Variables of the network, parameters and norm's averages.
    """

    def __init__(self, cfg: config.Config, module: nn.Module, variables: Any, step: int, *, keep_colors: bool = False):
        """Wraps a module and its trained variables; see `load_generator`."""
        self.config = cfg
        self.step = step
        self.variables = variables

        def apply(variables: Any, pictures: jax.Array) -> jax.Array:
            fakes = translate.translate(module, variables, pictures, keep_colors=cfg.keep_colors)
            return color.recolor(fakes, pictures) if keep_colors else fakes

        self._apply = jax.jit(apply, compiler_options=devices.compile_options(1))
        self._device = jax.local_devices()[0]

    def __call__(self, pictures: Float[Any, "*b h w 3"]) -> Float[np.ndarray, "*b h w 3"]:
        """Returns the pictures, one or a batch, in the trained style, in [0, 1] and of the same size.

        Every new size is compiled anew.

        Raises:
          ValueError: The array has another shape, or is smaller than the network can take.
        """
        x = np.asarray(pictures, np.float32)
        if x.ndim not in (3, 4) or x.shape[-1] != 3:
            raise ValueError(f"pictures must be f32[h w 3] or f32[b h w 3], got shape {x.shape}")
        batch = x if x.ndim == 4 else x[None]
        fakes = np.asarray(self._apply(self.variables, jax.device_put(batch, self._device)))
        return fakes if x.ndim == 4 else fakes[0]

    def on(self, device: jax.Device) -> "Generator":
        """Returns the same generator on another device."""
        other = copy.copy(self)
        other.variables, other._device = jax.device_put(self.variables, device), device
        return other


def load_generator(
    workdir: str | pathlib.Path,
    *,
    which: checkpoint.Which = "best",
    direction: str = FORWARD,
    keep_colors: bool = False,
) -> Generator:
    """Returns the trained generator of a run, as a function of pictures.

    Args:
      workdir: Folder of the run.
      which: `best` (the best round; the newest checkpoint if no round was best yet), `last`, or
        a step.
      direction: `forward` (source to target), or `backward` where the run has cycles.
      keep_colors: Whether to take only the brightness of the style; a run that was trained so always does.

    Raises:
      InputError: There is no run, no such checkpoint or no such direction.
    """
    folder = pathlib.Path(workdir)
    path = folder / "config.json"
    if not path.is_file():
        raise types.InputError(f"{folder} is not the folder of a run: it has no config.json")
    cfg = overrides.from_json(path.read_text(encoding="utf-8"), origin=str(path))
    module = models.build_generator(cfg)
    picture = jnp.zeros((1, cfg.image_size, cfg.image_size, 3))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.eval_shape(module.init, jax.random.key(0), picture)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes)
    variables, step = checkpoint.load_ema(
        folder / "checkpoints", which, direction, abstract, default_directions=lambda: _directions(cfg)
    )
    return Generator(cfg, module, variables, step, keep_colors=keep_colors)


def _directions(cfg: config.Config) -> tuple[str, ...]:
    """The directions of a run whose checkpoints do not note them; whether its data was paired does not matter here."""
    return directions(losses.build(targets.aim(cfg.losses, cfg.targets)[0], paired=True))
