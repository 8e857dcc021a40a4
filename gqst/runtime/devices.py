"""Where arrays lie: a copy on every device, or rows shared out among devices, of one process or of many."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

AXIS = "data"


class Placement:
    """Some devices in their order.

    Where they belong to several processes, each of these makes the same calls with the same values.

    Attributes:
      devices: of all processes.
      everywhere: the sharding of what every device has a copy of.
      shared: the sharding of arrays whose rows are shared out.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        """On these devices; None is all of this process."""
        self.devices = list(devices or jax.local_devices())
        self._mesh = jax.make_mesh((len(self.devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=self.devices)
        self.everywhere = NamedSharding(self._mesh, PartitionSpec())
        self.shared = self.along(0)

    def along(self, axis: int) -> NamedSharding:
        """The sharding of arrays that are shared out along this axis."""
        return NamedSharding(self._mesh, PartitionSpec(*[None] * axis, AXIS))

    def rows(self, least: int) -> int:
        """The smallest number of rows, `least` or more, of which every device has as many."""
        return -(-least // len(self.devices)) * len(self.devices)

    def copy(self, tree: Any) -> Any:
        """The arrays on every device."""
        return jax.tree.map(lambda x: _put(x, self.everywhere), tree)

    def share(self, tree: Any) -> Any:
        """The arrays with their rows shared out."""
        return jax.tree.map(lambda x: _put(x, self.shared), tree)


def compile_options(level: int, devices: Sequence[jax.Device] | None = None) -> dict[str, int | str] | None:
    """Options that make XLA's programs fast on CPU and optimise no more than pays off there; None on other devices.

    Level 1 compiles the step in two thirds of the time and it runs as fast; level 0 compiles what runs once
    five times faster.

    Args:
      level: of optimisation.
      devices: to compile for; None is all of this process.
    """
    platform = (devices or jax.local_devices())[0].platform
    return {"xla_backend_optimization_level": level, **_own_convolutions()} if platform == "cpu" else None


@functools.cache
def _own_convolutions() -> dict[str, str]:
    """Keeps convolutions of several pictures from YNNPACK, with which they take three times as long; {} without it."""
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:  # this XLA has no such option
        return {}
    return options


def _put(x: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(x, jax.Array):
        return jax.device_put(x, sharding)
    # Not device_put: between processes it compares all values first.
    array = np.asarray(x)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
