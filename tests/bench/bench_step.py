"""Times one unpaired training step of gqst against the same step in PyTorch, alternately.

    python tests/bench/bench_step.py --sizes 64 128 --batches 1 4 --filters 64 --blocks 6 --repeats 15

Each side lives in its own process, idle while the other works, with as many threads as the process
may use cores (`taskset -c 0` gives the one-thread comparison). The threads of PyTorch and of ONNX Runtime
spin for a while after their work: each turn waits until those of the one before sleep, and begins with a
call that is not timed, which finds caches and freed memory as another side left them. Needs torch, which gqst
itself does not. Other work on the machine falls on PyTorch harder than on JAX, because OpenMP waits at
barriers: believe only runs on a quiet machine.
"""

import argparse
import itertools
import multiprocessing
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable

from gqst import overrides
from gqst.training.recipe import Recipe

_REST = 0.3

sys.path[:0] = [str(pathlib.Path(__file__).parents[2]), str(pathlib.Path(__file__).parent)]


def jax_step(size: int, batch: int, filters: int, blocks: int) -> Callable[[], float]:
    """Returns a function that makes one compiled training step and gives the generators' loss."""
    import jax
    import numpy as np

    from gqst.training import parallel

    changes = [f"image_size={size}", f"batch_size={batch}", f"generator.filters={filters}"]
    changes += [f"generator.blocks={blocks}", f"discriminator.filters={filters}", "pool_size=0"]
    recipe = Recipe(overrides.override(overrides.load("cyclegan"), changes), paired=False)
    across = parallel.build(recipe, batch_size=batch, devices=jax.devices()[:1])
    rng = np.random.default_rng(0)
    shape = (batch, size, size, 3)
    pictures = across.put({role: rng.random(shape, np.float32) for role in ("source", "target")})
    now, _ = across.step(across.create(0), pictures)

    def run() -> float:
        nonlocal now
        now, metrics = across.step(now, pictures)
        return float(metrics["loss/generator"])

    return run


def torch_step(size: int, batch: int, filters: int, blocks: int) -> Callable[[], float]:
    """Returns a function that makes one training step in PyTorch and gives the generators' loss."""
    import torch
    import torch_cyclegan

    torch.set_num_threads(threads())
    return torch_cyclegan.step(size, batch, filters, blocks)


def threads() -> int:
    """Returns the number of cores this process may use: XLA takes as many threads."""
    return len(os.sched_getaffinity(0))


def work(make: Callable, arguments: tuple, pipe) -> None:
    """Builds a step, then makes two on each request and sends back seconds of wall clock and of CPU of the second."""
    start = time.perf_counter()
    run = make(*arguments)
    pipe.send(time.perf_counter() - start)
    while pipe.recv():
        run()
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu))


def bench(sides: dict[str, Callable], arguments: tuple, repeats: int, warmup: int = 1) -> str:
    """Returns a line with the medians of all sides and the ratio of the first to each other one, with quartiles.

    Args:
      sides: by name, a function of the arguments that makes the function to be timed.
      arguments: of all of them.
      repeats: turns of each side, with one timed call each.
      warmup: turns before these.
    """
    spawn = multiprocessing.get_context("spawn")
    pipes, build = {}, {}
    for name, make in sides.items():
        pipes[name], other = spawn.Pipe()
        spawn.Process(target=work, args=(make, arguments, other), daemon=True).start()
        build[name] = pipes[name].recv()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(warmup + repeats):
        for name, pipe in pipes.items():
            time.sleep(_REST)
            pipe.send(True)
            times[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    wall, cpu = ({name: [pair[i] for pair in pairs[warmup:]] for name, pairs in times.items()} for i in (0, 1))
    told = [
        f"{name} {statistics.median(wall[name]):.3f} s (best {min(wall[name]):.3f}, cpu "
        f"{statistics.median(cpu[name]):.3f}, build {build[name]:.0f})"
        for name in wall
    ]
    first, *others = sides
    return f"{arguments}: {'; '.join(told + [ratio(first, other, wall, cpu) for other in others])}"


def ratio(one: str, other: str, wall: dict[str, list[float]], cpu: dict[str, list[float]]) -> str:
    """Returns the ratio of two sides in words."""
    middle = {name: statistics.median(values) for name, values in wall.items()}
    ratios = [a / b for a, b in zip(wall[one], wall[other], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return (
        f"{one}/{other} {middle[one] / middle[other]:.3f} (quartiles {low:.3f} to {high:.3f}, "
        f"best/best {min(wall[one]) / min(wall[other]):.3f}, "
        f"cpu/cpu {statistics.median(cpu[one]) / statistics.median(cpu[other]):.3f})"
    )


def main() -> None:
    """Prints the versions and one line for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    import jax
    import torch

    print(
        f"jax {jax.__version__}, torch {torch.__version__}, python {platform.python_version()}, "
        f"{threads()} threads each, load average {os.getloadavg()[0]:.2f}"
    )
    for size, batch in itertools.product(options.sizes, options.batches):
        arguments = (size, batch, options.filters, options.blocks)
        print(bench({"jax": jax_step, "torch": torch_step}, arguments, options.repeats), flush=True)


if __name__ == "__main__":
    main()
