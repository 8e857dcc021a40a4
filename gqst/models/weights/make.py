"""Conversion of the bundled weights from the .npz files of their sources (see README.md in this folder).

Command: `python -m gqst.models.weights.make FOLDER`, where FOLDER holds vgg16_to_conv4_1_fp16.npz,
alexnet_conv_fp16.npz and efficientnet_lite0_fp16.npz.
"""

import pathlib
import sys

import numpy as np
import safetensors.numpy

_STAGE_BLOCKS = (1, 2, 2, 3, 3, 4, 1)
_EPSILON = 1e-3  # added to the variance in EfficientNet's batch norms


def main() -> None:
    """Writes the three weight files into the folder of this module."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    here = pathlib.Path(__file__).parent
    for name, tensors in {
        "vgg16": dict(np.load(folder / "vgg16_to_conv4_1_fp16.npz")),
        "alexnet": alexnet(dict(np.load(folder / "alexnet_conv_fp16.npz"))),
        "efficientnet_lite0": efficientnet(dict(np.load(folder / "efficientnet_lite0_fp16.npz"))),
    }.items():
        # Kernels in half precision; biases are few and stay in single.
        converted = {k: np.ascontiguousarray(v, np.float16 if v.ndim > 1 else np.float32) for k, v in tensors.items()}
        safetensors.numpy.save_file(converted, here / f"{name}.safetensors")
        print(f"{name}: {len(converted)} tensors, {(here / f'{name}.safetensors').stat().st_size / 2**20:.1f} MiB")


def alexnet(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tensors with the heads lpips_lin0 to lpips_lin4 numbered like the convolutions: lin1 to lin5."""
    return {f"lin{int(name[-1]) + 1}" if name.startswith("lpips") else name: v for name, v in tensors.items()}


def efficientnet(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns PyTorch's tensors in this package's names and layout, with batch norms folded into convolutions."""
    converted = _folded(tensors, "_conv_stem", "_bn0", "stem")
    number = 0
    for stage, count in enumerate(_STAGE_BLOCKS, 1):
        for block in range(count):
            old, new = f"_blocks.{number}", f"stage{stage}_{block}"
            if f"{old}._expand_conv.weight" in tensors:
                converted |= _folded(tensors, f"{old}._expand_conv", f"{old}._bn0", f"{new}/expand")
            converted |= _folded(tensors, f"{old}._depthwise_conv", f"{old}._bn1", f"{new}/depthwise")
            converted |= _folded(tensors, f"{old}._project_conv", f"{old}._bn2", f"{new}/project")
            number += 1
    converted |= _folded(tensors, "_conv_head", "_bn1", "head")
    return converted | {"classifier/kernel": tensors["_fc.weight"].T, "classifier/bias": tensors["_fc.bias"]}


def _folded(tensors: dict[str, np.ndarray], conv: str, norm: str, name: str) -> dict[str, np.ndarray]:
    gain, shift, mean, variance = (
        tensors[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = gain / np.sqrt(variance + _EPSILON)
    kernel = tensors[f"{conv}.weight"].astype(np.float64).transpose(2, 3, 1, 0)
    return {f"{name}/kernel": kernel * factor, f"{name}/bias": shift - mean * factor}


if __name__ == "__main__":
    main()
