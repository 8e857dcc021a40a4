"""EfficientNet-Lite0 (Tan and Le 2019, and its authors' mobile variant), trained on ImageNet."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models.features import base

# Blocks of a stage, kernel, stride of the first, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@base.FEATURES.register("efficientnet_lite0")
class EfficientNetLite0(nn.Module):
    """Layers stem, stage1 to stage7, head (before pooling), pooled f32[b 1 1 1280], logits f32[b 1 1 1000].

    The batch norms are folded into the convolutions.
    """

    layers = ("stem", *(f"stage{n}" for n in range(1, 8)), "head", "pooled", "logits")

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w 3"], *, layers: Sequence[str]) -> dict[str, jax.Array]:
        """Activations by layer; pictures in [0, 1], 224 px a side in training."""
        x = (255.0 * pictures - 127.0) / 128.0
        x = jax.nn.relu6(nn.Conv(32, (3, 3), (2, 2), name="stem")(x))
        made = {"stem": x}
        for stage, (count, size, stride, expansion, channels) in enumerate(_STAGES, 1):
            for number in range(count):
                block = _Block(size, stride if number == 0 else 1, expansion, channels, name=f"stage{stage}_{number}")
                x = block(x)
            made[f"stage{stage}"] = x
        made["head"] = x = jax.nn.relu6(nn.Conv(1280, (1, 1), name="head")(x))
        made["pooled"] = x = jnp.mean(x, axis=(1, 2), keepdims=True)
        made["logits"] = nn.Dense(1000, name="classifier")(x)
        return {layer: made[layer] for layer in layers}

    def available(self, params: Any) -> tuple[str, ...]:
        """All layers."""
        return self.layers

    def parameters(self, tensors: base.Tensors | None) -> Any:
        """The bundled parameters."""
        if tensors is not None:
            raise ValueError("it takes no file: distances are only comparable on the weights that come with gqst")
        tree: dict[str, Any] = {}
        for name, layer in base.nested(base.bundled("efficientnet_lite0")).items():
            node = tree
            for part in name.split("/"):
                node = node.setdefault(part, {})
            node.update(layer)
        return tree


def embed(params: Any, pictures: Float[Array, "b h w 3"]) -> Float[Array, "b 1280"]:
    """The pooled features that set-level metrics compare; pictures in [0, 1] of any size, scaled to 224 px."""
    scaled = jax.image.resize(pictures, (len(pictures), 224, 224, 3), "bilinear")
    made: Any = EfficientNetLite0().apply({"params": params}, scaled, layers=("pooled",))
    return made["pooled"][:, 0, 0]


class _Block(nn.Module):
    """An inverted residual: 1x1 expansion, depthwise convolution, 1x1 projection."""

    size: int
    stride: int
    expansion: int
    channels: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        if self.expansion > 1:
            y = jax.nn.relu6(nn.Conv(self.expansion * x.shape[-1], (1, 1), name="expand")(y))
        sides, strides = (self.size, self.size), (self.stride, self.stride)
        convolve = nn.Conv(
            y.shape[-1],
            sides,
            strides,
            feature_group_count=y.shape[-1],
            conv_general_dilated=_depthwise,
            name="depthwise",
        )
        y = convolve(y)
        y = nn.Conv(self.channels, (1, 1), name="project")(jax.nn.relu6(y))
        return x + y if x.shape == y.shape else y


def _depthwise(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k k 1 c"],
    strides: Sequence[int],
    padding: str,
    **_: Any,
) -> jax.Array:
    """A depthwise convolution as a sum of shifted pictures, which XLA fuses: on CPU its own takes six times as long."""
    pads = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    (rows, columns), (down, right) = kernel.shape[:2], strides
    height, width = (x.shape[1] - rows) // down + 1, (x.shape[2] - columns) // right + 1
    made = jnp.zeros((len(x), height, width, x.shape[3]), x.dtype)
    for i in range(rows):
        for j in range(columns):
            seen = x[:, i : i + down * (height - 1) + 1 : down, j : j + right * (width - 1) + 1 : right]
            made = made + seen * kernel[i, j].reshape(1, 1, 1, -1)
    return made
