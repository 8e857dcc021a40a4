"""A compiler's figures for one train step: memory, operations and traffic of each device."""

import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

import gqst
from gqst import config, types
from gqst.models import blocks
from gqst.pictures import files
from gqst.plan import hardware, traffic
from gqst.runtime import devices
from gqst.training import parallel, step
from gqst.training.recipe import Recipe

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled:
    """Memory in bytes and work of one step on one device.

    Attributes:
      state: Parameters, optimiser and other state, and the pictures of the step.
      temporaries: Peak size of activations and gradients.
      program: Code, where it occupies the same memory.
      flops: Floating-point operations of a step.
      traffic: Bytes read from and written to memory in a step.
      refused: Bytes needed by a step that the compiler refused for want of memory, in which case all other values
        are 0; 0 for a step that compiled.
    """

    state: int = 0
    temporaries: int = 0
    program: int = 0
    flops: float = 0.0
    traffic: float = 0.0
    refused: int = 0

    @property
    def memory(self) -> int:
        """Bytes needed in all."""
        return self.refused or self.state + self.temporaries + self.program

    def fits(self, usable: float) -> bool:
        """Returns whether the step compiled and needs at most `usable` bytes."""
        return not self.refused and self.memory <= usable


def compile_step(
    cfg: config.Config,
    target: hardware.Target,
    *,
    paired: bool,
    cache: pathlib.Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Compiled:
    """Compiles the train step of a config, which takes minutes where the networks are large.

    Args:
      cfg: The experiment.
      target: The devices to compile for.
      paired: Whether the data is paired.
      cache: Folder of earlier results; None stores nothing.
      say: Callback for lines of progress.

    Raises:
      InputError: The config does not suit the target, or the compiler fails for a reason other than memory.
    """
    recipe = Recipe(cfg, paired=paired)
    parallel.check_batch(cfg.batch_size, devices=len(target.devices), accumulate=cfg.accumulate)
    lowered = _lower(recipe, target.devices, target.platform)
    path = None if cache is None else cache / f"{_fingerprint(target, lowered)}.json"
    if path is not None and path.is_file():
        return Compiled(**json.loads(path.read_text(encoding="utf-8")))
    say(f"compiling the step for {target.name} with batch_size={cfg.batch_size}")
    started = time.monotonic()
    compiled = _compile(recipe, target, lowered)
    say(f"compiled in {time.monotonic() - started:.0f} s: {compiled.memory / 2**30:.2f} GiB a device")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, json.dumps(dataclasses.asdict(compiled)))
    return compiled


def _lower(recipe: Recipe, over: Sequence[Any], platform: str) -> Any:
    jitted = parallel.jitted(step.build(recipe), devices.DeviceMesh(over))
    return jitted.trace(*step.abstract_arguments(recipe)).lower(lowering_platforms=(platform,))


def _compile(recipe: Recipe, target: hardware.Target, lowered: Any) -> Compiled:
    options: dict[str, Any] | None = devices.compile_options(1, target.devices)
    if target.platform == "cuda":
        options = {"xla_gpu_autotune_level": 0}  # autotuning would time kernels on a GPU
    try:
        executable = lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        needed = _bytes_needed(str(error))
        if needed is None:
            raise types.InputError(f"{target.name}: the compiler says: {str(error).splitlines()[0][:300]}") from error
        return Compiled(refused=needed)
    memory = executable.memory_analysis()
    return Compiled(
        state=memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        program=memory.generated_code_size_in_bytes,
        flops=_flops(recipe, target) / len(target.devices),
        traffic=traffic.of(executable.as_text()),
    )


def _flops(recipe: Recipe, target: hardware.Target) -> float:
    """Operations of a step on all devices, before any compiler optimizes it, and without loops over blocks or parts.

    Compilers count the body of a loop once, and some leave out what they hand to libraries.
    """
    whole = Recipe(dataclasses.replace(recipe.config, accumulate=1), paired=recipe.paired)
    with blocks.unrolled():
        lowered = _lower(whole, jax.devices("cpu")[:1], target.platform)
    return float(lowered.cost_analysis()["flops"])


def _bytes_needed(message: str) -> int | None:
    """Bytes that a refused program needs, read from the compiler's message; None for other failures."""
    needed = re.search(r"(?:Used |temporaries \()([\d.]+)([KMGT])", message)
    if "RESOURCE_EXHAUSTED" not in message or needed is None:
        return None
    return round(float(needed.group(1)) * _UNITS[needed.group(2)])


def _fingerprint(target: hardware.Target, lowered: Any) -> str:
    """Hash of all that decides what a compiler says: program, options, devices and versions."""
    versions = [gqst.__version__, *map(_version, ("jaxlib", "libtpu", "jax-cuda12-plugin"))]
    options = str(devices.compile_options(1, target.devices))
    parts = [*versions, target.name, target.kind, target.description, options, lowered.as_text()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
