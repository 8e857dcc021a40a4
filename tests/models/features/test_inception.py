"""Inception-v3 on random weights against pytorch-fid, and faulty weight files."""

import functools

import jax
import numpy as np
import pytest
import safetensors.numpy
import skimage.data

from gqst import types
from gqst.models.features import base, inception


def random_tensors() -> dict[str, np.ndarray]:
    """Tensors in torchvision's names and layout, each from a random stream of its own."""
    shapes = {}
    params = _shapes()
    for name in inception._names():
        height, width, inner, outer = params[name.replace(".", "_")]["kernel"].shape
        shapes[f"{name}.conv.weight"] = (outer, inner, height, width)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{part}"] = (outer,)
    return {name: random_tensor(name, shape) for name, shape in shapes.items()}


def random_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor by name, scaled so that activations neither vanish nor grow."""
    rng = np.random.default_rng(list(name.encode()))
    if len(shape) == 4:
        return rng.normal(0.0, np.sqrt(2.0 / np.prod(shape[1:])), shape).astype(np.float32)
    if name.endswith(("running_var", "bn.weight")):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return rng.normal(0.0, 0.1, shape).astype(np.float32)


@pytest.fixture(scope="module")
def tensors():
    return random_tensors()


@pytest.mark.slow
def test_features_match_pytorch_fid_on_random_weights(tensors):
    """Expected values from inception_reference.py with pytorch-fid 0.3.0 and torch 2.15."""
    params = inception.InceptionV3().parameters(tensors)
    pictures = np.stack([skimage.data.astronaut()[:200, :260], skimage.data.coffee()[:200, :260]]) / np.float32(255)
    embed = jax.jit(inception.embed)
    features = np.asarray(embed(params, pictures.astype(np.float32)))
    assert features.shape == (2, 2048)
    np.testing.assert_allclose(features[:, :4], EXPECTED, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(features.mean(1), MEANS, rtol=1e-3)


EXPECTED = [[0.0, 0.516932, 0.310491, 3.313597], [0.012726, 0.594288, 0.130010, 3.402598]]
MEANS = [2.642542, 2.745783]


def test_it_has_the_published_size():
    """torchvision's has 21,785,568 parameters before its classifier, 17,216 of them scales that folding removes."""
    count = sum(int(np.prod(x.shape)) for layer in _shapes().values() for x in layer.values())
    assert count == 21_785_568 - 17_216


def _shapes():
    module = inception.InceptionV3()
    picture = np.zeros((1, 299, 299, 3), np.float32)
    init = functools.partial(module.init, layers=("pooled",))
    return jax.eval_shape(init, jax.random.key(0), picture)["params"]


def test_files(tmp_path, tensors):
    with pytest.raises(types.InputError, match="none; name a file"):
        base.load("inception_v3")
    path = tmp_path / "inception.safetensors"
    safetensors.numpy.save_file(tensors, path)
    assert set(base.load("inception_v3", str(path))) == {name.replace(".", "_") for name in inception._names()}
    incomplete = {name: x for name, x in tensors.items() if name != "Mixed_7c.branch1x1.bn.bias"}
    safetensors.numpy.save_file(incomplete, path)
    with pytest.raises(types.InputError, match=r"no tensor Mixed_7c.branch1x1.bn.bias"):
        base.load("inception_v3", str(path))
