"""The frozen feature networks of metrics: their parameters, and metrics of their activations."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from gqst import metrics
from gqst.models.features import base, efficientnet_lite, inception
from gqst.runtime import devices

BATCH = 8
EMBEDDERS = {"efficientnet_lite0": efficientnet_lite.embed, "inception_v3": inception.embed}
"""Functions (params, pictures) -> pooled features for metrics of sets, by feature network."""

Styles = Mapping[str, Sequence[Float[Any, "*b 2 c"]]]
"""Mean and deviation of each channel over a style, or over that of each picture, for each layer, by metric."""


def load(wanted: Iterable[metrics.Metric]) -> dict[str, Any]:
    """Returns the parameters of the networks of these metrics by name, as NumPy arrays."""
    return {name: base.load(name) for name in dict.fromkeys(metric.network for metric in wanted) if name is not None}


def measure(
    wanted: Sequence[metrics.Metric],
    params: Mapping[str, Any],
    output: Float[Array, "b h w 3"],
    reference: Float[Array, "b h w 3"],
    styles: Styles | None = None,
) -> dict[str, Float[Array, "b"]]:
    """Returns metrics of pictures by name; each feature network sees each picture once.

    Args:
      wanted: Metrics of single pictures.
      params: Parameters of their networks, from `load`.
      output: Pictures in [0, 1].
      reference: Pictures that they are compared with, in [0, 1].
      styles: Statistics of the style for metrics that take them; without, these metrics are left out.
    """
    wanted = [metric for metric in wanted if not metric.with_style or metric.name in (styles or {})]
    layers: dict[str, list[str]] = {}
    for metric in wanted:
        if metric.network is not None:
            names = layers.setdefault(metric.network, [])
            names.extend(layer for layer in metric.layers if layer not in names)
    activations = {
        network: [_activations(base.FEATURES[network](), params[network], x, tuple(names)) for x in (output, reference)]
        for network, names in layers.items()
    }
    values = {}
    for metric in wanted:
        if metric.network is None:
            values[metric.name] = metric(output, reference)
            continue
        compared = [[seen[layer] for layer in metric.layers] for seen in activations[metric.network]]
        if metric.parameters:
            compared.append([params[metric.network][name] for name in metric.parameters])
        if metric.with_style:
            assert styles is not None
            compared.append(list(styles[metric.name]))
        values[metric.name] = metric(*compared)
    return values


def style_statistics(
    wanted: Iterable[metrics.Metric], params: Mapping[str, Any], pictures: Float[Array, "b h w 3"]
) -> dict[str, list[Float[Array, "b 2 c"]]]:
    """Returns the statistics of style pictures in [0, 1], by metric that takes them; their means make a `Styles`."""
    statistics = {}
    for metric in wanted:
        if metric.with_style and metric.network is not None:
            seen = _activations(base.FEATURES[metric.network](), params[metric.network], pictures, metric.layers)
            statistics[metric.name] = [metrics.channel_statistics(seen[layer]) for layer in metric.layers]
    return statistics


# Under jit, so that a network is traced and lowered once for all pictures of one size.
@functools.partial(jax.jit, static_argnums=(0, 3))
def _activations(
    network: base.Network, params: Any, pictures: Float[Array, "b h w 3"], layers: tuple[str, ...]
) -> dict[str, Float[Array, "b h2 w2 c"]]:
    return network.apply({"params": params}, pictures, layers=layers)


class Batched:
    """A function of pictures of one size, compiled for batches of a fixed size, that takes any number of them."""

    def __init__(self, function: Callable[..., Any], params: Any, *, mesh: devices.DeviceMesh | None = None):
        """Compiles nothing yet.

        Args:
          function: Function of (params, f32[b h w 3]) that returns a tree of arrays with a row for each picture.
          params: Its parameters.
          mesh: Devices that share the pictures; all of this process by default.
        """
        self._mesh = mesh or devices.DeviceMesh()
        self._batch_size = self._mesh.padded(BATCH)
        self._params = self._mesh.replicate(params)
        self._function = jax.jit(
            function,
            out_shardings=self._mesh.replicated,
            compiler_options=devices.compile_options(1, self._mesh.devices),
        )

    def __call__(self, pictures: Float[np.ndarray, "n h w 3"]) -> Any:
        """Returns the rows of pictures in [0, 1]."""
        parts = []
        for first in range(0, len(pictures), self._batch_size):
            # Wrapping around fills the last batch, so that only one shape is compiled.
            rows = np.arange(first, first + self._batch_size) % len(pictures)
            parts.append(jax.device_get(self._function(self._params, self._mesh.shard(pictures[rows]))))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(pictures)], *parts)


class Embedder(Batched):
    """Pooled features, f32[n d], on one network, of any number of pictures of one size."""

    def __init__(self, params: Any, network: str = "efficientnet_lite0", *, mesh: devices.DeviceMesh | None = None):
        """Compiles nothing yet; `params` are those of `network`, which is one of `EMBEDDERS`."""
        super().__init__(EMBEDDERS[network], params, mesh=mesh)
