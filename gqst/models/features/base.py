"""Interface and registry of feature networks, and reading of their weights."""

import functools
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import linen as nn
from jaxtyping import Array, Float

from gqst import registry, types

FEATURES = registry.Registry("feature network")
"""Linen modules without options; weights come with gqst or from a file that the user names."""

# Parameters come from files; Flax traces the initialiser whenever a layer is used, and zeros cost next to nothing.
Conv = functools.partial(nn.Conv, kernel_init=nn.initializers.zeros)
Dense = functools.partial(nn.Dense, kernel_init=nn.initializers.zeros)

_BUNDLED = pathlib.Path(__file__).parents[1] / "weights"

Tensors = Mapping[str, np.ndarray]


class Network(Protocol):
    """A frozen network that maps pictures to the activations of named layers.

    Attributes:
      layers: Names of its layers, first to last.
    """

    layers: tuple[str, ...]

    def apply(
        self, variables: Any, pictures: Float[Array, "b h w 3"], *, layers: Sequence[str]
    ) -> dict[str, Float[Array, "b h2 w2 c"]]:
        """Returns the activations of `layers`, by layer, for pictures in [0, 1]."""

    def available(self, params: Any) -> tuple[str, ...]:
        """Returns the layers that can be computed with these parameters; bundled ones may lack the last layers."""

    def parameters(self, tensors: Tensors | None) -> Any:
        """Returns the float32 parameters from the tensors of a user's file, or from the bundled weights if None.

        Raises:
          ValueError: The tensors are not those of this network, or no weights are bundled.
        """


def load(name: str, file: str | None = None) -> Any:
    """Returns the parameters of a feature network as NumPy arrays.

    Args:
      name: Name of the network in `FEATURES`.
      file: Path of a .safetensors or .npz file in torchvision's names and layout; None takes the bundled weights.

    Raises:
      InputError: There is no such network or file, or the file holds other tensors.
    """
    network = FEATURES[name]()
    try:
        return network.parameters(None if file is None else read(pathlib.Path(file)))
    except (ValueError, OSError, safetensors.SafetensorError, zipfile.BadZipFile) as error:
        weights = f"weights {file!r}" if file else "the bundled weights"
        raise types.InputError(f"{weights} cannot be used for {name}: {error}") from error


@functools.cache
def bundled(name: str) -> dict[str, np.ndarray]:
    """Returns the tensors that come with gqst under this name."""
    return read(_BUNDLED / f"{name}.safetensors")


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a .safetensors or .npz file without ever executing anything in it.

    Raises:
      ValueError: The file has another suffix, or holds pickled objects.
      OSError: The file cannot be read.
      SafetensorError, BadZipFile: The file is damaged.
    """
    if path.suffix == ".safetensors":
        return safetensors.numpy.load_file(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    raise ValueError("it has to be a .safetensors or .npz file")


def nested(tensors: Tensors) -> dict[str, Any]:
    """Returns tensors named `layer/parameter` as a tree of float32 parameters by layer and parameter."""
    tree: dict[str, Any] = {}
    for name, value in tensors.items():
        layer, _, parameter = name.rpartition("/")
        tree.setdefault(layer, {})[parameter] = np.asarray(value, np.float32)
    return tree


def scaled(pictures: jax.Array, mean: Sequence[float], deviation: Sequence[float]) -> jax.Array:
    """Returns pictures standardised per channel: (pictures - mean) / deviation."""
    shape = (1, 1, 1, -1)
    return (pictures - np.asarray(mean, np.float32).reshape(shape)) / np.asarray(deviation, np.float32).reshape(shape)


def halved(pictures: Float[Array, "b h w c"], halvings: int) -> Float[Array, "b h2 w2 c"]:
    """Returns pictures at their size halved some times, each pixel the mean of those that it stands for."""
    side = 2**halvings
    return nn.avg_pool(pictures, (side, side), strides=(side, side)) if side > 1 else pictures


def check(name: str, layers: Sequence[str], params: Any) -> None:
    """Checks that layers of a feature network can be computed.

    Args:
      name: Name of the network in `FEATURES`.
      layers: Names of the layers.
      params: Parameters of the network, from `load`.

    Raises:
      InputError: The network has no such layer, or the parameters end before it.
    """
    network = FEATURES[name]()
    available = network.available(params)
    for layer in layers:
        if layer in network.layers and layer not in available:
            raise types.InputError(
                f"layer {layer!r} of {name!r} lies beyond the weights that come with gqst, which end at "
                f"{available[-1]}: name a file of torchvision's {name} with weights={{{name!r}: FILE}}"
            )
        if layer not in available:
            raise types.InputError(
                f"feature network {name!r} has no layer {layer!r}{registry.hint(layer, available)}; "
                f"it has: {', '.join(available)}"
            )
