"""A trained generator, restored from its run."""

import copy
import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float

from gqst import config, storage, types
from gqst.inference import kept, programs
from gqst.models import base as models
from gqst.models import conditions, noise, translate
from gqst.ops import color

if TYPE_CHECKING:
    from gqst.training import checkpoint


@dataclasses.dataclass(frozen=True)
class Styled:
    """A picture in the trained style.

    Attributes:
      pixels: The picture [h w 3], of the type and size of its source.
      strength: Strength of the style, at most the one asked for.
      structure: Its contrast_structure to the source; None unless a floor was asked for.
    """

    pixels: np.ndarray
    strength: float = 1.0
    structure: float | None = None


class Generator:
    """A function of pictures: the running-average generator of a run.

    Pictures of any size are done in bounded memory: those too large for it in tiles, with the same result. A network
    with instance or group norm then needs a pass over all tiles for every norm, because it divides by moments of the
    whole picture.

    Attributes:
      config: Config of the run.
      step: Step of the checkpoint.
    """

    def __init__(
        self,
        cfg: config.Config,
        module: nn.Module,
        variables: Any,
        step: int,
        *,
        keep_colors: bool = False,
        memory: int | None = None,
        demands: Mapping[str, float] | None = None,
        seed: int | None = None,
    ):
        """Wraps a module and its trained variables; see `load_generator`.

        Raises:
          InputError: A seed is given, and the generator has no noise; or the generator takes a style.
          ValueError: The seed does not lie between 0 and 2^32 - 1.
        """
        if getattr(module, "structures", None) is not None and conditions.COLLECTION not in variables:
            raise types.InputError(
                "this generator takes a style picture: name one, as in --style PAINTING.jpg or gqst.Stylizer"
            )
        self.config = cfg
        self.step = step
        if seed is not None:
            if not getattr(module, "noise", False):
                raise types.InputError(
                    "this generator has no noise that a seed could vary; those that were trained with "
                    "generator.noise=True have some"
                )
            if not 0 <= seed < 2**32:
                raise ValueError(f"seed must lie between 0 and {2**32 - 1}, got {seed}")
            variables = noise.seeded(variables, np.array([seed], np.uint32))

        def apply(variables: Any, pictures: jax.Array, strength: jax.Array) -> jax.Array:
            fakes = translate.translate(module, variables, pictures, keep_colors=cfg.keep_colors)
            fakes = color.recolor(fakes, pictures) if keep_colors else fakes
            # At full strength nothing is blended, and no logarithm computed.
            return jax.lax.cond(
                jnp.all(strength >= 1),
                lambda: fakes,
                lambda: color.blend(pictures, fakes, strength[:, None, None, None]),
            )

        self._make = lambda device: programs.Programs(apply, module, variables, device, memory=memory, demands=demands)
        self._programs = self._make(jax.local_devices()[0])

    @property
    def demands(self) -> Mapping[str, float]:
        """What the network demands of tiles, for another generator of the same network; see `Programs`."""
        return self._programs.demands

    @property
    def compiled(self) -> int:
        """Number of programs compiled so far."""
        return self._programs.compiled

    def __call__(
        self, pictures: Float[Any, "*b h w 3"], *, strength: float = 1.0, min_structure: float | None = None
    ) -> Float[np.ndarray, "*b h w 3"]:
        """Returns the pictures, one or a batch, in the trained style, in [0, 1] and of the same size.

        A size that is new may be compiled anew.

        Args:
          pictures: Pictures in [0, 1].
          strength: Strength of the style, from 0 (the pictures themselves) to 1, blended in logits.
          min_structure: Least contrast_structure of every picture to its source, for which its strength is lowered;
            None sets no floor.

        Raises:
          ValueError: The array has another shape, or is smaller than the network can take.
        """
        x = np.asarray(pictures, np.float32)
        if x.ndim not in (3, 4) or x.shape[-1] != 3:
            raise ValueError(f"pictures must be f32[h w 3] or f32[b h w 3], got shape {x.shape}")
        styled = self.translate(list(x) if x.ndim == 4 else [x], strength=strength, min_structure=min_structure)
        return np.stack([picture.pixels for picture in styled]) if x.ndim == 4 else styled[0].pixels

    def translate(
        self, pictures: Sequence[np.ndarray], *, strength: float = 1.0, min_structure: float | None = None
    ) -> list[Styled]:
        """Returns pictures of any sizes in the trained style, with the strength that each got.

        Args:
          pictures: Pictures [h w 3] of 8 or 16 bits, or of floats in [0, 1].
          strength: Strength of the style, from 0 to 1, blended in logits.
          min_structure: Least contrast_structure of every picture to its source, to which its strength is lowered by
            bisection to 1/256; None sets no floor.

        Raises:
          ValueError: A picture is smaller than the network, or the measurement of structure, can take.
          MemoryError: A picture does not fit into the memory allowed, even in tiles.
          FloatingPointError: The generator's output is not finite.
        """
        if min_structure is None:
            return [Styled(fake, strength) for fake in self._programs(pictures, strength)]
        fakes = self._programs(pictures, 1.0)
        return [
            Styled(*self._floor.strongest(picture, fake, min_structure, most=strength))
            for picture, fake in zip(pictures, fakes, strict=True)
        ]

    def prepare(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Chooses the sizes of at most four programs for pictures of these heights and widths."""
        self._programs.announce(sizes)

    def batch_size(self, height: int, width: int) -> int:
        """Returns how many pictures of this size one call to the device takes."""
        return self._programs.per_call((height, width))

    def group(self, height: int, width: int) -> object:
        """Returns a value that is equal for pictures that can share a call to the device."""
        return self._programs.key((height, width))

    def on(self, device: jax.Device) -> "Generator":
        """Returns the same generator on another device."""
        other = copy.copy(self)
        other._programs = self._make(device)
        other._programs.canvases = list(self._programs.canvases)
        other.__dict__.pop("_floor", None)
        return other

    @functools.cached_property
    def _floor(self) -> Any:
        # Imported when a floor is asked for: SSIM comes from dm-pix, which takes its time.
        from gqst.inference import structure

        return structure.Floor(self._programs.device)


def load_generator(
    workdir: str | pathlib.Path,
    *,
    which: "checkpoint.Which" = "best",
    direction: str = "forward",
    keep_colors: bool = False,
    memory: int | None = None,
    seed: int | None = None,
) -> Generator:
    """Returns the trained generator of a run, as a function of pictures.

    Args:
      workdir: Folder of the run.
      which: `best` (the best round; the newest checkpoint if no round was best yet), `last`, or
        a step.
      direction: `forward` (source to target), or `backward` where the run has cycles.
      keep_colors: Whether to take only the brightness of the style; a run that was trained so always does.
      memory: Number of bytes that a program may take beside the pictures; None depends on the device.
      seed: Seed of the generator's noise, from 0 to 2^32 - 1; another gives a variant of every picture. None takes 0.

    Raises:
      InputError: There is no run, no such checkpoint or no such direction; or a seed is given, and the generator has
        no noise.
      ValueError: The seed does not lie between 0 and 2^32 - 1.
    """
    folder = storage.path(workdir)
    cfg, module = models.of_run(folder)
    checkpoints = folder / "checkpoints"
    options: dict[str, Any] = {"keep_colors": keep_colors, "memory": memory, "seed": seed}
    earlier = kept.read(checkpoints, which, direction)
    if earlier is not None:
        return Generator(cfg, module, earlier.variables, earlier.step, demands=earlier.demands, **options)
    variables, step = _restored(cfg, module, checkpoints, which, direction)
    generator = Generator(cfg, module, variables, step, **options)
    kept.write(checkpoints, direction, kept.Kept(variables, step, dict(generator.demands)))
    return generator


def restored(
    workdir: str | pathlib.Path, which: "checkpoint.Which", direction: str
) -> tuple[config.Config, dict[str, Any], int]:
    """Returns a run's config, its generator's variables by collection, and the step; InputError as `load_generator`."""
    folder = storage.path(workdir)
    cfg, module = models.of_run(folder)
    variables, step = _restored(cfg, module, folder / "checkpoints", which, direction)
    return cfg, variables, step


def _restored(
    cfg: config.Config, module: nn.Module, checkpoints: pathlib.Path, which: "checkpoint.Which", direction: str
) -> tuple[Any, int]:
    """Returns variables and step from a checkpoint."""
    # Imported when it is needed, because Orbax takes its time.
    from gqst.training import restore

    return restore.generator(cfg, module, checkpoints, which, direction)
