"""PatchNCE by hand."""

import jax
import numpy as np
import pytest

from gqst import config
from gqst.losses import base


def _term(**options) -> base.Term:
    (entry,) = base.build({"patch_nce": config.loss(1.0, **options)}, paired=False)
    return entry.term


def _context(encoded, heads=None) -> base.Context:
    picture = np.zeros((2, 8, 8, 3), np.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    return base.Context(source=picture, target=picture, fake=picture, keys=keys, encoded=encoded, heads=heads or {})


@pytest.fixture
def encoded():
    rng = np.random.default_rng(0)
    shapes = {"down1": (2, 4, 4, 6), "down2": (2, 2, 3, 9)}
    return {p: {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()} for p in ("fake", "source")}


def _project(params, layer, x):
    """The head in NumPy."""
    x = x @ np.float64(params[f"{layer}_hidden"]["kernel"]) + params[f"{layer}_hidden"]["bias"]
    x = np.maximum(x, 0) @ np.float64(params[f"{layer}_out"]["kernel"]) + params[f"{layer}_out"]["bias"]
    return x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-7)


def test_all_patches_by_hand(encoded):
    """With as many patches as positions their order does not count."""
    term = _term(patches=16, temperature=0.5, width=5)
    samples = {layer: x[:1, :1, 0] for layer, x in encoded["fake"].items()}
    params = jax.device_get(term.head.init(jax.random.key(1), samples)["params"])
    actual = term(_context(encoded, {"patch_nce": params}))
    assert actual.shape == (2,) and actual.dtype == np.float32
    for picture in range(2):
        losses = []
        for layer in ("down1", "down2"):
            query, answer = (
                _project(params, layer, encoded[p][layer][picture].reshape(-1, encoded[p][layer].shape[-1]))
                for p in ("fake", "source")
            )
            for i in range(len(query)):
                scores = np.exp(query[i] @ answer.T / 0.5)
                losses.append((layer, -np.log(scores[i] / scores.sum())))
        by_layer = [np.mean([v for name, v in losses if name == layer]) for layer in ("down1", "down2")]
        assert actual[picture] == pytest.approx(np.mean(by_layer), rel=1e-4)


def test_alike_patches_cost_the_logarithm_of_their_number(encoded):
    flat = {p: {"down1": np.ones((2, 4, 4, 6), np.float32)} for p in ("fake", "source")}
    term = _term(patches=10)
    params = term.head.init(jax.random.key(1), {"down1": np.ones((1, 1, 6), np.float32)})["params"]
    np.testing.assert_allclose(term(_context(flat, {"patch_nce": params})), np.log(10), rtol=1e-5)


def test_the_gradient_goes_through_the_translation_only(encoded):
    term = _term(patches=8)
    params = term.head.init(jax.random.key(1), {k: x[:1, :1, 0] for k, x in encoded["fake"].items()})["params"]
    gradient = jax.grad(lambda e: term(_context(e, {"patch_nce": params})).sum())(encoded)
    assert all(np.any(x != 0) for x in jax.tree.leaves(gradient["fake"]))
    assert all(np.all(x == 0) for x in jax.tree.leaves(gradient["source"]))


def test_the_same_positions_of_both_pictures():
    """Each position is its own colour: equal pictures are told apart exactly, wherever patches are taken."""
    x = np.eye(16, dtype=np.float32).reshape(1, 4, 4, 16).repeat(2, 0)
    same = {p: {"down1": x} for p in ("fake", "source")}
    layer = {"kernel": np.eye(16, dtype=np.float32), "bias": np.zeros(16, np.float32)}
    context = _context(same, {"patch_nce": {"down1_hidden": layer, "down1_out": layer}})
    actual = _term(patches=5, temperature=0.01, width=16)(context)
    np.testing.assert_allclose(actual, 0.0, atol=1e-6)


def test_pairs():
    assert _term().encoder == (("fake", "source"), ())
    assert _term(pair="identity_target", layers=["down1"]).encoder == (("identity", "target"), ("down1",))
    assert _term(pair="identity_target").needs == {"identity"} and not _term().needs
