"""Devices that need not be present: their capabilities, and topologies to compile for ahead of time."""

import dataclasses
import importlib.util
import os
import re
from importlib import resources
from typing import Any

import jax
from jax.experimental import topologies

from gqst import types

_GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """The capabilities of one device by its vendor's data sheet; None where unknown.

    Attributes:
      memory: Usable bytes. For a GPU the 75 % that JAX allocates unless XLA_PYTHON_CLIENT_MEM_FRACTION changes it.
      flops: Peak bfloat16 operations a second; a multiply-add counts as two.
      flops_float32: Peak operations a second in float32 as JAX computes it by default: in bfloat16 passes on TPU, in
        TF32 on GPU.
      bandwidth: Memory bandwidth in bytes a second.
    """

    memory: float | None
    flops: float | None
    flops_float32: float | None
    bandwidth: float | None


# Google Cloud's system architecture pages of each version; memory less what the runtime reserves.
TPUS = {
    # XLA compiles for the two cores of a v4 chip as two devices: half a chip each.
    "v4": Chip(memory=16 * _GIB, flops=137.5e12, flops_float32=137.5e12, bandwidth=614e9),
    "v5e": Chip(memory=15.75 * _GIB, flops=197e12, flops_float32=197e12, bandwidth=819e9),
    "v5p": Chip(memory=95 * _GIB, flops=459e12, flops_float32=459e12, bandwidth=2765e9),
    "v6e": Chip(memory=31.25 * _GIB, flops=918e12, flops_float32=918e12, bandwidth=1638e9),
}
_ONE_CHIP = {"v4": "1x1x1", "v5p": "1x1x1", "v5e": "1x1", "v6e": "1x1"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Rates:
    """The peak rates of a GPU, which XLA's description does not have; see `Chip`."""

    flops: float
    flops_float32: float


# NVIDIA's data sheets, without sparsity.
GPUS = {
    "h100": _Rates(flops=989e12, flops_float32=494e12),
    "a100": _Rates(flops=312e12, flops_float32=156e12),
    "l4": _Rates(flops=121e12, flops_float32=60e12),
    # A T4 has neither bfloat16 nor TF32: these are its rates for float16 and float32.
    "t4": _Rates(flops=65e12, flops_float32=8.1e12),
}
_MEMORY_FRACTION = 0.75
_FORMS = "v5e:2x2 (also v4, v5p and v6e, with the chips along each axis), h100, a100, l4, t4 (h100:8 for eight), cpu"
# Set by the entry point, because JAX and libtpu read them as they are loaded.
_ENVIRONMENT = {"tpu": "TPU_SKIP_MDS_QUERY", "cuda": "JAX_SKIP_CUDA_CONSTRAINTS_CHECK"}


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices to compile for.

    Attributes:
      name: Name as the user gave it.
      devices: Devices of the topology.
      chip: Capabilities of each of them.
      description: XLA's description of a GPU; empty for other devices.
    """

    name: str
    devices: list[Any]
    chip: Chip
    description: str = ""

    @property
    def kind(self) -> str:
        """JAX's name for the devices."""
        return str(self.devices[0].device_kind)

    @property
    def platform(self) -> str:
        """The platform to lower for: `tpu`, `cuda` or `cpu`."""
        return {"gpu": "cuda"}.get(self.devices[0].platform, self.devices[0].platform)


def find(name: str) -> Target:
    """Returns the target of a name such as v5e:2x2, v6e, h100, h100:8 or cpu.

    Raises:
      InputError: There is no such target, or the compiler for it is not installed or fails to start.
    """
    kind, _, shape = name.partition(":")
    if kind in TPUS and re.fullmatch(r"\d+(x\d+)*|", shape):
        return Target(name, _tpu(kind, shape or _ONE_CHIP[kind]), TPUS[kind])
    if kind in GPUS and re.fullmatch(r"[1-9]\d*|", shape):
        description = gpu_description(kind)
        return Target(name, _cuda(name, description, int(shape or 1)), _gpu_chip(kind, description), description)
    if name == "cpu":
        chip = Chip(memory=_host_memory(), flops=None, flops_float32=None, bandwidth=None)
        return Target(name, jax.local_devices(backend="cpu")[:1], chip)
    raise types.InputError(f"there is no target {name!r}; there are: {_FORMS}")


def gpu_description(kind: str) -> str:
    """Returns XLA's description of a GPU, a GpuTargetConfigProto in text form."""
    return (resources.files("gqst.plan") / "devices" / f"{kind}.txtpb").read_text(encoding="utf-8")


def _gpu_chip(kind: str, description: str) -> Chip:
    rates = GPUS[kind]
    return Chip(
        memory=_MEMORY_FRACTION * _number(description, "device_memory_size"),
        flops=rates.flops,
        flops_float32=rates.flops_float32,
        bandwidth=_number(description, "memory_bandwidth"),
    )


def _number(description: str, field: str) -> float:
    value = re.search(rf"^\s*{field}:\s*(\d+)\s*$", description, re.MULTILINE)
    if value is None:
        raise ValueError(f"the GPU's description has no {field}")
    return float(value.group(1))


def _tpu(kind: str, shape: str) -> list[Any]:
    _require("libtpu", "plan", "TPUs")
    # A single chip is less than a host's four, and has to be declared a host of its own.
    sides = [int(side) for side in shape.split("x")]
    bounds: dict[str, Any] = {"chips_per_host_bounds": [1, 1, 1]} if set(sides) == {1} else {}
    return _topology(f"{kind}:{shape}", platform="tpu", **bounds)


def _cuda(name: str, description: str, count: int) -> list[Any]:
    _require("jax_cuda12_plugin", "plan-cuda", "GPUs")
    return _topology(name, platform="cuda", target_config=description, topology=f"1x1x{count}")


def _topology(name: str, *, platform: str, **options: Any) -> list[Any]:
    try:
        return list(topologies.get_topology_desc(name, platform=platform, **options).devices)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        variable = _ENVIRONMENT[platform]
        advice = "" if variable in os.environ else f"; set {variable}=1 before JAX is imported, as gqst.plan does"
        raise types.InputError(f"cannot compile for {name}: {str(error).splitlines()[0]}{advice}") from error


def _require(module: str, extra: str, devices: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise types.InputError(f"to compile for {devices}, install the compiler: pip install 'gqst[{extra}]'")


def _host_memory() -> float | None:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return None
