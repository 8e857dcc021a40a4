"""What a feature network is, the registry of them, and how their weights are read."""

import functools
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Array, Float

from gqst import registry, types

FEATURES = registry.Registry("feature network")
"""Modules without options; their weights come with gqst or from a file that the user names."""

_BUNDLED = pathlib.Path(__file__).parents[1] / "weights"

Tensors = Mapping[str, np.ndarray]


class Network(Protocol):
    """A frozen network from pictures to the activations of named layers.

    Attributes:
      layers: the names of the layers that it gives, first to last.
    """

    layers: tuple[str, ...]

    def apply(
        self, variables: Any, pictures: Float[Array, "b h w 3"], *, layers: Sequence[str]
    ) -> dict[str, Float[Array, "b h2 w2 c"]]:
        """The activations of `layers` by name; pictures in [0, 1]."""

    def available(self, params: Any) -> tuple[str, ...]:
        """The layers that these parameters reach; the bundled ones may not reach all."""

    def parameters(self, tensors: Tensors | None) -> Any:
        """The float32 parameters from the bundled weights (None) or the tensors of a user's file.

        Raises:
          ValueError: the tensors are not those of this network, or none are bundled.
        """


def load(name: str, file: str | None = None) -> Any:
    """The parameters of a feature network, as NumPy arrays.

    Args:
      name: in `FEATURES`.
      file: weights in torchvision's names and layout, .safetensors or .npz; None takes the bundled ones.

    Raises:
      InputError: there is no such network or file, or the file holds something else.
    """
    network = FEATURES[name]()
    try:
        return network.parameters(None if file is None else read(pathlib.Path(file)))
    except (ValueError, OSError, safetensors.SafetensorError, zipfile.BadZipFile) as error:
        where = f"weights {file!r}" if file else "the bundled weights"
        raise types.InputError(f"{where} cannot be used for {name}: {error}") from error


@functools.cache
def bundled(name: str) -> dict[str, np.ndarray]:
    """The tensors that come with gqst under this name."""
    return read(_BUNDLED / f"{name}.safetensors")


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors or .npz file; nothing in it is ever executed.

    Raises:
      ValueError: another kind of file, or one that is damaged.
      OSError: it cannot be read.
    """
    if path.suffix == ".safetensors":
        return safetensors.numpy.load_file(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    raise ValueError("it has to be a .safetensors or .npz file")


def nested(tensors: Tensors) -> dict[str, Any]:
    """Tensors named `layer/parameter` as the float32 tree of a linen module."""
    tree: dict[str, Any] = {}
    for name, value in tensors.items():
        layer, _, parameter = name.rpartition("/")
        tree.setdefault(layer, {})[parameter] = np.asarray(value, np.float32)
    return tree


def scaled(pictures: jax.Array, mean: Sequence[float], deviation: Sequence[float]) -> jax.Array:
    """Pictures in [0, 1] less `mean`, over `deviation`, each by channel."""
    shape = (1, 1, 1, 3)
    return (pictures - np.asarray(mean, np.float32).reshape(shape)) / np.asarray(deviation, np.float32).reshape(shape)


def check(name: str, layers: Sequence[str], params: Any) -> None:
    """Raises InputError for a layer that the network has not, or that its parameters do not reach."""
    network = FEATURES[name]()
    there = network.available(params)
    for layer in layers:
        if layer in network.layers and layer not in there:
            raise types.InputError(
                f"layer {layer!r} of {name!r} lies beyond the weights that come with gqst, which end at "
                f"{there[-1]}: name a file of torchvision's {name} with weights={{{name!r}: FILE}}"
            )
        if layer not in there:
            raise types.InputError(
                f"feature network {name!r} has no layer {layer!r}{registry.hint(layer, there)}; "
                f"it has: {', '.join(there)}"
            )
