"""The training step on all devices: one program in a global view (jit), or one replica per device (pmap)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import jax
import numpy as np

from gqst import types
from gqst.runtime import devices as runtime_devices
from gqst.runtime.devices import AXIS
from gqst.training import gradients, step
from gqst.training.recipe import Recipe
from gqst.training.state import TrainState, create

Mode = Literal["jit", "pmap"]


class Parallel(Protocol):
    """A recipe's compiled step, and the layout of state and batches on the devices.

    Attributes:
      traces: Number of times the step was traced; more than one is a recompilation.
      mesh: The devices, of all processes.
    """

    traces: int
    mesh: runtime_devices.DeviceMesh

    def create(self, seed: int) -> TrainState:
        """Returns a new state on the devices."""

    def put(self, batch: types.Batch) -> types.Batch:
        """Returns this process's share of a batch, [k, b, ...] if steps are repeated, placed on its devices."""

    def step(self, state: TrainState, batch: types.Batch) -> tuple[TrainState, types.Metrics]:
        """Returns the state after the step and its metrics; the arrays of `state` are donated."""

    def single(self, state: TrainState) -> TrainState:
        """Returns the state as one copy, to be saved and evaluated; its arrays are not donated."""

    def spread(self, single: Any) -> Any:
        """Returns a state from `single`, or a part of one, laid out on the devices again."""


def build(
    recipe: Recipe,
    *,
    mode: Mode = "jit",
    batch_size: int,
    repeats: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Parallel:
    """Returns the parallel form of a recipe's step.

    Args:
      recipe: Static parts of the step.
      mode: `jit` (one program over a ("data",) mesh) or `pmap`.
      batch_size: Pictures of each domain in a step, over all devices.
      repeats: Steps in one dispatch.
      devices: Devices to run on; None takes those of all processes.

    Raises:
      InputError: The devices do not divide the batch, or their shares do not divide into the recipe's parts.
    """
    devices = list(devices or jax.devices())
    check_batch(batch_size, devices=len(devices), accumulate=recipe.config.accumulate)
    return (_Jit if mode == "jit" else _Pmap)(recipe, repeats, devices)


def check_batch(batch_size: int, *, devices: int, accumulate: int) -> None:
    """Raises InputError if so many devices do not divide a batch, or `accumulate` their shares of it."""
    if batch_size % (devices * accumulate):
        parts = f" in accumulate={accumulate} parts each" if accumulate > 1 else ""
        raise types.InputError(
            f"batch_size={batch_size} does not divide over {devices} devices{parts}: "
            f"set it to a multiple of {devices * accumulate}, or take fewer devices"
        )


def jitted(train_step: step.Step, mesh: runtime_devices.DeviceMesh, *, repeats: int = 1) -> Any:
    """Returns the step in one global view of these devices, which need not be present to compile for them."""
    return jax.jit(
        train_step,
        donate_argnums=0,
        in_shardings=(mesh.replicated, mesh.sharded_along(0 if repeats == 1 else 1), mesh.replicated),
        out_shardings=(mesh.replicated, mesh.replicated),
        compiler_options=runtime_devices.compile_options(1, mesh.devices),
    )


class _Jit:
    def __init__(self, recipe: Recipe, repeats: int, devices: Sequence[jax.Device]):
        self.traces = 0
        self.mesh = runtime_devices.DeviceMesh(devices)
        self._batches = self.mesh.sharded_along(0 if repeats == 1 else 1)
        self._frozen = self.mesh.replicate(recipe.frozen)
        self._create = _creator(recipe, self.mesh)
        self._step = jitted(_counted(self, step.build(recipe), repeats), self.mesh, repeats=repeats)

    def create(self, seed: int) -> TrainState:
        return self._create(seed)

    def put(self, batch: types.Batch) -> types.Batch:
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self._batches, x), batch)

    def step(self, state: TrainState, batch: types.Batch) -> tuple[TrainState, types.Metrics]:
        return self._step(state, batch, self._frozen)

    def single(self, state: TrainState) -> TrainState:
        return state

    def spread(self, single: Any) -> Any:
        return self.mesh.replicate(single)


class _Pmap:
    def __init__(self, recipe: Recipe, repeats: int, devices: Sequence[jax.Device]):
        self.traces = 0
        self.mesh = runtime_devices.DeviceMesh(devices)
        # pmap takes and returns the rows of this process's own devices.
        self._local = runtime_devices.DeviceMesh([d for d in devices if d.process_index == jax.process_index()])
        self._batch_axis = 0 if repeats == 1 else 1
        self._frozen = self.spread(recipe.frozen)
        self._create = _creator(recipe, self.mesh)
        self._step = jax.pmap(
            _counted(self, step.build(recipe, axis_name=AXIS), repeats),
            axis_name=AXIS,
            donate_argnums=0,
            devices=devices,
        )

    def create(self, seed: int) -> TrainState:
        return self.spread(self._create(seed))

    def put(self, batch: types.Batch) -> types.Batch:
        shares = len(self._local.devices)
        return jax.tree.map(lambda x: self._stacked(np.split(x, shares, axis=self._batch_axis)), batch)

    def step(self, state: TrainState, batch: types.Batch) -> tuple[TrainState, types.Metrics]:
        state, metrics = self._step(state, batch, self._frozen)
        return state, jax.tree.map(lambda x: x.addressable_shards[0].data[0], metrics)

    def single(self, state: TrainState) -> TrainState:
        def join(x: jax.Array) -> jax.Array:
            copies = [shard.data[0] for shard in x.addressable_shards]
            return jax.make_array_from_single_device_arrays(x.shape[1:], self.mesh.replicated, copies)

        return jax.tree.map(join, state)

    def spread(self, single: Any) -> Any:
        def share(x: jax.Array) -> jax.Array:
            return self._stacked([shard.data for shard in x.addressable_shards])

        return jax.tree.map(share, self.mesh.replicate(single))

    def _stacked(self, parts: Sequence[Any]) -> jax.Array:
        """The parts along a new first axis, one on each of this process's devices."""
        shards = [jax.device_put(part, device)[None] for part, device in zip(parts, self._local.devices, strict=True)]
        shape = (len(shards), *shards[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, self._local.sharded, shards)


def _creator(recipe: Recipe, mesh: runtime_devices.DeviceMesh) -> Callable[[int], TrainState]:
    """A function from a seed to a new state, replicated on all devices; it runs once and is hardly optimised."""
    jitted_create = jax.jit(
        lambda key, initial: create(recipe, key, initial),
        out_shardings=mesh.replicated,
        compiler_options=runtime_devices.compile_options(0, mesh.devices),
    )
    # JAX keeps 32 bits of a seed, and fails above 63.
    return lambda seed: jitted_create(jax.random.key(seed % 2**32), recipe.initial)


def _counted(owner: Any, train_step: step.Step, repeats: int) -> step.Step:
    def count_trace(state: TrainState, batch: types.Batch, frozen: gradients.Frozen) -> Any:
        owner.traces += 1
        return (train_step if repeats == 1 else step.repeat(train_step))(state, batch, frozen)

    return count_trace
