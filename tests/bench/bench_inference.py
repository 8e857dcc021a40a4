"""Times the generator of gqst against the same network in PyTorch and in ONNX Runtime, in turns.

    python tests/bench/bench_inference.py --sizes 64 128 256 --batches 1 4 --repeats 15

As bench_step.py does it. Needs torch, onnx and onnxruntime, which gqst itself does not.
"""

import argparse
import itertools
import pathlib
import tempfile
from collections.abc import Callable

import bench_step

from gqst import overrides


def jax_generator(size: int, batch: int, filters: int, blocks: int) -> Callable[[], float]:
    """Returns a function that translates a batch, as `gqst.stylize` does."""
    import jax
    import numpy as np

    from gqst.inference.generator import Generator
    from gqst.models import base as models

    cfg = overrides.override(overrides.load("cyclegan"), [f"generator.filters={filters}", f"generator.blocks={blocks}"])
    pictures = np.random.default_rng(0).random((batch, size, size, 3), np.float32)
    variables = jax.jit(models.build_generator(cfg).init)(jax.random.key(0), pictures)
    generator = Generator(cfg, models.build_generator(cfg), variables, 0)
    return lambda: float(generator(pictures)[0, 0, 0, 0])


def torch_generator(size: int, batch: int, filters: int, blocks: int) -> Callable[[], float]:
    """Returns a function that does it in PyTorch."""
    import torch
    import torch_cyclegan

    torch.set_num_threads(bench_step.threads())
    network = torch_cyclegan.generator(filters, blocks).eval()
    pictures = torch.rand(batch, 3, size, size)

    def run() -> float:
        with torch.inference_mode():
            return float(network(pictures)[0, 0, 0, 0])

    return run


def onnx_generator(size: int, batch: int, filters: int, blocks: int) -> Callable[[], float]:
    """Returns a function that does it in ONNX Runtime, from PyTorch's export."""
    import onnxruntime
    import torch
    import torch_cyclegan

    pictures = torch.rand(batch, 3, size, size)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "generator.onnx"
        network = torch_cyclegan.generator(filters, blocks).eval()
        torch.onnx.export(network, (pictures,), path, dynamo=False, input_names=["pictures"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = bench_step.threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = {"pictures": pictures.numpy()}
    return lambda: float(session.run(None, given)[0][0, 0, 0, 0])


SIDES = {"jax": jax_generator, "torch": torch_generator, "onnx": onnx_generator}


def main() -> None:
    """Prints one line for each size and batch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    for size, batch in itertools.product(options.sizes, options.batches):
        arguments = (size, batch, options.filters, options.blocks)
        print(bench_step.bench(SIDES, arguments, options.repeats), flush=True)


if __name__ == "__main__":
    main()
