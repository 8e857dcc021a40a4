"""What steps of a config take here, and what an estimate says of it, as JSON: `python -m ... CONFIG KEY=VALUE ...`."""

import ctypes
import gc
import json
import pathlib
import sys

import jax
import numpy as np

from gqst import overrides
from gqst.plan import compiled, hardware
from gqst.training import parallel
from gqst.training.recipe import Recipe

_STATUS = pathlib.Path("/proc/self/status")


def _resident(key: str) -> int:
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def main(name: str, changes: list[str]) -> None:
    """Prints both, in bytes."""
    cfg = overrides.override(overrides.load(name), changes)
    estimated = compiled.compile_step(cfg, hardware.find("cpu"), paired=False)
    trainer = parallel.build(Recipe(cfg, paired=False), batch_size=cfg.batch_size, devices=jax.local_devices()[:1])
    rng = np.random.default_rng(0)
    shape = (cfg.batch_size, cfg.image_size, cfg.image_size, 3)
    pictures = trainer.put({domain: rng.random(shape, np.float32) for domain in ("source", "target")})
    train_state, _ = jax.block_until_ready(trainer.step(trainer.create(0), pictures))
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((train_state, pictures)))
    # What compiling took is given back first, and the highest mark set to what is left.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    for _ in range(3):
        train_state, _ = jax.block_until_ready(trainer.step(train_state, pictures))
    measured = _resident("VmHWM") - before + held
    print(json.dumps({"estimated": estimated.memory, "measured": measured}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
