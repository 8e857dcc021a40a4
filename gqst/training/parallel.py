"""The one training step on all local devices, as one global view (jit) or one replica a device (pmap)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import jax
import numpy as np

from gqst import types
from gqst.runtime import devices as runtime_devices
from gqst.runtime.devices import AXIS
from gqst.training import gradients, recipes, state, step

Mode = Literal["jit", "pmap"]


class Parallel(Protocol):
    """How state and batches lie on the devices, and the compiled step."""

    traces: int
    """How often the step was traced; more than one is a recompilation."""

    where: runtime_devices.Placement
    """The devices, of all processes."""

    def create(self, seed: int) -> state.TrainState:
        """A new state on the devices."""

    def put(self, batch: types.Batch) -> types.Batch:
        """This process's share of a batch on its devices; stacked [k, b, ...] where steps are repeated."""

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
      devices: to run on; None is all there are, of all processes.

    Raises:
      InputError: the devices do not divide the batch, or what is left does not divide into the recipe's parts.
    """
    devices = list(devices or jax.devices())
    check_batch(batch_size, devices=len(devices), accumulate=recipe.accumulate)
    return (_Jit if mode == "jit" else _Pmap)(recipe, repeats, devices)


def check_batch(batch_size: int, *, devices: int, accumulate: int) -> None:
    """Raises InputError where so many devices do not divide a batch, or their shares the parts of `accumulate`."""
    if batch_size % (devices * accumulate):
        parts = f" in accumulate={accumulate} parts each" if accumulate > 1 else ""
        raise types.InputError(
            f"batch_size={batch_size} does not divide over {devices} devices{parts}: "
            f"set it to a multiple of {devices * accumulate}, or take fewer devices"
        )


def jitted(one: step.Step, where: runtime_devices.Placement, *, repeats: int = 1) -> Any:
    """The step in one global view of these devices, which need not be here to be compiled for."""
    return jax.jit(
        one,
        donate_argnums=0,
        in_shardings=(where.everywhere, where.along(0 if repeats == 1 else 1), where.everywhere),
        out_shardings=(where.everywhere, where.everywhere),
        compiler_options=runtime_devices.compile_options(1, where.devices),
    )


class _Jit:
    def __init__(self, recipe: recipes.Recipe, repeats: int, devices: Sequence[jax.Device]):
        self.traces = 0
        self.where = runtime_devices.Placement(devices)
        everywhere = self.where.everywhere
        self._batches = self.where.along(0 if repeats == 1 else 1)
        self._frozen = self.where.copy(recipe.frozen)
        self._initial = recipe.initial
        self._create = jax.jit(
            _creator(recipe), out_shardings=everywhere, compiler_options=runtime_devices.compile_options(0, devices)
        )
        self._step = jitted(_counted(self, step.build(recipe), repeats), self.where, repeats=repeats)

    def create(self, seed: int) -> state.TrainState:
        return self._create(_key(seed), self._initial)

    def put(self, batch: types.Batch) -> types.Batch:
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self._batches, x), batch)

    def step(self, now: state.TrainState, batch: types.Batch) -> tuple[state.TrainState, types.Metrics]:
        return self._step(now, batch, self._frozen)

    def single(self, now: state.TrainState) -> state.TrainState:
        return now

    def spread(self, single: Any) -> Any:
        return self.where.copy(single)


class _Pmap:
    def __init__(self, recipe: recipes.Recipe, repeats: int, devices: Sequence[jax.Device]):
        self.traces = 0
        self.where = runtime_devices.Placement(devices)
        # pmap takes and gives the rows of this process's own devices.
        self._own = runtime_devices.Placement([d for d in devices if d.process_index == jax.process_index()])
        self._batch_axis = 0 if repeats == 1 else 1
        self._frozen = self.spread(recipe.frozen)
        self._initial = recipe.initial
        self._create = jax.jit(
            _creator(recipe),
            out_shardings=self.where.everywhere,
            compiler_options=runtime_devices.compile_options(0, devices),
        )
        self._step = jax.pmap(
            _counted(self, step.build(recipe, axis_name=AXIS), repeats),
            axis_name=AXIS,
            donate_argnums=0,
            devices=devices,
        )

    def create(self, seed: int) -> state.TrainState:
        return self.spread(self._create(_key(seed), self._initial))

    def put(self, batch: types.Batch) -> types.Batch:
        return jax.tree.map(lambda x: self._stacked(np.split(x, len(self._own.devices), axis=self._batch_axis)), batch)

    def step(self, now: state.TrainState, batch: types.Batch) -> tuple[state.TrainState, types.Metrics]:
        new, metrics = self._step(now, batch, self._frozen)
        return new, jax.tree.map(lambda x: x.addressable_shards[0].data[0], metrics)

    def single(self, now: state.TrainState) -> state.TrainState:
        def join(x: jax.Array) -> jax.Array:
            copies = [shard.data[0] for shard in x.addressable_shards]
            return jax.make_array_from_single_device_arrays(x.shape[1:], self.where.everywhere, copies)

        return jax.tree.map(join, now)

    def spread(self, single: Any) -> Any:
        def share(x: jax.Array) -> jax.Array:
            return self._stacked([shard.data for shard in x.addressable_shards])

        return jax.tree.map(share, self.where.copy(single))

    def _stacked(self, parts: Sequence[Any]) -> jax.Array:
        """The parts along a new first axis, one on each of this process's devices."""
        placed = [jax.device_put(part, device)[None] for part, device in zip(parts, self._own.devices, strict=True)]
        return jax.make_array_from_single_device_arrays((len(placed), *placed[0].shape[1:]), self._own.shared, placed)


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
