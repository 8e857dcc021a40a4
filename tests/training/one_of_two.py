"""One of two processes with four fake devices each, which run the steps of test_parallel together.

python -m tests.training.one_of_two PORT INDEX MODE FILE
"""

import os
import sys

import jax
import numpy as np

from gqst.runtime import processes
from gqst.training import parallel
from gqst.training.recipe import Recipe
from tests.training import test_parallel

# Of the tests' eight; no device has been asked for yet.
os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=4"


def main(port: str, index: str, mode: str, file: str) -> None:
    """Runs the steps; process 0 writes the leaves of the first and the last state, and the metrics."""
    with processes.joined(
        processes.Group(coordinator=f"127.0.0.1:{port}", count=2, index=int(index), timeout_seconds=60)
    ):
        recipe = Recipe(test_parallel.config_of_runs(), paired=False)
        trainer = parallel.build(recipe, mode=mode, batch_size=8)
        assert len(trainer.mesh.devices) == 8
        share = {key: rows[4 * int(index) :][:4] for key, rows in test_parallel.pictures().items()}
        first, last, said, traces = test_parallel.run(trainer, share)
        assert traces == 1
        if processes.is_first():
            leaves = [*jax.tree.leaves(first), *jax.tree.leaves(last)]
            values = {f"metric_{name}": np.asarray([s[name] for s in said]) for name in said[0]}
            np.savez(file, **{f"leaf_{i}": leaf for i, leaf in enumerate(leaves)}, **values)


if __name__ == "__main__":
    main(*sys.argv[1:])
