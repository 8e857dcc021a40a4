"""Feature networks of metrics: every metric from one pass."""

import numpy as np
import pytest

from gqst import metrics
from gqst.evaluation import networks
from gqst.models.features import base


def test_networks_are_loaded_once():
    wanted = [metrics.METRICS[name] for name in ("frechet", "psnr", "kid", "lpips")]
    assert list(networks.load(wanted)) == ["efficientnet_lite0", "alexnet"]


@pytest.fixture
def seen(monkeypatch):
    """Makes a network of pictures times 1 and 2, and counts its calls."""
    calls = []

    class Twofold:
        def apply(self, variables, pictures, *, layers):
            calls.append(tuple(layers))
            gain = {"once": 1.0, "twice": 2.0}
            return {layer: gain[layer] * variables["params"]["scale"] * pictures for layer in layers}

    monkeypatch.setitem(base.FEATURES._members, "twofold", Twofold)
    return calls


def test_a_network_sees_each_picture_once_for_all_metrics(seen):
    fields = {"better": "lower", "definition": "", "network": "twofold"}
    wanted = [
        metrics.METRICS["color_shift"],
        metrics.Metric(name="a", layers=("twice",), function=lambda x, y: (x[0] - y[0]).mean((1, 2, 3)), **fields),
        metrics.Metric(
            name="b",
            layers=("once", "twice"),
            parameters=("scale",),
            function=lambda x, y, heads: heads[0] * (x[0] - y[0] + 10.0 * (x[1] - y[1])).mean((1, 2, 3)),
            **fields,
        ),
    ]
    output, reference = np.full((2, 4, 4, 3), 0.75, np.float32), np.full((2, 4, 4, 3), 0.5, np.float32)
    values = networks.measure(wanted, {"twofold": {"scale": 3.0}}, output, reference)
    assert seen == [("twice", "once")] * 2
    # By hand: 2 * 3 * 0.25, and 3 * (1 + 10 * 2) * 3 * 0.25.
    np.testing.assert_allclose(values["a"], [1.5, 1.5])
    np.testing.assert_allclose(values["b"], [47.25, 47.25])
    np.testing.assert_allclose(values["color_shift"], [np.sqrt(3) / 4] * 2, atol=1e-5)


def test_each_picture_has_one_row_however_many_there_are():
    pictures = np.random.default_rng(0).random((networks.BATCH + 3, 4, 4, 3), np.float32)
    whole = networks.Batched(lambda scale, x: {"sums": scale * x.sum((1, 2, 3))}, np.float32(2.0))
    np.testing.assert_allclose(whole(pictures)["sums"], 2.0 * pictures.sum((1, 2, 3)), rtol=1e-5)
