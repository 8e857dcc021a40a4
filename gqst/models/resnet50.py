"""The encoder of ResNet-50 (He et al. 2016, table 1), shared by a generator and a discriminator."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from flax import linen as nn
from jaxtyping import Array, Float

from gqst import types
from gqst.models import blocks, frames
from gqst.models.features import base as features

DEPTHS = (3, 4, 6, 3)
_EXPANSION = 4
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class Encoder(nn.Module, kw_only=True):
    """A stem and four stages of bottleneck blocks, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input size.

    Pictures in [0, 1] are standardised as torchvision's weights expect.

    Attributes:
      filters: Number of channels of the stem; 64 in the paper.
      norm: Norm after every convolution.
      dtype: Type of the computation.
      axis_name: Name of pmap's axis, for batch norm.
    """

    filters: int
    norm: blocks.Norm
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w c"], *, train: bool) -> list[jax.Array]:
        """Returns the activations of the stem and the four stages, the largest first."""
        count = pictures.shape[-1] // 3  # a conditional discriminator sees two, one after the other in the channels
        x = features.scaled(pictures, _MEAN * count, _DEVIATION * count).astype(self.dtype)
        x = self._conv(x, self.filters, 7, 2, "conv1")
        x = blocks.keep(nn.relu(self._norm(x, train, "bn1")))
        activations = [x]
        # After the rectification zeros never win, as the border's infinities never do.
        x = nn.max_pool(frames.cleared(x, 1), (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, depth in enumerate(DEPTHS, 1):
            width = self.filters * 2 ** (stage - 1)
            for number in range(depth):
                stride = 2 if number == 0 and stage > 1 else 1
                x = blocks.keep(self._bottleneck(x, width, stride, train, f"layer{stage}_{number}"))
            activations.append(x)
        return activations

    def _bottleneck(self, x: jax.Array, width: int, stride: int, train: bool, name: str) -> jax.Array:
        y = nn.relu(self._norm(self._conv(x, width, 1, 1, f"{name}_conv1"), train, f"{name}_bn1"))
        y = nn.relu(self._norm(self._conv(y, width, 3, stride, f"{name}_conv2"), train, f"{name}_bn2"))
        y = self._norm(self._conv(y, _EXPANSION * width, 1, 1, f"{name}_conv3"), train, f"{name}_bn3")
        if x.shape != y.shape:
            x = self._conv(x, _EXPANSION * width, 1, stride, f"{name}_downsample")
            x = self._norm(x, train, f"{name}_downsample_bn")
        return nn.relu(x + y)

    def _conv(self, x: jax.Array, channels: int, size: int, stride: int, name: str) -> jax.Array:
        pad = (size - 1) // 2
        conv = nn.Conv(
            channels,
            (size, size),
            (stride, stride),
            ((pad, pad), (pad, pad)),
            use_bias=False,
            dtype=self.dtype,
            kernel_init=nn.initializers.he_normal(),
            name=name,
        )
        return conv(frames.cleared(x, pad) if pad else x)

    def _norm(self, x: jax.Array, train: bool, name: str) -> jax.Array:
        return blocks.Normalize(kind=self.norm, axis_name=self.axis_name, name=name)(x, train=train)


def pretrained(file: str | None, *, filters: int, norm: str) -> dict[str, Any]:
    """Returns the variables of an `Encoder` named "encoder", by collection, from a file of torchvision's resnet50.

    Args:
      file: Path of a .safetensors or .npz file in torchvision's names and layout; None returns no variables.
      filters: `Encoder.filters`, which must be 64.
      norm: `Encoder.norm`, which must be `batch`.

    Raises:
      InputError: The file cannot be read or holds other tensors, or the encoder is not the published one.
    """
    if file is None:
        return {}
    if filters != 64 or norm != "batch":
        raise types.InputError(
            f"weights={file!r} fit a resnet50 with filters=64 and norm='batch', not {filters} and {norm!r}"
        )
    try:
        tensors = features.read(pathlib.Path(file))
        return _from_torchvision(tensors)
    except KeyError as error:
        raise types.InputError(f"weights {file!r} are not torchvision's resnet50: no tensor {error}") from error
    except (ValueError, OSError, safetensors.SafetensorError) as error:
        raise types.InputError(f"weights {file!r} cannot be used for resnet50: {error}") from error


def _from_torchvision(tensors: features.Tensors) -> dict[str, Any]:
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}

    def conv(theirs: str, ours: str) -> None:
        kernel = np.asarray(tensors[f"{theirs}.weight"], np.float32)
        params[ours] = {"kernel": kernel.transpose(2, 3, 1, 0)}

    def norm(theirs: str, ours: str) -> None:
        gain, shift, mean, variance = (
            np.asarray(tensors[f"{theirs}.{part}"], np.float32)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        params[ours] = {"BatchNorm_0": {"scale": gain, "bias": shift}}
        stats[ours] = {"BatchNorm_0": {"mean": mean, "var": variance}}

    conv("conv1", "conv1")
    norm("bn1", "bn1")
    for stage, depth in enumerate(DEPTHS, 1):
        for number in range(depth):
            theirs, ours = f"layer{stage}.{number}", f"layer{stage}_{number}"
            for part in (1, 2, 3):
                conv(f"{theirs}.conv{part}", f"{ours}_conv{part}")
                norm(f"{theirs}.bn{part}", f"{ours}_bn{part}")
            if number == 0:
                conv(f"{theirs}.downsample.0", f"{ours}_downsample")
                norm(f"{theirs}.downsample.1", f"{ours}_downsample_bn")
    return {"params": {"encoder": params}, "batch_stats": {"encoder": stats}}
