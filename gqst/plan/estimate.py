"""The train step of a config compiled for devices that are not here: what it takes and whether it fits."""

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import pathlib
import re
import time
from collections.abc import Callable
from typing import Any

import jax

import gqst
from gqst import config, types
from gqst.data import sources
from gqst.pictures import files
from gqst.plan import hardware, traffic
from gqst.runtime import devices
from gqst.training import parallel, step
from gqst.training.recipe import Recipe

_LARGEST = 4096
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled:
    """What a compiler says of one step, in bytes and floating-point operations of one device.

    Attributes:
      state: parameters, optimiser and other state, and the pictures of the step.
      temporaries: activations and gradients, at their most.
      program: the code, where it lies in the same memory.
      flops: operations of a step.
      traffic: read from and written to memory.
      refused: of what the compiler refused because it does not fit, how much it would take; 0 otherwise, and the
        others are then 0.
    """

    state: int = 0
    temporaries: int = 0
    program: int = 0
    flops: float = 0.0
    traffic: float = 0.0
    refused: int = 0

    @property
    def memory(self) -> int:
        """In all."""
        return self.refused or self.state + self.temporaries + self.program

    def fits(self, usable: float) -> bool:
        """Whether so many bytes of a device's memory are enough."""
        return not self.refused and self.memory <= usable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A config on a target.

    Attributes:
      target, devices, kind: as the user named it, how many devices it has, and what they are.
      image_size, batch_size, compute_dtype, remat, accumulate, steps: of the config.
      usable: bytes of a device's memory that there are; None if not known.
      compiled: the step.
      seconds_compute, seconds_memory: of a step at the device's highest rates; None if these are not known.
      largest_batch: the largest batch over all devices that fits; None if it was not searched.
    """

    target: str
    devices: int
    kind: str
    image_size: int
    batch_size: int
    compute_dtype: str
    remat: str
    accumulate: int
    steps: int
    usable: float | None
    compiled: Compiled
    seconds_compute: float | None
    seconds_memory: float | None
    largest_batch: int | None

    @property
    def fits(self) -> bool | None:
        """Whether there is memory enough; None if that is not known."""
        return None if self.usable is None else self.compiled.fits(self.usable)

    @property
    def seconds(self) -> float | None:
        """Of a step, at best."""
        both = (self.seconds_compute, self.seconds_memory)
        return None if None in both else max(both)  # type: ignore[type-var]

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            **dataclasses.asdict(self),
            "compiled": {**dataclasses.asdict(self.compiled), "memory": self.compiled.memory},
            "fits": self.fits,
            "seconds": self.seconds,
            "hours": None if self.seconds is None else self.seconds * self.steps / 3600.0,
        }


def make(
    cfg: config.Config,
    target: hardware.Target,
    *,
    search: bool = True,
    cache: pathlib.Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Plan:
    """The plan of a config on a target; each compilation takes minutes where the networks are large.

    Args:
      cfg: the experiment.
      target: the devices.
      search: whether to look for the largest batch that fits.
      cache: folder of what earlier compilations said; None keeps nothing.
      say: is told what is being done.

    Raises:
      InputError: the config does not go with the target, or its compiler fails.
    """
    paired = sources.build(cfg.data, validation=cfg.validation).paired
    known: dict[int, Compiled] = {}

    def compiled(batch_size: int) -> Compiled:
        if batch_size not in known:
            changed = dataclasses.replace(cfg, batch_size=batch_size)
            known[batch_size] = _compile(changed, target, paired=paired, cache=cache, say=say)
        return known[batch_size]

    found = compiled(cfg.batch_size)
    usable = target.chip.memory
    largest = None
    if search and usable is not None:
        largest = largest_fitting(compiled, usable, unit=len(target.devices) * cfg.accumulate)
    rate = target.chip.flops if cfg.compute_dtype == "bfloat16" else target.chip.flops_float32
    bandwidth = target.chip.bandwidth
    return Plan(
        target=target.name,
        devices=len(target.devices),
        kind=target.kind,
        image_size=cfg.image_size,
        batch_size=cfg.batch_size,
        compute_dtype=cfg.compute_dtype,
        remat=cfg.remat,
        accumulate=cfg.accumulate,
        steps=cfg.steps,
        usable=usable,
        compiled=found,
        seconds_compute=None if rate is None or found.refused else found.flops / rate,
        seconds_memory=None if bandwidth is None or found.refused else found.traffic / bandwidth,
        largest_batch=largest,
    )


def largest_fitting(compiled: Callable[[int], Compiled], usable: float, *, unit: int) -> int:
    """The largest multiple of `unit` whose step fits; 0 if none does.

    Both it and the next one, which does not fit, were compiled. Memory grows about linearly with the batch, until a
    TPU's compiler begins to save it. All temporaries of the smallest one are taken to grow at first; from there on a
    line through the last two sizes says where to look. Where it says that nothing more fits, larger and larger steps
    beyond find out. What a compiler says of a size that it refuses is no point of the line: then the middle is next.
    """
    base = compiled(unit)
    if not base.fits(usable):
        return 0
    low, high = 1, _LARGEST
    held, slope = base.memory, max(float(base.temporaries), 1.0)
    beyond, halve, missed = 1, False, False
    while high - low > 1:
        guess = low + max(math.floor((usable - held) / slope), beyond)
        guess = (low + high) // 2 if halve else min(guess, high - 1)
        made = compiled(guess * unit)
        # Where the compiler saves memory, a larger step may take less: then a quarter of the growth so far.
        growth = (made.memory - base.memory) / (guess - 1)
        slope = max((made.memory - held) / (guess - low), growth / 4, 1.0)
        if made.fits(usable):
            beyond = 2 * beyond if guess == low + beyond else 1
            low, held, missed = guess, made.memory, False
        else:
            high, beyond, halve, missed = guess, 1, halve or missed or bool(made.refused), True
    return low * unit


def _compile(
    cfg: config.Config,
    target: hardware.Target,
    *,
    paired: bool,
    cache: pathlib.Path | None,
    say: Callable[[str], None],
) -> Compiled:
    recipe = Recipe(cfg, paired=paired)
    parallel.check_batch(cfg.batch_size, devices=len(target.devices), accumulate=cfg.accumulate)
    lowered = _lower(recipe, target)
    path = None
    if cache is not None:
        versions = [importlib.metadata.version("jaxlib"), _version("libtpu"), _version("jax-cuda12-plugin")]
        known = "\n".join([gqst.__version__, target.name, target.kind, *versions, lowered.as_text()])
        path = cache / f"{hashlib.sha256(known.encode()).hexdigest()}.json"
        if path.is_file():
            return Compiled(**json.loads(path.read_text(encoding="utf-8")))
    say(f"compiling the step for {target.name} with batch_size={cfg.batch_size}")
    started = time.monotonic()
    made = _finish(cfg, recipe, target, lowered)
    say(f"compiled in {time.monotonic() - started:.0f} s: {made.memory / 2**30:.2f} GiB a device")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, json.dumps(dataclasses.asdict(made)))
    return made


def _lower(recipe: Recipe, target: hardware.Target) -> Any:
    jitted = parallel.jitted(step.build(recipe), devices.Placement(target.devices))
    traced = jitted.trace(*step.abstract_arguments(recipe))
    return traced.lower(lowering_platforms=(target.platform,))


def _finish(cfg: config.Config, recipe: Recipe, target: hardware.Target, lowered: Any) -> Compiled:
    options: dict[str, Any] | None = devices.compile_options(1, target.devices)
    if target.platform == "cuda":
        options = {"xla_gpu_autotune_level": 0}  # there is nothing here to time alternatives on
    try:
        made = lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        needed = _refused(str(error))
        if needed is None:
            raise types.InputError(f"{target.name}: the compiler says: {str(error).splitlines()[0][:300]}") from error
        return Compiled(refused=needed)
    memory = made.memory_analysis()
    cost = made.cost_analysis() or {}
    # A loop over the parts of a batch is counted once by compilers.
    flops = cost.get("flops", 0.0) if cfg.accumulate == 1 else 0.0
    return Compiled(
        state=memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        program=memory.generated_code_size_in_bytes,
        flops=flops if flops > 0.0 else _flops(cfg, recipe) / len(target.devices),
        traffic=traffic.of(made.as_text()),
    )


def _refused(said: str) -> int | None:
    """The bytes that a program would take, by the compiler's word that it does not fit; None for other words."""
    needed = re.search(r"(?:Used |temporaries \()([\d.]+)([KMGT])", said)
    if "RESOURCE_EXHAUSTED" not in said or needed is None:
        return None
    return round(float(needed.group(1)) * _UNITS[needed.group(2)])


def _flops(cfg: config.Config, recipe: Recipe) -> float:
    """The operations of a step in one part, as they stand in the program before any compiler changes it."""
    here = hardware.find("cpu")
    lowered = _lower(Recipe(dataclasses.replace(cfg, accumulate=1), paired=recipe.paired), here)
    return float(lowered.cost_analysis()["flops"])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
