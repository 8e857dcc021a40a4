"""Devices that are not here: what they can do, and how to compile for them ahead of time."""

import dataclasses
import importlib.util
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
from jax.experimental import topologies

from gqst import types

_GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """One device of a kind, by its vendor's data sheet.

    Attributes:
      memory: usable bytes. Of a GPU it is the 75 % that JAX takes unless XLA_PYTHON_CLIENT_MEM_FRACTION says
        otherwise.
      flops: highest rate of multiply-adds in bfloat16, twice their number a second. None where it is not known.
      flops_float32: likewise of float32 as JAX computes it by default: on TPU in bfloat16 passes, on GPU in TF32.
      bandwidth: of the memory, in bytes a second.
    """

    memory: float | None
    flops: float | None
    flops_float32: float | None
    bandwidth: float | None


_TPUS = {
    # A v4 chip is compiled for as its two cores.
    "v4": Chip(memory=16 * _GIB, flops=137.5e12, flops_float32=137.5e12, bandwidth=614e9),
    "v5e": Chip(memory=15.75 * _GIB, flops=197e12, flops_float32=197e12, bandwidth=819e9),
    "v5p": Chip(memory=95 * _GIB, flops=459e12, flops_float32=459e12, bandwidth=2765e9),
    "v6e": Chip(memory=31.25 * _GIB, flops=918e12, flops_float32=918e12, bandwidth=1638e9),
}
_WHOLE = {"v4": "1x1x1", "v5p": "1x1x1", "v5e": "1x1", "v6e": "1x1"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Gpu:
    """What XLA wants to know of a GPU, besides what all of these have in common."""

    name: str
    capability: tuple[int, int]
    cores: int
    units: int
    threads: int
    shared: int
    shared_block: int
    cache: int
    clock: float
    memory: int
    bandwidth: float
    flops: float
    flops_float32: float


_GPUS = {
    "h100": _Gpu(
        name="NVIDIA H100 80GB HBM3",
        capability=(9, 0),
        cores=132,
        units=128,
        threads=2048,
        shared=233472,
        shared_block=232448,
        cache=50 * 2**20,
        clock=1.98,
        memory=80 * _GIB,
        bandwidth=3352e9,
        flops=989e12,
        flops_float32=494e12,
    ),
    "a100": _Gpu(
        name="NVIDIA A100-SXM4-40GB",
        capability=(8, 0),
        cores=108,
        units=64,
        threads=2048,
        shared=167936,
        shared_block=166912,
        cache=40 * 2**20,
        clock=1.41,
        memory=40 * _GIB,
        bandwidth=1555e9,
        flops=312e12,
        flops_float32=156e12,
    ),
    "l4": _Gpu(
        name="NVIDIA L4",
        capability=(8, 9),
        cores=58,
        units=128,
        threads=1536,
        shared=102400,
        shared_block=101376,
        cache=48 * 2**20,
        clock=2.04,
        memory=24 * _GIB,
        bandwidth=300e9,
        flops=121e12,
        flops_float32=60e12,
    ),
    # It has no bfloat16 and no TF32: the rates are those of float16 and of float32.
    "t4": _Gpu(
        name="Tesla T4",
        capability=(7, 5),
        cores=40,
        units=64,
        threads=1024,
        shared=65536,
        shared_block=65536,
        cache=4 * 2**20,
        clock=1.59,
        memory=16 * _GIB,
        bandwidth=320e9,
        flops=65e12,
        flops_float32=8.1e12,
    ),
}
_TAKEN = 0.75
_FORMS = "v5e:2x2 (also v4, v5p and v6e, with the chips along each axis), h100, a100, l4, t4 (h100:8 for eight), cpu"


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices to compile for.

    Attributes:
      name: as the user gave it.
      devices: of the topology.
      chip: what each of them can do.
    """

    name: str
    devices: list[Any]
    chip: Chip

    @property
    def kind(self) -> str:
        """What JAX calls the devices."""
        return str(self.devices[0].device_kind)

    @property
    def platform(self) -> str:
        """`tpu`, `cuda` or `cpu`."""
        return {"gpu": "cuda"}.get(self.devices[0].platform, self.devices[0].platform)


def find(name: str) -> Target:
    """The devices that a name stands for, as v5e:2x2, v6e, h100, h100:8 or cpu; none has to be here.

    Raises:
      InputError: there is no such target, or the package that compiles for it is missing.
    """
    kind, _, shape = name.partition(":")
    if kind in _TPUS and re.fullmatch(r"\d+(x\d+)*|", shape):
        return Target(name, _tpu(kind, shape or _WHOLE[kind]), _TPUS[kind])
    if kind in _GPUS and re.fullmatch(r"[1-9]\d*|", shape):
        gpu = _GPUS[kind]
        chip = Chip(
            memory=_TAKEN * gpu.memory, flops=gpu.flops, flops_float32=gpu.flops_float32, bandwidth=gpu.bandwidth
        )
        return Target(name, _cuda(gpu, int(shape or 1)), chip)
    if name == "cpu":
        nothing_known = Chip(memory=_host_memory(), flops=None, flops_float32=None, bandwidth=None)
        return Target(name, jax.local_devices(backend="cpu")[:1], nothing_known)
    raise types.InputError(f"there is no target {name!r}; there are: {_FORMS}")


def _tpu(kind: str, shape: str) -> list[Any]:
    _need("libtpu", "plan", "TPUs")
    # Without these libtpu asks a metadata server which TPU it is on, and lets no other process of it run; here it only
    # compiles.
    for key, value in (
        ("TPU_SKIP_MDS_QUERY", "1"),
        ("TPU_WORKER_HOSTNAMES", "localhost"),
        ("TPU_ACCELERATOR_TYPE", "v5litepod-4"),
        ("TPU_MIN_LOG_LEVEL", "3"),
        ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"),
    ):
        os.environ.setdefault(key, value)
    # Less than a host's four chips have to be said to be a host of their own.
    sides = [int(side) for side in shape.split("x")]
    small: dict[str, Any] = {"chips_per_host_bounds": [1, 1, 1]} if set(sides) == {1} else {}
    return _topology(f"{kind}:{shape}", platform="tpu", **small)


def _cuda(gpu: _Gpu, count: int) -> list[Any]:
    _need("jax_cuda12_plugin", "plan-cuda", "GPUs")
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    return _topology(gpu.name, platform="cuda", target_config=_description(gpu), topology=f"1x1x{count}")


def _topology(name: str, *, platform: str, **options: Any) -> list[Any]:
    try:
        return list(topologies.get_topology_desc(name, platform=platform, **options).devices)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise types.InputError(f"cannot compile for {name}: {str(error).splitlines()[0]}") from error


def _need(module: str, extra: str, what: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise types.InputError(f"to compile for {what}, install the compiler: pip install 'gqst[{extra}]'")


def _description(gpu: _Gpu) -> str:
    """The device as XLA's GpuTargetConfigProto, in text."""
    device: Mapping[str, Any] = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 49152,
        "shared_memory_per_core": gpu.shared,
        "threads_per_core_limit": gpu.threads,
        "core_count": gpu.cores,
        "fpus_per_core": gpu.units,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 65535,
        "block_dim_limit_z": 65535,
        "memory_bandwidth": round(gpu.bandwidth),
        "l2_cache_size": gpu.cache,
        "clock_rate_ghz": gpu.clock,
        "device_memory_size": gpu.memory,
        "shared_memory_per_block_optin": gpu.shared_block,
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
    }
    fields = " ".join(f"{key}: {value}" for key, value in device.items())
    major, minor = gpu.capability
    return (
        f"gpu_device_info {{ {fields} cuda_compute_capability {{ major: {major} minor: {minor} }} }} "
        f'platform_name: "CUDA" runtime_version {{ major: 12 minor: 8 }} '
        f'dnn_version_info {{ major: 9 minor: 8 }} device_description_str: "{gpu.name}"'
    )


def _host_memory() -> float | None:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return None
