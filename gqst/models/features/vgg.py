"""The convolutions of VGG-16 and VGG-19 (Simonyan and Zisserman 2015) with torchvision's weights."""

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models.features import base

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


class _VGG(nn.Module):
    """Stages of 3x3 convolutions, each stage at half the size of the previous one.

    Layer `relu3_1` is the first of stage 3, after its rectifier. Nothing beyond the last requested layer is computed.
    """

    depths: ClassVar[tuple[int, ...]]

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(f"relu{stage}_{n}" for stage, depth in enumerate(self.depths, 1) for n in range(1, depth + 1))

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w 3"], *, layers: Sequence[str]) -> dict[str, jax.Array]:
        """Returns activations by layer; pictures in [0, 1]."""
        last = max(self.layers.index(layer) for layer in layers)
        x = base.scaled(pictures, MEAN, DEVIATION)
        activations: dict[str, jax.Array] = {}
        for layer in self.layers[: last + 1]:
            stage, number = int(layer[4]), int(layer[6:])
            if number == 1 and stage > 1:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            features = 64 * min(2 ** (stage - 1), 8)
            x = nn.relu(base.Conv(features, (3, 3), name=layer.replace("relu", "conv"))(x))
            activations[layer] = x
        return {layer: activations[layer] for layer in layers}

    def available(self, params: Any) -> tuple[str, ...]:
        """Returns the layers whose convolutions have parameters."""
        return tuple(layer for layer in self.layers if layer.replace("relu", "conv") in params)

    def _from_torchvision(self, tensors: base.Tensors) -> Any:
        """Returns the convolutions `features.N` in ascending order of N."""
        numbers = sorted(int(n.split(".")[1]) for n in tensors if n.startswith("features.") and n.endswith(".weight"))
        if len(numbers) != len(self.layers):
            raise ValueError(f"it has {len(numbers)} tensors features.N.weight, not {len(self.layers)}")
        tree, channels = {}, 3
        for layer, number in zip(self.layers, numbers, strict=True):
            kernel = np.asarray(tensors[f"features.{number}.weight"], np.float32).transpose(2, 3, 1, 0)
            expected = (3, 3, channels, 64 * min(2 ** (int(layer[4]) - 1), 8))
            if kernel.shape != expected:
                raise ValueError(f"features.{number}.weight has the shape {kernel.shape} in HWIO, not {expected}")
            bias = np.asarray(tensors[f"features.{number}.bias"], np.float32)
            tree[layer.replace("relu", "conv")] = {"kernel": kernel, "bias": bias}
            channels = expected[-1]
        return tree


@base.FEATURES.register("vgg16")
class VGG16(_VGG):
    """13 convolutions; weights up to relu4_1 come with gqst, those of all layers from a user's file."""

    depths: ClassVar[tuple[int, ...]] = (2, 2, 3, 3, 3)

    def parameters(self, tensors: base.Tensors | None) -> Any:
        """Returns the parameters; up to conv4_1, the bundled ones, if `tensors` is None."""
        return base.nested(base.bundled("vgg16")) if tensors is None else self._from_torchvision(tensors)


@base.FEATURES.register("vgg19")
class VGG19(_VGG):
    """16 convolutions; weights come from a user's file."""

    depths: ClassVar[tuple[int, ...]] = (2, 2, 4, 4, 4)

    def parameters(self, tensors: base.Tensors | None) -> Any:
        """Returns the parameters of a file; ValueError without one."""
        if tensors is None:
            raise ValueError("it has none; name a file of torchvision's vgg19 with weights={'vgg19': FILE}")
        return self._from_torchvision(tensors)
