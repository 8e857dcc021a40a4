"""Inception-v3 (Szegedy et al. 2015) as used by the published Fréchet Inception Distance (Heusel et al. 2017)."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models.features import base

_SIDE = 299
_EPSILON = 1e-3


@dataclasses.dataclass(frozen=True)
class _Conv:
    """A convolution with its batch norm.

    Attributes:
      name: Name within its block.
      channels: Number of output channels.
      kernel: Height and width of the kernel.
      halves: Whether it halves the size: stride 2 without padding.
    """

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    halves: bool = False


_POOL = "pool"
_Branch = tuple[_Conv | tuple[_Conv, ...] | str, ...]
"""Layers of a branch in order: a convolution, convolutions whose outputs are concatenated, or the block's pooling."""


def _a(pooled: int) -> tuple[_Branch, ...]:
    return (
        (_Conv("branch1x1", 64),),
        (_Conv("branch5x5_1", 48), _Conv("branch5x5_2", 64, (5, 5))),
        (_Conv("branch3x3dbl_1", 64), _Conv("branch3x3dbl_2", 96, (3, 3)), _Conv("branch3x3dbl_3", 96, (3, 3))),
        (_POOL, _Conv("branch_pool", pooled)),
    )


def _c(inner: int) -> tuple[_Branch, ...]:
    return (
        (_Conv("branch1x1", 192),),
        (_Conv("branch7x7_1", inner), _Conv("branch7x7_2", inner, (1, 7)), _Conv("branch7x7_3", 192, (7, 1))),
        (
            _Conv("branch7x7dbl_1", inner),
            _Conv("branch7x7dbl_2", inner, (7, 1)),
            _Conv("branch7x7dbl_3", inner, (1, 7)),
            _Conv("branch7x7dbl_4", inner, (7, 1)),
            _Conv("branch7x7dbl_5", 192, (1, 7)),
        ),
        (_POOL, _Conv("branch_pool", 192)),
    )


_B: tuple[_Branch, ...] = (
    (_Conv("branch3x3", 384, (3, 3), True),),
    (_Conv("branch3x3dbl_1", 64), _Conv("branch3x3dbl_2", 96, (3, 3)), _Conv("branch3x3dbl_3", 96, (3, 3), True)),
    (_POOL,),
)
_D: tuple[_Branch, ...] = (
    (_Conv("branch3x3_1", 192), _Conv("branch3x3_2", 320, (3, 3), True)),
    (
        _Conv("branch7x7x3_1", 192),
        _Conv("branch7x7x3_2", 192, (1, 7)),
        _Conv("branch7x7x3_3", 192, (7, 1)),
        _Conv("branch7x7x3_4", 192, (3, 3), True),
    ),
    (_POOL,),
)
_E: tuple[_Branch, ...] = (
    (_Conv("branch1x1", 320),),
    (_Conv("branch3x3_1", 384), (_Conv("branch3x3_2a", 384, (1, 3)), _Conv("branch3x3_2b", 384, (3, 1)))),
    (
        _Conv("branch3x3dbl_1", 448),
        _Conv("branch3x3dbl_2", 384, (3, 3)),
        (_Conv("branch3x3dbl_3a", 384, (1, 3)), _Conv("branch3x3dbl_3b", 384, (3, 1))),
    ),
    (_POOL, _Conv("branch_pool", 192)),
)
# Name, branches and pooling of each block. In the network of the published distance the last pooling is a maximum.
_BLOCKS: tuple[tuple[str, tuple[_Branch, ...], str], ...] = (
    ("Mixed_5b", _a(32), "mean"),
    ("Mixed_5c", _a(64), "mean"),
    ("Mixed_5d", _a(64), "mean"),
    ("Mixed_6a", _B, "halve"),
    ("Mixed_6b", _c(128), "mean"),
    ("Mixed_6c", _c(160), "mean"),
    ("Mixed_6d", _c(160), "mean"),
    ("Mixed_6e", _c(192), "mean"),
    ("Mixed_7a", _D, "halve"),
    ("Mixed_7b", _E, "mean"),
    ("Mixed_7c", _E, "max"),
)


@base.FEATURES.register("inception_v3")
class InceptionV3(nn.Module):
    """Layers Mixed_5b to Mixed_7c and pooled, f32[b 1 1 2048]; weights come from a user's file.

    Batch norms are folded into the convolutions. Mean pooling excludes the padding, as in the network of the published
    distance.
    """

    layers = (*(name for name, _, _ in _BLOCKS), "pooled")

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w 3"], *, layers: Sequence[str]) -> dict[str, jax.Array]:
        """Returns activations by layer; pictures in [0, 1] (299 px a side in the network's training)."""
        x = 2.0 * pictures - 1.0
        x = _convolve(x, "", _Conv("Conv2d_1a_3x3", 32, (3, 3), True))
        x = _convolve(x, "", _Conv("Conv2d_2a_3x3", 32, (3, 3)), padding="VALID")
        x = _convolve(x, "", _Conv("Conv2d_2b_3x3", 64, (3, 3)))
        x = nn.max_pool(x, (3, 3), (2, 2))
        x = _convolve(x, "", _Conv("Conv2d_3b_1x1", 80))
        x = _convolve(x, "", _Conv("Conv2d_4a_3x3", 192, (3, 3)), padding="VALID")
        x = nn.max_pool(x, (3, 3), (2, 2))
        activations: dict[str, jax.Array] = {}
        for name, branches, pooling in _BLOCKS:
            outputs = [_apply_branch(x, name, branch, pooling) for branch in branches]
            activations[name] = x = jnp.concatenate(outputs, axis=-1)
        activations["pooled"] = jnp.mean(x, axis=(1, 2), keepdims=True)
        return {layer: activations[layer] for layer in layers}

    def available(self, params: Any) -> tuple[str, ...]:
        """Returns all layers."""
        return self.layers

    def parameters(self, tensors: base.Tensors | None) -> Any:
        """Returns the parameters of a file in torchvision's names, such as pytorch-fid's; ValueError without a file."""
        if tensors is None:
            raise ValueError("it has none; name a file of the published network with --network-weights FILE")
        return {name.replace(".", "_"): _folded(tensors, name) for name in _names()}


def embed(params: Any, pictures: Float[Array, "b h w 3"]) -> Float[Array, "b 2048"]:
    """Returns the pooled features that the published distance compares; pictures in [0, 1] are scaled to 299 px."""
    # Bilinear without antialiasing, as in the published distance.
    scaled = jax.image.resize(pictures, (len(pictures), _SIDE, _SIDE, 3), "bilinear", antialias=False)
    activations: Any = InceptionV3().apply({"params": params}, scaled, layers=("pooled",))
    return activations["pooled"][:, 0, 0]


def _apply_branch(x: jax.Array, block: str, branch: _Branch, pooling: str) -> jax.Array:
    for stage in branch:
        if isinstance(stage, _Conv):
            x = _convolve(x, block, stage)
        elif isinstance(stage, tuple):
            x = jnp.concatenate([_convolve(x, block, conv) for conv in stage], axis=-1)
        elif pooling == "mean":
            x = nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)
        elif pooling == "max":
            x = nn.max_pool(x, (3, 3), (1, 1), "SAME")
        else:
            x = nn.max_pool(x, (3, 3), (2, 2))
    return x


def _convolve(x: jax.Array, block: str, conv: _Conv, *, padding: str = "SAME") -> jax.Array:
    strides = (2, 2) if conv.halves else (1, 1)
    name = f"{block}_{conv.name}" if block else conv.name
    layer = base.Conv(conv.channels, conv.kernel, strides, padding="VALID" if conv.halves else padding, name=name)
    return nn.relu(layer(x))


def _names() -> list[str]:
    """Returns torchvision's names of the convolutions."""
    names = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]
    for block, branches, _ in _BLOCKS:
        for branch in branches:
            for stage in branch:
                convs = (stage,) if isinstance(stage, _Conv) else stage if isinstance(stage, tuple) else ()
                names += [f"{block}.{conv.name}" for conv in convs]
    return names


def _folded(tensors: base.Tensors, name: str) -> dict[str, np.ndarray]:
    """Returns the kernel (HWIO) and bias of a convolution with its batch norm folded in."""
    try:
        kernel = np.asarray(tensors[f"{name}.conv.weight"], np.float64)
        scale, shift, mean, variance = (
            np.asarray(tensors[f"{name}.bn.{part}"], np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
    except KeyError as error:
        raise ValueError(f"it has no tensor {error.args[0]}") from error
    if kernel.ndim != 4 or math.prod(scale.shape) != kernel.shape[0]:
        raise ValueError(f"{name}.conv.weight has the shape {kernel.shape}, its batch norm {scale.shape}")
    factor = scale / np.sqrt(variance + _EPSILON)
    folded = (kernel * factor[:, None, None, None]).transpose(2, 3, 1, 0)
    return {"kernel": folded.astype(np.float32), "bias": (shift - mean * factor).astype(np.float32)}
