"""AlexNet (Krizhevsky 2014) with the heads of LPIPS v0.1 (Zhang et al. 2018)."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models.features import base

# Constants of LPIPS, for pictures in [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


@base.FEATURES.register("alexnet")
class AlexNet(nn.Module):
    """torchvision's five convolutions with the input scaling of LPIPS; layers relu1 to relu5."""

    layers = ("relu1", "relu2", "relu3", "relu4", "relu5")

    @nn.compact
    def __call__(self, pictures: Float[Array, "b h w 3"], *, layers: Sequence[str]) -> dict[str, jax.Array]:
        """Returns activations by layer; pictures in [0, 1], at least 31 px a side."""
        convolutions = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
        x = base.scaled(2.0 * pictures - 1.0, _SHIFT, _SCALE)
        activations = {}
        for number, (features, size, stride, pad) in enumerate(convolutions, 1):
            if number in (2, 3):
                x = nn.max_pool(x, (3, 3), strides=(2, 2))
            padding = ((pad, pad), (pad, pad))
            x = nn.relu(base.Conv(features, (size, size), (stride, stride), padding, name=f"conv{number}")(x))
            activations[f"relu{number}"] = x
            # LPIPS's heads are parameters of the network, so that they are loaded and frozen with it.
            self.param(f"lin{number}", nn.initializers.ones, (features,))
        return {layer: activations[layer] for layer in layers}

    def available(self, params: Any) -> tuple[str, ...]:
        """Returns all layers."""
        return self.layers

    def parameters(self, tensors: base.Tensors | None) -> Any:
        """Returns the bundled parameters; ValueError for any others."""
        if tensors is not None:
            raise ValueError("it takes no file: LPIPS is defined by the weights that come with gqst")
        bundled = dict(base.bundled("alexnet"))
        heads = {name: bundled.pop(name).astype("float32") for name in list(bundled) if name.startswith("lin")}
        return {**base.nested(bundled), **heads}
