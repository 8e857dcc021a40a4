"""EfficientNet-Lite0, the mobile variant of EfficientNet (Tan and Le 2019) by its authors, trained on ImageNet."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from gqst.models.features import base

# For each stage: blocks, side of the kernel, stride of the first block, expansion, channels.
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
    """Layers stem, stage1 to stage7, head (before pooling), pooled f32[b 1 1 1280] and logits f32[b 1 1 1000].

    Batch norms are folded into the convolutions.
    """

    layers = ("stem", *(f"stage{n}" for n in range(1, 8)), "head", "pooled", "logits")

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w 3"], *, layers: Sequence[str]) -> dict[str, jax.Array]:
        """Returns activations by layer; pictures in [0, 1] (224 px a side in the network's training)."""
        x = (255.0 * pictures - 127.0) / 128.0
        x = jax.nn.relu6(base.Conv(32, (3, 3), (2, 2), name="stem")(x))
        activations = {"stem": x}
        for stage, (count, size, stride, expansion, channels) in enumerate(_STAGES, 1):
            for number in range(count):
                block = _Block(size, stride if number == 0 else 1, expansion, channels, name=f"stage{stage}_{number}")
                x = block(x)
            activations[f"stage{stage}"] = x
        activations["head"] = x = jax.nn.relu6(base.Conv(1280, (1, 1), name="head")(x))
        activations["pooled"] = x = jnp.mean(x, axis=(1, 2), keepdims=True)
        activations["logits"] = base.Dense(1000, name="classifier")(x)
        return {layer: activations[layer] for layer in layers}

    def available(self, params: Any) -> tuple[str, ...]:
        """Returns all layers."""
        return self.layers

    def parameters(self, tensors: base.Tensors | None) -> Any:
        """Returns the bundled parameters; ValueError for any others."""
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
    """Returns the pooled features for set-level metrics; pictures in [0, 1] of any size are scaled to 224 px."""
    scaled = jax.image.resize(pictures, (len(pictures), 224, 224, 3), "bilinear")
    activations: Any = EfficientNetLite0().apply({"params": params}, scaled, layers=("pooled",))
    return activations["pooled"][:, 0, 0]


class _Block(nn.Module):
    """An inverted residual block: 1x1 expansion, depthwise convolution and 1x1 projection."""

    size: int
    stride: int
    expansion: int
    channels: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        if self.expansion > 1:
            y = jax.nn.relu6(base.Conv(self.expansion * x.shape[-1], (1, 1), name="expand")(y))
        sides, strides = (self.size, self.size), (self.stride, self.stride)
        convolve = base.Conv(
            y.shape[-1],
            sides,
            strides,
            feature_group_count=y.shape[-1],
            conv_general_dilated=lambda x, kernel, strides, padding, **_: _depthwise(x, kernel, strides[0], padding),
            name="depthwise",
        )
        y = convolve(y)
        y = base.Conv(self.channels, (1, 1), name="project")(jax.nn.relu6(y))
        return x + y if x.shape == y.shape else y


# Under jit, so that equal layers are traced and lowered once.
@functools.partial(jax.jit, static_argnums=(2, 3))
def _depthwise(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k 1 c"], stride: int, padding: str
) -> Float[Array, "b h2 w2 c"]:
    """Returns a depthwise convolution as a sum of shifted pictures, which XLA fuses.

    XLA's own depthwise convolution takes six times as long on CPU.
    """
    b, *sides, c = x.shape
    k = kernel.shape[0]
    pads = lax.padtype_to_pads(sides, (k, k), (stride, stride), padding)
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    height, width = ((n - k) // stride + 1 for n in x.shape[1:3])
    taps = kernel.reshape(k * k, c)
    y = jnp.zeros((b, height, width, c), x.dtype)
    for tap, (i, j) in enumerate(itertools.product(range(k), repeat=2)):
        end = (b, i + stride * (height - 1) + 1, j + stride * (width - 1) + 1, c)
        shifted = lax.slice(x, (0, i, j, 0), end, (1, stride, stride, 1))
        y += shifted * lax.slice(taps, (tap, 0), (tap + 1, c)).reshape(1, 1, 1, c)
    return y
