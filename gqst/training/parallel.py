"""The one training step on all local devices, as one global view (jit) or one replica a device (pmap)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gqst import types
from gqst.training import gradients, recipes, state, step

Mode = Literal["jit", "pmap"]
AXIS = "data"


class Parallel(Protocol):
    """How state and batches lie on the devices, and the compiled step."""

    traces: int
    """How often the step was traced; more than one is a recompilation."""

    def create(self, seed: int) -> state.TrainState:
        """A new state on the devices."""

    def put(self, batch: types.Batch) -> types.Batch:
        """A batch of the whole process on its devices; stacked [k, b, ...] where steps are repeated."""

    def step(self, now: state.TrainState, batch: types.Batch) -> tuple[state.TrainState, types.Metrics]:
        """The state after the step, and its metrics; `now` is given away and cannot be used again."""

    def single(self, now: state.TrainState) -> state.TrainState:
        """The state as one copy, to be saved and evaluated; it is not given away."""

    def spread(self, single: Any) -> Any:
        """The state that `single` gave, or a part of it, on the devices again."""


def build(
    recipe: recipes.Recipe,
    *,
    mode: Mode = "jit",
    batch_size: int,
    repeats: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Parallel:
    """The parallel form of a recipe's step.

    Args:
      recipe: the static parts of the step.
      mode: `jit` (one program over a ("data",) mesh) or `pmap`.
      batch_size: over all devices.
      repeats: steps in one dispatch.
      devices: to run on; None is all local ones.

    Raises:
      InputError: the devices do not divide the batch.
    """
    devices = list(devices or jax.local_devices())
    if batch_size % len(devices):
        raise types.InputError(
            f"batch_size={batch_size} does not divide over {len(devices)} devices: set it to a multiple of "
            f"{len(devices)}, or give --devices a divisor of {batch_size}"
        )
    return (_Jit if mode == "jit" else _Pmap)(recipe, repeats, devices)


class _Jit:
    def __init__(self, recipe: recipes.Recipe, repeats: int, devices: Sequence[jax.Device]):
        self.traces = 0
        mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        spec = PartitionSpec(AXIS) if repeats == 1 else PartitionSpec(None, AXIS)
        self._shared_out = NamedSharding(mesh, spec)
        self._frozen = jax.device_put(recipe.frozen, self._everywhere)
        self._initial = recipe.initial
        self._create = jax.jit(
            _creator(recipe), out_shardings=self._everywhere, compiler_options=compile_level(0, devices)
        )
        self._step = jax.jit(
            _counted(self, step.build(recipe), repeats),
            donate_argnums=0,
            in_shardings=(self._everywhere, self._shared_out, self._everywhere),
            out_shardings=(self._everywhere, self._everywhere),
            compiler_options=compile_level(1, devices),
        )

    def create(self, seed: int) -> state.TrainState:
        return self._create(_key(seed), self._initial)

    def put(self, batch: types.Batch) -> types.Batch:
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self._shared_out, x), batch)

    def step(self, now: state.TrainState, batch: types.Batch) -> tuple[state.TrainState, types.Metrics]:
        return self._step(now, batch, self._frozen)

    def single(self, now: state.TrainState) -> state.TrainState:
        return now

    def spread(self, single: Any) -> Any:
        return jax.device_put(single, self._everywhere)


class _Pmap:
    def __init__(self, recipe: recipes.Recipe, repeats: int, devices: Sequence[jax.Device]):
        self.traces = 0
        self._devices = list(devices)
        self._batch_axis = 0 if repeats == 1 else 1
        self._frozen = self._stacked([recipe.frozen] * len(self._devices))
        self._initial = recipe.initial
        self._create = jax.jit(_creator(recipe), compiler_options=compile_level(0, devices))
        self._step = jax.pmap(
            _counted(self, step.build(recipe, axis_name=AXIS), repeats),
            axis_name=AXIS,
            donate_argnums=0,
            devices=self._devices,
        )

    def create(self, seed: int) -> state.TrainState:
        return self.spread(self._create(_key(seed), self._initial))

    def put(self, batch: types.Batch) -> types.Batch:
        count = len(self._devices)
        shares = jax.tree.map(lambda x: np.split(x, count, axis=self._batch_axis), batch)
        turned = [jax.tree.map(lambda s, i=i: s[i], shares, is_leaf=_is_list) for i in range(count)]
        return self._stacked(turned)

    def step(self, now: state.TrainState, batch: types.Batch) -> tuple[state.TrainState, types.Metrics]:
        new, metrics = self._step(now, batch, self._frozen)
        return new, jax.tree.map(_first, metrics)

    def single(self, now: state.TrainState) -> state.TrainState:
        return jax.tree.map(_first, now)

    def spread(self, single: Any) -> Any:
        return self._stacked([single] * len(self._devices))

    def _stacked(self, trees: Sequence[Any]) -> Any:
        """The trees stacked along a new first axis, one on each device."""
        mesh = jax.make_mesh((len(trees),), (AXIS,), axis_types=(AxisType.Auto,), devices=self._devices)
        sharding = NamedSharding(mesh, PartitionSpec(AXIS))

        def join(*leaves: Any) -> jax.Array:
            placed = [jax.device_put(leaf, device)[None] for leaf, device in zip(leaves, self._devices, strict=True)]
            shape = (len(placed), *placed[0].shape[1:])
            return jax.make_array_from_single_device_arrays(shape, sharding, placed)

        return jax.tree.map(join, *trees)


def shared(rows: int) -> tuple[NamedSharding, NamedSharding]:
    """Where parameters lie, everywhere, and where a batch of pictures lies, shared out, on the local devices.

    Args:
      rows: of the batch; as many devices take part as divide it.
    """
    there = jax.local_devices()
    count = max(n for n in range(1, min(rows, len(there)) + 1) if rows % n == 0)
    mesh = jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=there[:count])
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))


def compile_level(level: int, devices: Sequence[jax.Device]) -> dict[str, int] | None:
    """Options that make XLA optimise no more than pays off on CPU; None on other devices.

    Level 1 compiles the step in two thirds of the time and it runs as fast; level 0 compiles what runs once
    five times faster.
    """
    return {"xla_backend_optimization_level": level} if devices[0].platform == "cpu" else None


def _creator(recipe: recipes.Recipe) -> Callable[[jax.Array, Any], state.TrainState]:
    return lambda key, initial: state.create(recipe, key, initial)


def _key(seed: int) -> jax.Array:
    # JAX keeps 32 bits of a seed, and fails above 63.
    return jax.random.key(seed % 2**32)


def _counted(owner: Any, one: step.Step, repeats: int) -> step.Step:
    def count_trace(now: state.TrainState, batch: types.Batch, frozen: gradients.Frozen) -> Any:
        owner.traces += 1
        return (one if repeats == 1 else step.repeat(one))(now, batch, frozen)

    return count_trace


def _first(x: jax.Array) -> jax.Array:
    return x.addressable_shards[0].data[0]


def _is_list(x: Any) -> bool:
    return isinstance(x, list)
