"""What the quality part costs: the same step with it and without, in turns, as a ratio of medians.

    python tests/bench/bench_overhead.py --size 128 --repeats 9

For every config the loss on contrast_structure (fake and source) is switched on and off.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from gqst import overrides
from gqst.training import parallel
from gqst.training.recipe import Recipe

QUALITY = ("losses.structure.weight=5", "losses.structure.term=quality", "losses.structure.metric=contrast_structure")
ON = (*QUALITY, "losses.structure.pair=fake_source", "losses.structure.floor=0.65")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=["cyclegan", "photo2painting"])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    flags = parser.parse_args()
    for name in flags.configs:
        common = (f"image_size={flags.size}", "batch_size=1", "generator_optimizer.warmup_steps=0", *flags.set)
        off = "losses.structure.weight=0"
        sides = {side: prepared(name, *common, *ON, *([off] if side == "off" else [])) for side in ("on", "off")}
        seconds: dict[str, list[float]] = {"on": [], "off": []}
        for _ in range(flags.repeats):
            for side, run in sides.items():
                seconds[side].append(run())
        medians = {side: statistics.median(times) for side, times in seconds.items()}
        ratios = [a / b for a, b in zip(seconds["on"], seconds["off"], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        print(
            f"{name} {flags.size} px: on {medians['on']:.3f} s, off {medians['off']:.3f} s, ratio of medians "
            f"{medians['on'] / medians['off']:.3f} (quartiles {low:.3f} to {high:.3f})",
            flush=True,
        )


def prepared(name: str, *changes: str):
    """A function that takes a step and gives its seconds; compiled."""
    cfg = overrides.override(overrides.load(name), changes)
    across = parallel.build(Recipe(cfg, paired=False), batch_size=cfg.batch_size, devices=jax.devices()[:1])
    rng = np.random.default_rng(0)
    shape = (cfg.batch_size, cfg.image_size, cfg.image_size, 3)
    batch = across.put({key: rng.random(shape, np.float32) for key in ("source", "target")})
    held = [across.create(0)]

    def run() -> float:
        started = time.perf_counter()
        held[0], metrics = across.step(held[0], batch)
        jax.block_until_ready((held[0], metrics))
        return time.perf_counter() - started

    run()
    run()
    return run


if __name__ == "__main__":
    main()
