"""ResNet-50 from a weight file in torchvision's names and layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from gqst import config, types
from gqst.models import base, resnet50


@pytest.fixture(scope="module")
def tensors():
    """Random tensors with every name and shape of torchvision's resnet50, including the classifier."""
    rng = np.random.default_rng(0)
    tensors = {"fc.weight": np.zeros((10, 2048), np.float16), "fc.bias": np.zeros(10, np.float16)}

    def conv(name, outs, ins, size):
        tensors[f"{name}.weight"] = rng.normal(size=(outs, ins, size, size)).astype(np.float16)

    def norm(name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{name}.{part}"] = rng.random(channels).astype(np.float32)
        tensors[f"{name}.num_batches_tracked"] = np.int64(7)

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    ins = 64
    for stage, depth in enumerate((3, 4, 6, 3), 1):
        width = 64 * 2 ** (stage - 1)
        for number in range(depth):
            name = f"layer{stage}.{number}"
            for part, (i, o, size) in enumerate(((ins, width, 1), (width, width, 3), (width, 4 * width, 1)), 1):
                conv(f"{name}.conv{part}", o, i, size)
                norm(f"{name}.bn{part}", o)
            if number == 0:
                conv(f"{name}.downsample.0", 4 * width, ins, 1)
                norm(f"{name}.downsample.1", 4 * width)
            ins = 4 * width
    return tensors


@pytest.fixture(scope="module")
def file(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet50.safetensors"
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path)
    return str(path)


@pytest.mark.parametrize("registry", [base.GENERATORS, base.DISCRIMINATORS])
def test_the_file_holds_every_variable_of_the_encoder(file, tensors, registry):
    module = registry.build(config.choice("resnet50", weights=file), dtype=jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    initial = base.initial(module)
    for collection in ("params", "batch_stats"):
        expected = jax.tree.map(jnp.shape, shapes[collection]["encoder"])
        assert jax.tree.map(np.shape, initial[collection]["encoder"]) == expected
    kernel = initial["params"]["encoder"]["layer2_0_conv2"]["kernel"]
    np.testing.assert_array_equal(kernel[0, 2, 5, 7], tensors["layer2.0.conv2.weight"][7, 5, 0, 2])
    mean = initial["batch_stats"]["encoder"]["layer4_0_downsample_bn"]["BatchNorm_0"]["mean"]
    np.testing.assert_array_equal(mean, tensors["layer4.0.downsample.1.running_mean"])


def test_without_a_file_there_are_no_initial_variables():
    module = base.GENERATORS.build(config.choice("resnet50"), dtype=jnp.float32)
    assert base.initial(module) == {}


def test_files_that_do_not_fit(file, tensors, tmp_path):
    def fault(pattern, path=file, **options):
        with pytest.raises(types.InputError, match=pattern) as caught:
            resnet50.pretrained(str(path), **{"filters": 64, "norm": "batch", **options})
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    fault("filters=64 and norm='batch', not 32 and 'batch'", filters=32)
    fault("not 64 and 'instance'", norm="instance")
    fault("No such file", tmp_path / "gone.safetensors")
    incomplete = {k: v for k, v in tensors.items() if k != "layer3.2.bn2.bias"}
    np.savez(tmp_path / "incomplete.npz", **incomplete)
    fault("no tensor 'layer3.2.bn2.bias'", tmp_path / "incomplete.npz")
