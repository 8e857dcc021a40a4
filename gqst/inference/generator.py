"""A trained generator, restored from its run."""

import copy
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gqst import config, overrides, types
from gqst.models import base as models
from gqst.models import translate
from gqst.ops import color
from gqst.runtime import devices
from gqst.training import checkpoint, recipes


class Generator:
    """A function of pictures: the running-average generator of a run.

    Attributes:
      config: of the run.
      step: of the checkpoint.
      variables: of the generator, parameters and norm's averages.
    """

    def __init__(self, cfg: config.Config, variables: Any, step: int, *, keep_colors: bool = False):
        """Makes a function of a config and its trained variables; see `load_generator`."""
        self.config = cfg
        self.step = step
        self.variables = variables
        module = models.build_generator(cfg)

        def apply(variables: Any, x: jax.Array) -> jax.Array:
            made = translate.translate(module, variables, x, keep_colors=cfg.keep_colors)
            return color.recolor(made, x) if keep_colors else made

        self._apply = jax.jit(apply, compiler_options=devices.compile_options(1))
        self._device = jax.local_devices()[0]

    def __call__(self, pictures: Float[Any, "*b h w 3"]) -> Float[np.ndarray, "*b h w 3"]:
        """The pictures, one or a batch, in [0, 1], in the trained style and of the same size.

        Every new size is compiled anew.

        Raises:
          ValueError: not of that shape, or smaller than the network can take.
        """
        x = np.asarray(pictures, np.float32)
        if x.ndim not in (3, 4) or x.shape[-1] != 3:
            raise ValueError(f"pictures must be f32[h w 3] or f32[b h w 3], got shape {x.shape}")
        batch = x if x.ndim == 4 else x[None]
        out = np.asarray(self._apply(self.variables, jax.device_put(batch, self._device)))
        return out if x.ndim == 4 else out[0]

    def on(self, device: jax.Device) -> "Generator":
        """The same generator on another device."""
        other = copy.copy(self)
        other.variables, other._device = jax.device_put(self.variables, device), device
        return other


def load_generator(
    workdir: str | pathlib.Path,
    *,
    which: checkpoint.Which = "best",
    direction: str = recipes.FORWARD,
    keep_colors: bool = False,
) -> Generator:
    """The trained generator of a run, as a function of pictures.

    Args:
      workdir: folder of the run.
      which: `best` (the best round; the newest checkpoint if no round was best yet), `last`, or
        a step.
      direction: `forward` (source to target), or `backward` where the run has cycles.
      keep_colors: whether to take only the brightness of the style; a run that was trained so always does.

    Raises:
      InputError: there is no run, no such checkpoint or no such direction.
    """
    folder = pathlib.Path(workdir)
    path = folder / "config.json"
    if not path.is_file():
        raise types.InputError(f"{folder} is not the folder of a run: it has no config.json")
    cfg = overrides.from_json(path.read_text(encoding="utf-8"), origin=str(path))
    module = models.build_generator(cfg)
    size = cfg.image_size
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes)
    trained = recipes.directions(recipes.aimed(cfg, paired=True)[0])
    if direction not in trained:
        raise types.InputError(f"the run in {folder} has no direction {direction!r}; it has: {', '.join(trained)}")
    ema, step = checkpoint.load_ema(folder / "checkpoints", which, dict.fromkeys(trained, like))
    return Generator(cfg, ema[direction], step, keep_colors=keep_colors)
