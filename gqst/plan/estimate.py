"""The estimate of a config on a target: memory, time at best, and the largest batch that fits."""

import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Any

from gqst import config
from gqst.data import sources
from gqst.plan import compiled, hardware

_MOST = 4096  # units of a batch, more than any device holds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A config on a target.

    Attributes:
      target: Name of the target as the user gave it.
      devices: Number of devices.
      kind: JAX's name for the devices.
      image_size: Side of the crops in pixels.
      batch_size: Pictures of each domain in a step, over all devices.
      compute_dtype: Data type of activations, as in the config.
      remat: Rematerialization, as in the config.
      accumulate: Number of parts of a batch.
      steps: Length of the run.
      usable: Usable bytes of a device's memory; None if unknown.
      compiled: The compiler's figures for one step.
      seconds_compute: Time of a step's operations at the device's peak rate; None if unknown.
      seconds_memory: Time of a step's memory traffic at the device's peak bandwidth; None if unknown.
      largest_batch: Largest batch over all devices that fits, 0 if none does; None if not searched for.
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
    compiled: compiled.Compiled
    seconds_compute: float | None
    seconds_memory: float | None
    largest_batch: int | None

    @property
    def fits(self) -> bool | None:
        """True if a device has enough memory; None if unknown."""
        return None if self.usable is None else self.compiled.fits(self.usable)

    @property
    def seconds(self) -> float | None:
        """Time of a step at best: the longer of compute and memory (the roofline); None if unknown."""
        if self.seconds_compute is None or self.seconds_memory is None:
            return None
        return max(self.seconds_compute, self.seconds_memory)

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields and properties in a form that JSON can hold; `hours` is the whole run at best."""
        return {
            **dataclasses.asdict(self),
            "compiled": {**dataclasses.asdict(self.compiled), "memory": self.compiled.memory},
            "fits": self.fits,
            "seconds": self.seconds,
            "hours": None if self.seconds is None else self.seconds * self.steps / 3600.0,
        }


def estimate(
    cfg: config.Config,
    target: hardware.Target,
    *,
    find_largest: bool = True,
    cache: pathlib.Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Estimate:
    """Estimates a config on a target; each compilation takes minutes where the networks are large.

    Args:
      cfg: The experiment.
      target: The devices.
      find_largest: Whether to search for the largest batch that fits.
      cache: Folder of what earlier compilations said; None stores nothing.
      say: Callback for lines of progress.

    Raises:
      InputError: The config does not suit the target, or its compiler fails.
    """
    paired = sources.is_paired(cfg.data)
    steps: dict[int, compiled.Compiled] = {}

    def compile_batch(batch_size: int) -> compiled.Compiled:
        if batch_size not in steps:
            resized = dataclasses.replace(cfg, batch_size=batch_size)
            steps[batch_size] = compiled.compile_step(resized, target, paired=paired, cache=cache, say=say)
        return steps[batch_size]

    step = compile_batch(cfg.batch_size)
    usable = target.chip.memory
    largest = None
    if find_largest and usable is not None:
        largest = largest_batch(compile_batch, usable, unit=len(target.devices) * cfg.accumulate)
    rate = target.chip.flops if cfg.compute_dtype == "bfloat16" else target.chip.flops_float32
    bandwidth = target.chip.bandwidth
    return Estimate(
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
        compiled=step,
        seconds_compute=None if rate is None or step.refused else step.flops / rate,
        seconds_memory=None if bandwidth is None or step.refused else step.traffic / bandwidth,
        largest_batch=largest,
    )


def largest_batch(compile_batch: Callable[[int], compiled.Compiled], usable: float, *, unit: int) -> int:
    """Returns the largest multiple of `unit` whose step fits, 0 if none does.

    Both that batch and the next one, which does not fit, have then been compiled.

    Args:
      compile_batch: Compiles the step of a batch size.
      usable: Usable bytes of a device's memory.
      unit: Batch size of which the result is a multiple.
    """
    smallest = compile_batch(unit)
    if not smallest.fits(usable):
        return 0
    bracket = Bracket(smallest, usable)
    while not bracket.closed:
        units = bracket.propose()
        bracket.record(units, compile_batch(units * unit))
    return bracket.fitting * unit


class Bracket:
    """The largest batch that fits, narrowed down between one that fits and one that does not, in units.

    A compilation takes minutes, so the next size is extrapolated from memory, along a line through the last two
    sizes: memory grows about linearly until a TPU's compiler nears its limit and starts to save. Where the line says
    that nothing more fits, strides beyond it double as long as they succeed. Bisection takes over once the line has
    been wrong twice in a row, or once the compiler has refused a size: the memory of such a size is not on the line.

    Attributes:
      fitting: Largest number of units that is known to fit.
      failing: Smallest number of units that is taken not to fit.
    """

    def __init__(self, smallest: compiled.Compiled, usable: float):
        """Starts from the step of one unit, which fits; all of its temporaries are assumed to grow with the batch."""
        self.fitting, self.failing = 1, _MOST
        self._usable = usable
        self._smallest = smallest.memory
        self._memory = smallest.memory  # of the step of `fitting` units
        self._slope = max(float(smallest.temporaries), 1.0)  # bytes per unit
        self._stride = 1
        self._missed = self._bisecting = False

    @property
    def closed(self) -> bool:
        """True once the next larger number of units is known not to fit."""
        return self.failing - self.fitting <= 1

    def propose(self) -> int:
        """Returns the number of units to compile next, strictly between `fitting` and `failing`."""
        if self._bisecting:
            return (self.fitting + self.failing) // 2
        predicted = math.floor((self._usable - self._memory) / self._slope)
        return min(self.fitting + max(predicted, self._stride), self.failing - 1)

    def record(self, units: int, step: compiled.Compiled) -> None:
        """Narrows the bracket by the compiled step of a proposed number of units."""
        self._update_slope(units, step.memory)
        if step.fits(self._usable):
            self._stride = 2 * self._stride if units == self.fitting + self._stride else 1
            self.fitting, self._memory, self._missed = units, step.memory, False
        else:
            self._stride = 1
            self._bisecting = self._bisecting or self._missed or bool(step.refused)
            self.failing, self._missed = units, True

    def _update_slope(self, units: int, memory: int) -> None:
        secant = (memory - self._memory) / (units - self.fitting)
        # Where the compiler saves memory, a larger step may even take less: at least a quarter of the mean growth.
        mean = (memory - self._smallest) / (units - 1)
        self._slope = max(secant, mean / 4, 1.0)
