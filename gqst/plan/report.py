"""A plan as text and JSON."""

import json
import pathlib

from gqst.pictures import files
from gqst.plan import estimate

_GIB = 2**30


def text(plan: estimate.Plan) -> str:
    """What a config takes on a target: memory by kind, time at best, the largest batch; a line for each."""
    made = plan.compiled
    size = f"{plan.image_size} px, batch {plan.batch_size}, {plan.compute_dtype}"
    extra = [f"remat {plan.remat}"] * (plan.remat != "none")
    extra += [f"in {plan.accumulate} parts"] * (plan.accumulate > 1)
    lines = [
        f"target:   {plan.target}: {plan.devices} x {plan.kind}",
        f"step:     {', '.join([size, *extra])}",
        f"fits:     {_fits(plan)}",
    ]
    if not made.refused:
        parts = (("state and pictures", made.state), ("temporaries", made.temporaries), ("program", made.program))
        lines.append(f"memory:   {', '.join(f'{name} {size / _GIB:.2f}' for name, size in parts if size)} GiB a device")
        lines.append(f"work:     {made.flops / 1e12:.3g} TFLOP, {made.traffic / 1e9:.3g} GB through memory a device")
    if plan.seconds is not None and plan.seconds_compute is not None and plan.seconds_memory is not None:
        side = "computing" if plan.seconds_compute >= plan.seconds_memory else "memory"
        lines.append(
            f"at best:  {1e3 * plan.seconds:.3g} ms a step, bound by {side} "
            f"(computing {1e3 * plan.seconds_compute:.3g} ms, memory {1e3 * plan.seconds_memory:.3g} ms); "
            f"{plan.steps} steps in {plan.seconds * plan.steps / 3600:.3g} h"
        )
    if plan.largest_batch is not None:
        lines.append(f"largest:  batch_size={plan.largest_batch}" if plan.largest_batch else "largest:  none fits")
    return "\n".join(lines)


def write_json(path: pathlib.Path, plan: estimate.Plan) -> None:
    """Writes all figures, whole or not at all."""
    files.write_text(path, json.dumps(plan.to_dict(), indent=2) + "\n")


def _fits(plan: estimate.Plan) -> str:
    needed = f"{plan.compiled.memory / _GIB:.2f} GiB"
    if plan.usable is None:
        return f"unknown, {needed} needed"
    there = f"{plan.usable / _GIB:.2f} GiB a device"
    if plan.fits:
        return f"yes, {needed} of {there} ({plan.compiled.memory / plan.usable:.0%})"
    over = (plan.compiled.memory - plan.usable) / _GIB
    return f"no, {needed} of {there}: {over:.2f} GiB too much; try bfloat16, accumulate, remat or a smaller batch"
