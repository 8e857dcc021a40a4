"""Checks tiles against whole pictures, and measures time and memory of large ones.

    python tests/bench/bench_sizes.py equal                         every bundled generator and norm at 1536x1024
    python tests/bench/bench_sizes.py large quickstart 8192x8192    one picture, with its peak of resident memory

The generators are untrained, with noise added so that their output is far from the picture.
"""

import argparse
import resource
import time

import jax
import numpy as np

from gqst import config, overrides
from gqst.inference.generator import Generator
from gqst.models import base as models
from gqst.pictures import decode, folders

NORMS = ("instance", "batch", "group", "none")


def picture(height: int, width: int) -> np.ndarray:
    """Returns a bundled photograph at a size, u8[height width 3]."""
    path = folders.resolve("demo:photos/test/china.jpg")
    return np.asarray(decode.decode(path).resize((width, height)))


def generator(cfg: config.Config, *, memory: int | None = None) -> Generator:
    """Returns the generator of a config with lively weights."""
    module = models.build_generator(cfg)
    variables = jax.jit(module.init)(jax.random.key(0), np.zeros((1, 256, 256, 3), np.float32))
    random = np.random.default_rng(0)

    def lively(x: jax.Array) -> np.ndarray:
        # As large as keeps the scale of activations, so that rounding is not magnified from block to block.
        scale = 0.5 / np.sqrt(x[..., 0].size) if x.ndim == 4 else 0.0
        return np.asarray(x) + np.float32(scale) * random.standard_normal(x.shape).astype(np.float32)

    return Generator(cfg, module, {**variables, "params": jax.tree.map(lively, variables["params"])}, 0, memory=memory)


def equal() -> None:
    """Prints the largest difference between tiles and the whole for every bundled generator and norm."""
    seen = set()
    source = picture(1024, 1536)
    for name in sorted(overrides.bundled()):
        for norm in NORMS:
            cfg = overrides.load(name, f"generator.norm={norm}")
            if str(cfg.generator) in seen:
                continue
            seen.add(str(cfg.generator))
            large = generator(cfg, memory=2**40)
            [whole] = large.translate([source])
            # As little memory as leaves room for 2 x 2 tiles or more.
            grid = large._programs.grid
            least = (2 * grid.margin + max(256, grid.multiple)) ** 2 * large.demands["bytes"]
            small = generator(cfg, memory=int(least))
            [tiled] = small.translate([source])
            difference = np.abs(tiled.pixels.astype(int) - whole.pixels.astype(int))
            print(
                f"{name} {cfg.generator.name} {norm}: {difference.max()}/255 at most, {np.mean(difference > 0):.1e} of "
                f"the values differ; arrays of {small._programs.canvases[0]}, {small.compiled} programs",
                flush=True,
            )


def large(name: str, height: int, width: int, memory: int | None) -> None:
    """Prints time and peak memory of one picture."""
    source = picture(height, width)
    one = generator(overrides.load(*name.split(",")), memory=memory)
    times = []
    for _ in range(2):
        start = time.monotonic()
        one.translate([source])
        times.append(time.monotonic() - start)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{name} {width}x{height} on {jax.devices()[0].device_kind}: {times[0]:.1f} s with compilation, {times[1]:.1f} "
        f"s without; arrays of {one._programs.canvases[0]}, {one.compiled} programs; "
        f"{resident:.2f} GiB resident at most",
        flush=True,
    )


def main() -> None:
    """Runs what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("equal")
    one = kinds.add_parser("large")
    one.add_argument("config", help="a config and changes, as in cyclegan,generator.filters=32")
    one.add_argument("size", help="WIDTHxHEIGHT")
    one.add_argument("--memory", type=int)
    flags = parser.parse_args()
    if flags.kind == "equal":
        equal()
    else:
        width, height = (int(n) for n in flags.size.split("x"))
        large(flags.config, height, width, flags.memory)


if __name__ == "__main__":
    main()
