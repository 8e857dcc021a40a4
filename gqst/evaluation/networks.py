"""What frozen networks see in the pictures of a round."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from gqst import metrics
from gqst.models.features import alexnet, base, efficientnet_lite, inception
from gqst.runtime import devices

EMBEDDED_BATCH = 8
EMBEDDERS = {"efficientnet_lite0": efficientnet_lite.embed, "inception_v3": inception.embed}
"""Functions (params, pictures) -> features that distances of sets compare, by feature network."""

_NETWORKS = {"kid": "efficientnet_lite0", "lpips": "alexnet", "content_retention": "vgg16"}


def load(names: Sequence[str]) -> dict[str, Any]:
    """The parameters of the networks that these metrics need, as NumPy arrays."""
    return {_NETWORKS[name]: base.load(_NETWORKS[name]) for name in names}


def compare(params: Mapping[str, Any], one: jax.Array, other: jax.Array) -> dict[str, jax.Array]:
    """The metrics f32[b] of pictures against others, by name, as far as their networks are there."""
    made = {}
    if "alexnet" in params:
        heads = [params["alexnet"][f"lin{n}"] for n in range(1, 6)]
        first, second = (_see("alexnet", params, x, alexnet.AlexNet.layers) for x in (one, other))
        made["lpips"] = metrics.lpips(first, second, heads)
    if "vgg16" in params:
        first, second = (_see("vgg16", params, x, ("relu3_1",)) for x in (one, other))
        made["content_retention"] = metrics.content_retention(*first, *second)
    return made


class Embedder:
    """A network's pooled features of any number of pictures of one size."""

    def __init__(self, params: Any, network: str = "efficientnet_lite0", *, where: devices.Placement | None = None):
        """Makes a function of the parameters of a network in `EMBEDDERS`; on all devices of this process by default."""
        self._where = where or devices.Placement()
        self._rows = self._where.rows(EMBEDDED_BATCH)
        self._params = self._where.copy(params)
        self._embed = jax.jit(
            EMBEDDERS[network],
            out_shardings=self._where.everywhere,
            compiler_options=devices.compile_options(1, self._where.devices),
        )

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """f32[n d] of f32[n h w 3] in [0, 1]."""
        made = []
        for first in range(0, len(pictures), self._rows):
            # The last batch is filled up by going round, so that one shape is compiled.
            rows = np.arange(first, first + self._rows) % len(pictures)
            made.append(np.asarray(self._embed(self._params, self._where.share(pictures[rows]))))
        return np.concatenate(made)[: len(pictures)]


def _see(name: str, params: Mapping[str, Any], pictures: jax.Array, layers: Sequence[str]) -> list[jax.Array]:
    made = base.FEATURES[name]().apply({"params": params[name]}, pictures, layers=layers)
    return [made[layer] for layer in layers]
