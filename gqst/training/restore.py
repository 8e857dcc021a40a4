"""Networks taken from runs and style files: to apply a generator, and to start another run with it."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Float

from gqst import config, storage, types
from gqst.losses import base as losses
from gqst.losses import quality
from gqst.models import base as models
from gqst.models import conditions, style_files
from gqst.quality import targets
from gqst.runtime import devices
from gqst.training import checkpoint
from gqst.training.recipe import BACKWARD, FORWARD, Recipe, directions
from gqst.training.state import Player, TrainState, create

ANY_STYLE = "any_style"
"""Value of `start_from` for the generator that takes styles, or with the run's own style folded into it."""

Styles = Callable[[], Float[np.ndarray, "n h w 3"]]
"""Returns pictures of a style domain, in [0, 1]."""

_ADDED = ("noise",)
"""Options of a generator that another one can start without: what they add begins as if it were not there."""

_FREE = ("structures",)
"""Options of a generator that its parameters do not depend on."""


def generator(
    cfg: config.Config, module: nn.Module, checkpoints: pathlib.Path, which: checkpoint.Which, direction: str
) -> tuple[Any, int]:
    """Returns the running average of a run's generator, variables by collection, and its step.

    Args:
      cfg: Config of the run.
      module: Its generator.
      checkpoints: The folder `<workdir>/checkpoints`.
      which: `best`, `last` or a step.
      direction: `forward` or `backward`.

    Raises:
      InputError: There is no such checkpoint or direction, or it cannot be read.
    """
    abstract = _on_one_device(_shapes(cfg, module))
    return checkpoint.load_ema(
        checkpoints, which, direction, abstract, default_directions=lambda: directions(_objective(cfg))
    )


class Start(NamedTuple):
    """Networks that a run starts with in place of new ones.

    Attributes:
      generators: Variables of the generators by direction and collection.
      discriminators: Variables of the discriminators likewise; empty where a new one is trained.
      note: What was taken, for the run's files.
    """

    generators: Mapping[str, Mapping[str, Any]]
    discriminators: Mapping[str, Mapping[str, Any]]
    note: dict[str, Any]


def start(recipe: Recipe, styles: Styles | None = None) -> Start:
    """Returns the networks that `start_from` of a recipe's config names.

    Args:
      recipe: Recipe of the run.
      styles: Function that returns pictures of the style domain in [0, 1], for ANY_STYLE.

    Raises:
      InputError: There is no such run or style, it cannot be read, or its generator is another than the config's.
    """
    name = recipe.config.start_from
    assert name is not None
    folder = storage.path(name).expanduser()
    # A folder that only happens to be called like a style is not in its way.
    is_run = (folder / "config.json").is_file() or (folder.is_dir() and name not in style_files.bundled())
    try:
        if name == ANY_STYLE:
            return _of_any_style(recipe, styles)
        return _of_run(folder, recipe) if is_run else _of_style(folder if folder.is_file() else name, recipe)
    except types.InputError as error:
        raise types.InputError(f"start_from: {error}") from error


def _of_any_style(recipe: Recipe, styles: Styles | None) -> Start:
    """The generator that takes styles, or with the mean of these folded into it."""
    base = style_files.base()
    module: Any = base.module
    if recipe.config.generator.name == base.config.generator.name:
        _check_same(ANY_STYLE, base.config.generator, recipe.config.generator)
        return _noted(ANY_STYLE, base.step, {FORWARD: base.variables}, {})
    _check_same(ANY_STYLE, config.Choice(name="one_style", options=module.options), recipe.config.generator)
    floors = [entry.term.floor for entry in recipe.objective if isinstance(entry.term, quality.Quality)]
    structure = next((floor for floor in floors if floor is not None), sum(module.structures) / 2)
    if styles is None:
        raise types.InputError(
            f"{ANY_STYLE} needs pictures of the style: give a function that returns them as `styles`"
        )
    looked = jax.jit(functools.partial(conditions.style_of, module))
    style = jnp.mean(jnp.concatenate([looked(base.variables, picture[None]) for picture in styles()]), axis=0)
    variables = module.folded(base.variables, style, jnp.clip(structure, *module.structures))
    return _noted(ANY_STYLE, base.step, {FORWARD: jax.device_get(variables)}, {})


def _of_style(style: str | pathlib.Path, recipe: Recipe) -> Start:
    read = style_files.read(style)
    _check_same(str(style), read.config.generator, recipe.config.generator)
    return _noted(str(style), read.step, {FORWARD: read.variables}, {})


def _of_run(folder: pathlib.Path, recipe: Recipe) -> Start:
    cfg, module = models.of_run(folder)
    _check_same(str(folder), cfg.generator, recipe.config.generator)
    objective, checkpoints = _objective(cfg), folder / "checkpoints"
    variables, step = generator(cfg, module, checkpoints, "best", FORWARD)
    generators = {FORWARD: variables}
    if BACKWARD in recipe.directions and BACKWARD in directions(objective):
        generators[BACKWARD] = generator(cfg, module, checkpoints, step, BACKWARD)[0]
    discriminators: Mapping[str, Any] = {}
    same = (cfg.discriminator, cfg.conditional) == (recipe.config.discriminator, recipe.config.conditional)
    if same and recipe.adversarial and losses.needs(objective, "logits"):
        shapes = jax.eval_shape(recipe.init_discriminator, jax.random.key(0), recipe.initial["disc"])
        discriminators = checkpoint.load_discriminators(
            checkpoints, step, dict.fromkeys(generators, _on_one_device(shapes))
        )
    return _noted(str(folder), step, generators, discriminators)


def begun(start: Start, new: TrainState) -> TrainState:
    """Returns a new state with the networks of a start, on the host; no optimiser begins with the parameters."""

    def taken(player: Player, networks: Mapping[str, Any]) -> Player:
        params, stats = dict(player.params), dict(player.stats)
        for direction, variables in networks.items():
            rest = _over({"params": params[direction], **stats[direction]}, variables)
            params[direction] = rest.pop("params")
            stats[direction] = rest
        return player.replace(params=params, stats=stats)

    # Copies, because the same buffer cannot be donated twice.
    average = {**new.ema, **{d: _over(new.ema[d], variables) for d, variables in start.generators.items()}}
    return new.replace(gen=taken(new.gen, start.generators), disc=taken(new.disc, start.discriminators), ema=average)


def _over(new: Any, taken: Any) -> dict[str, Any]:
    """Copies of the variables that are taken, and of those that only the new network has."""
    leaves = traverse_util.flatten_dict(new) | traverse_util.flatten_dict(taken)
    return traverse_util.unflatten_dict({path: np.array(value) for path, value in leaves.items()})


def create_state(recipe: Recipe, key: jax.Array, styles: Styles | None = None) -> TrainState:
    """Returns a new state on the default device, with the networks of `start_from` if the config names any.

    Args:
      recipe: Static parts of the step.
      key: Typed random key, as returned by `jax.random.key`.
      styles: As for `start`.

    Raises:
      InputError: As `start`.
    """
    jitted = jax.jit(lambda key, initial: create(recipe, key, initial), compiler_options=devices.compile_options(0))
    new = jitted(key, recipe.initial)
    return jax.device_put(begun(start(recipe, styles), new)) if recipe.config.start_from else new


def _noted(name: str, step: int, generators: Mapping[str, Any], discriminators: Mapping[str, Any]) -> Start:
    note = {"start_from": name, "of_step": step, "generators": [*generators], "discriminators": [*discriminators]}
    return Start(generators, discriminators, note)


def _check_same(name: str, theirs: config.Choice, own: config.Choice) -> None:
    """Raises InputError, with the keys to set, unless the config's generator has all that the other has."""
    wanted = [] if theirs.name == own.name else [f"generator={theirs.name}"]
    have = {} if wanted else _options(own)
    for option, value in _options(theirs).items():
        added = option in _ADDED and have.get(option) and not value
        if have.get(option) != value and not added and option not in _FREE:
            wanted.append(f"generator.{option}={value}")
    if wanted:
        raise types.InputError(
            f"the generator of {name} is not this config's; to start with it: --set {' '.join(wanted)}"
        )


def _options(choice: config.Choice) -> dict[str, Any]:
    """All options of a generator, with their defaults."""
    known = models.GENERATORS.options(choice.name, given=("dtype", "axis_name"))
    return {key: entry.default for key, entry in known.items()} | models.GENERATORS.check(choice, given=("dtype",))


def _objective(cfg: config.Config) -> losses.Objective:
    """The objective of a run; whether its data was paired does not matter to which networks it has."""
    return losses.build(targets.aim(cfg.losses, cfg.targets)[0], paired=True)


def _shapes(cfg: config.Config, module: nn.Module) -> Any:
    picture = jnp.zeros((1, cfg.image_size, cfg.image_size, 3))
    return jax.eval_shape(module.init, jax.random.key(0), picture)


def _on_one_device(shapes: Any) -> Any:
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, np.dtype(x.dtype), sharding=device), shapes)
