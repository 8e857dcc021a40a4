"""An estimate as text and JSON."""

import json
import pathlib

from gqst.pictures import files
from gqst.plan import estimate

_GIB = 2**30


def text(estimated: estimate.Estimate) -> str:
    """Returns a line each for target, step, fit, memory, work, time at best and largest batch, as far as known."""
    step = estimated.compiled
    settings = [f"{estimated.image_size} px", f"batch {estimated.batch_size}", estimated.compute_dtype]
    settings += [f"remat {estimated.remat}"] * (estimated.remat != "none")
    settings += [f"in {estimated.accumulate} parts"] * (estimated.accumulate > 1)
    lines = [
        f"target:   {estimated.target}: {estimated.devices} x {estimated.kind}",
        f"step:     {', '.join(settings)}",
        f"fits:     {_fits(estimated)}",
    ]
    if not step.refused:
        parts = (("state and pictures", step.state), ("temporaries", step.temporaries), ("program", step.program))
        lines.append(f"memory:   {', '.join(f'{name} {size / _GIB:.2f}' for name, size in parts if size)} GiB a device")
        lines.append(f"work:     {step.flops / 1e12:.3g} TFLOP, {step.traffic / 1e9:.3g} GB through memory a device")
    compute, memory, seconds = estimated.seconds_compute, estimated.seconds_memory, estimated.seconds
    if compute is not None and memory is not None and seconds is not None:
        bound = "computing" if compute >= memory else "memory"
        lines.append(
            f"at best:  {1e3 * seconds:.3g} ms a step, bound by {bound} "
            f"(computing {1e3 * compute:.3g} ms, memory {1e3 * memory:.3g} ms); "
            f"{estimated.steps} steps in {seconds * estimated.steps / 3600:.3g} h"
        )
    if estimated.largest_batch is not None:
        largest = f"batch_size={estimated.largest_batch}" if estimated.largest_batch else "none fits"
        lines.append(f"largest:  {largest}")
    return "\n".join(lines)


def write_json(path: pathlib.Path, estimated: estimate.Estimate) -> None:
    """Writes all figures atomically."""
    files.write_text(path, json.dumps(estimated.to_dict(), indent=2) + "\n")


def _fits(estimated: estimate.Estimate) -> str:
    needed = f"{estimated.compiled.memory / _GIB:.2f} GiB"
    if estimated.usable is None:
        return f"unknown, {needed} needed"
    usable = f"{estimated.usable / _GIB:.2f} GiB a device"
    if estimated.fits:
        return f"yes, {needed} of {usable} ({estimated.compiled.memory / estimated.usable:.0%})"
    excess = (estimated.compiled.memory - estimated.usable) / _GIB
    return f"no, {needed} of {usable}: {excess:.2f} GiB too much; try bfloat16, accumulate, remat or a smaller batch"
