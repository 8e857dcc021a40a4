"""Frozen networks against SciPy and published values, and faulty weight files."""

import functools
import pathlib
import re

import jax
import numpy as np
import pytest
import safetensors.numpy
import scipy.signal
import skimage.data
import skimage.transform
from PIL import Image

from gqst import metrics, types
from gqst.models.features import alexnet, base, efficientnet_lite, vgg

EXAMPLES = pathlib.Path(__file__).parent / "lpips_example"


def _apply(name, params, pictures, layers):
    apply = functools.partial(base.FEATURES[name]().apply, layers=layers)
    return {layer: np.asarray(x) for layer, x in jax.jit(apply)({"params": params}, pictures).items()}


def _conv(x, layer, *, stride=1, pad=1):
    """The convolution of f64[h w c] with a kernel HWIO, by SciPy in double precision."""
    kernel = layer["kernel"].astype(np.float64)
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    channels = [
        sum(scipy.signal.correlate2d(x[..., i], kernel[..., i, o], mode="valid") for i in range(x.shape[-1]))
        for o in range(kernel.shape[-1])
    ]
    return np.stack(channels, axis=-1)[::stride, ::stride] + layer["bias"]


def test_vgg16_applies_its_convolutions():
    params = base.load("vgg16")
    picture = np.random.default_rng(0).random((12, 14, 3)).astype(np.float32)
    activations = _apply("vgg16", params, picture[None], ("relu1_1", "relu1_2", "relu2_1"))
    x = (picture.astype(np.float64) - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    x = np.maximum(_conv(x, params["conv1_1"]), 0.0)
    np.testing.assert_allclose(activations["relu1_1"][0], x, atol=1e-4)
    x = np.maximum(_conv(x, params["conv1_2"]), 0.0)
    np.testing.assert_allclose(activations["relu1_2"][0], x, atol=1e-4)
    x = x.reshape(6, 2, 7, 2, 64).max((1, 3))
    np.testing.assert_allclose(activations["relu2_1"][0], np.maximum(_conv(x, params["conv2_1"]), 0.0), atol=1e-3)
    assert list(activations) == ["relu1_1", "relu1_2", "relu2_1"]


def test_vgg16_to_its_last_bundled_layer():
    layers = ("relu4_1", "relu3_1")
    activations = _apply("vgg16", base.load("vgg16"), np.zeros((2, 32, 40, 3), np.float32), layers)
    assert {name: x.shape for name, x in activations.items()} == {"relu4_1": (2, 4, 5, 512), "relu3_1": (2, 8, 10, 256)}


@pytest.mark.skipif(not EXAMPLES.exists(), reason="the example pictures of LPIPS are only in a clone")
@pytest.mark.parametrize(("name", "expected"), [("ex_p0.png", 0.722), ("ex_p1.png", 0.138), ("ex_ref.png", 0.0)])
def test_lpips_of_its_authors_examples(name, expected):
    """The distances that the LPIPS repository prints."""
    params = base.load("alexnet")
    heads = [params[f"lin{n}"] for n in range(1, 6)]
    pictures = [
        np.asarray(Image.open(EXAMPLES / n).convert("RGB"), np.float32)[None] / 255 for n in ("ex_ref.png", name)
    ]
    reference, output = (list(_apply("alexnet", params, p, alexnet.AlexNet.layers).values()) for p in pictures)
    assert float(metrics.lpips(reference, output, heads)[0]) == pytest.approx(expected, abs=0.005)


@pytest.mark.slow
def test_efficientnet_recognises_espresso():
    picture = skimage.transform.resize(skimage.data.coffee(), (224, 224), anti_aliasing=True).astype(np.float32)
    params = base.load("efficientnet_lite0")
    logits = _apply("efficientnet_lite0", params, picture[None], ("logits",))["logits"].ravel()
    assert np.argmax(logits) == 967  # espresso in ImageNet's order
    assert np.exp(logits[967]) / np.exp(logits).sum() > 0.8


def test_efficientnet_applies_its_first_convolutions():
    params = base.load("efficientnet_lite0")
    picture = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
    activations = _apply("efficientnet_lite0", params, picture[None], ("stem", "stage1"))
    # At stride 2 and an even size, "SAME" pads only at the end.
    x = (255.0 * picture.astype(np.float64) - 127.0) / 128.0
    x = np.clip(_conv(np.pad(x, ((0, 1), (0, 1), (0, 0))), params["stem"], stride=2, pad=0), 0.0, 6.0)
    np.testing.assert_allclose(activations["stem"][0], x, atol=1e-4)
    block = params["stage1_0"]
    kernel = block["depthwise"]["kernel"]
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    x = np.stack([scipy.signal.correlate2d(padded[..., c], kernel[..., 0, c], mode="valid") for c in range(32)], -1)
    x = np.clip(x + block["depthwise"]["bias"], 0.0, 6.0)
    x = _conv(x, block["project"], pad=0)
    np.testing.assert_allclose(activations["stage1"][0], x, atol=1e-3)


@pytest.mark.slow
def test_embeddings_are_the_pooled_features_at_224():
    pictures = np.random.default_rng(0).random((2, 224, 224, 3)).astype(np.float32)
    params = base.load("efficientnet_lite0")
    embeddings = np.asarray(efficientnet_lite.embed(params, pictures))
    head = _apply("efficientnet_lite0", params, pictures, ("head",))["head"]
    assert embeddings.shape == (2, 1280)
    np.testing.assert_allclose(embeddings, head.mean((1, 2)), atol=1e-4)


@pytest.fixture(scope="module")
def torchvision_vgg19():
    """Random tensors in torchvision's names and layout, including a classifier."""
    rng = np.random.default_rng(0)
    tensors, channels, number = {"classifier.0.weight": np.zeros((4, 4), np.float32)}, 3, 0
    for stage, depth in enumerate((2, 2, 4, 4, 4)):
        for _ in range(depth):
            features = 64 * min(2**stage, 8)
            tensors[f"features.{number}.weight"] = rng.normal(size=(features, channels, 3, 3)).astype(np.float16)
            tensors[f"features.{number}.bias"] = rng.normal(size=features).astype(np.float32)
            channels, number = features, number + 2
        number += 1
    return tensors


def test_vgg19_from_a_users_file(torchvision_vgg19, tmp_path):
    safetensors.numpy.save_file(torchvision_vgg19, tmp_path / "vgg19.safetensors")
    np.savez(tmp_path / "vgg19.npz", **torchvision_vgg19)
    params, from_npz = (base.load("vgg19", str(tmp_path / f"vgg19.{kind}")) for kind in ("safetensors", "npz"))
    jax.tree.map(np.testing.assert_array_equal, params, from_npz)
    picture = np.random.default_rng(1).random((1, 8, 8, 3)).astype(np.float32)
    activations = _apply("vgg19", params, picture, ("relu1_1",))["relu1_1"][0]
    kernel = torchvision_vgg19["features.0.weight"].transpose(2, 3, 1, 0)
    layer = {"kernel": kernel, "bias": torchvision_vgg19["features.0.bias"]}
    x = (picture[0].astype(np.float64) - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(activations, np.maximum(_conv(x, layer), 0.0), atol=1e-3)
    assert vgg.VGG19().layers[-1] == "relu5_4"
    assert _apply("vgg19", params, np.zeros((1, 32, 32, 3), np.float32), ("relu5_4",))["relu5_4"].shape == (
        1,
        2,
        2,
        512,
    )


def _fault(name, file, pattern):
    with pytest.raises(types.InputError, match=pattern) as caught:
        base.load(name, file)
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_used(torchvision_vgg19, tmp_path):
    _fault("vgg19", None, "vgg19.*weights=")
    _fault("vgg18", None, "unknown feature network 'vgg18' .*vgg16")
    missing = str(tmp_path / "missing.npz")
    _fault("vgg19", missing, re.escape(missing))
    (tmp_path / "x.pth").write_bytes(b"pickle")
    _fault("vgg19", str(tmp_path / "x.pth"), r"x\.pth.*safetensors or \.npz")
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 40)
    _fault("vgg19", str(tmp_path / "cut.safetensors"), r"cut\.safetensors")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04" + b"\x00" * 40)
    _fault("vgg19", str(tmp_path / "cut.npz"), r"cut\.npz")
    np.savez(tmp_path / "vgg19.npz", **torchvision_vgg19)
    _fault("vgg16", str(tmp_path / "vgg19.npz"), "16 tensors features.N.weight, not 13")
    swapped = torchvision_vgg19 | {"features.0.weight": torchvision_vgg19["features.2.weight"]}
    np.savez(tmp_path / "swapped.npz", **swapped)
    _fault("vgg19", str(tmp_path / "swapped.npz"), r"features\.0\.weight has the shape")
    _fault("alexnet", str(tmp_path / "vgg19.npz"), "takes no file")


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "evil.npz", **{"features.0.weight": np.array([{"a": 1}], dtype=object)})
    _fault("vgg19", str(tmp_path / "evil.npz"), r"evil\.npz")


def test_unknown_layers():
    with pytest.raises(types.InputError, match=r"no layer 'relu3_9' .*relu3_"):
        base.check("vgg16", ["relu3_1", "relu3_9"], base.load("vgg16"))


def test_layers_beyond_the_bundled_ones_need_a_file():
    with pytest.raises(types.InputError, match=r"relu5_1.*weights"):
        base.check("vgg16", ["relu5_1"], base.load("vgg16"))
