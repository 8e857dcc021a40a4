"""Times a folder of photographs, from file to file, against ONNX Runtime with the same network, in turns.

    python tests/bench/bench_batch.py --size 640x427 --pictures 12 --filters 32 --blocks 6

As bench_step.py does it. The other side decodes, runs and encodes one picture after the other, at the same quality.
Needs torch, onnx and onnxruntime, which gqst itself does not.
"""

import argparse
import pathlib
import tempfile
from collections.abc import Callable

import bench_step
import numpy as np
from PIL import Image

from gqst import overrides
from gqst.pictures import decode, folders


def photographs(width: int, height: int, count: int) -> pathlib.Path:
    """Returns a folder of JPEG files."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gqst-bench-"))
    photo = decode.decode(folders.resolve("demo:photos/test/china.jpg")).resize((width, height))
    for index in range(count):
        photo.rotate(index).save(folder / f"{index:03d}.jpg", quality=92)
    return folder


def jax_folder(width: int, height: int, count: int, filters: int, blocks: int) -> Callable[[], float]:
    """Returns a function that stylises a folder with `gqst.inference.batch`."""
    import jax

    from gqst.inference import batch, inputs
    from gqst.inference.generator import Generator
    from gqst.models import base as models

    cfg = overrides.load("cyclegan", f"generator.filters={filters}", f"generator.blocks={blocks}")
    module = models.build_generator(cfg)
    variables = jax.jit(module.init)(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))
    generator = Generator(cfg, module, variables, 0)
    folder = photographs(width, height, count)
    found = inputs.collect([str(folder)], folder.with_name(folder.name + "-out"))
    # The replica of the only device is made anew in every call; its programs are not.
    generator.on = lambda device: generator
    return lambda: float(batch.stylize(generator, found).count("written"))


def onnx_folder(width: int, height: int, count: int, filters: int, blocks: int) -> Callable[[], float]:
    """Returns a function that does it with ONNX Runtime, from PyTorch's export."""
    import onnxruntime
    import torch
    import torch_cyclegan

    folder = photographs(width, height, count)
    output = folder.with_name(folder.name + "-out")
    output.mkdir(exist_ok=True)
    path = output / "generator.onnx"
    network = torch_cyclegan.generator(filters, blocks).eval()
    given = torch.rand(1, 3, -(-height // 4) * 4, -(-width // 4) * 4)
    torch.onnx.export(network, (given,), path, dynamo=False, input_names=["pictures"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = bench_step.threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run() -> float:
        for file in sorted(folder.glob("*.jpg")):
            picture = np.asarray(Image.open(file).convert("RGB"), np.float32) / 127.5 - 1.0
            padded = np.pad(picture, ((0, -height % 4), (0, -width % 4), (0, 0)), mode="reflect")
            fake = session.run(None, {"pictures": padded.transpose(2, 0, 1)[None]})[0][0].transpose(1, 2, 0)
            pixels = np.round((fake[:height, :width] + 1.0) * 127.5).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(output / file.name, quality=95, subsampling="4:4:4")
        return float(count)

    return run


SIDES = {"jax": jax_folder, "onnx": onnx_folder}


def main() -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="640x427")
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=7)
    flags = parser.parse_args()
    width, height = (int(n) for n in flags.size.split("x"))
    arguments = (width, height, flags.pictures, flags.filters, flags.blocks)
    print(bench_step.bench(SIDES, arguments, flags.repeats), flush=True)


if __name__ == "__main__":
    main()
