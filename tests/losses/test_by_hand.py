"""Terms taken one at a time, without a config, on NumPy arrays."""

import inspect

import numpy as np
import pytest
import skimage.metrics

from gqst import losses, types


@pytest.fixture
def context() -> losses.Context:
    rng = np.random.default_rng(0)
    source, target, fake = rng.random((3, 2, 16, 16, 3), np.float32)
    relu = {picture: {"relu3_1": rng.normal(size=(2, 4, 4, 8)).astype(np.float32)} for picture in ("fake", "source")}
    return losses.Context(source=source, target=target, fake=fake, features={"vgg16": relu})


def test_l1(context):
    value = losses.L1()(context)
    assert value.shape == (2,) and value.dtype == np.float32
    np.testing.assert_allclose(value, np.abs(context.fake - context.target).mean((1, 2, 3)), rtol=1e-6)


def test_content(context):
    relu = context.features["vgg16"]
    expected = np.abs(relu["fake"]["relu3_1"] - relu["source"]["relu3_1"]).mean((1, 2, 3))
    np.testing.assert_allclose(losses.Content(layers=("relu3_1",))(context), expected, rtol=1e-6)


def test_quality(context):
    options = {"data_range": 1.0, "channel_axis": -1, "gaussian_weights": True, "use_sample_covariance": False}
    maps = [
        skimage.metrics.structural_similarity(fake, target, full=True, **options)[1]
        for fake, target in zip(context.fake, context.target, strict=True)
    ]
    expected = [1.0 - similarity[5:-5, 5:-5].mean() for similarity in maps]
    np.testing.assert_allclose(losses.Quality(metric="ssim", pair="fake_target")(context), expected, atol=1e-4)
    with pytest.raises(types.InputError, match="use contrast_structure there"):
        losses.Quality(metric="ssim", pair="fake_source")


def test_every_term_is_exported_and_can_be_compared():
    exported = {value for value in vars(losses).values() if inspect.isclass(value) and issubclass(value, losses.Term)}
    assert exported >= {losses.TERMS[name] for name in losses.TERMS}
    assert {value.__name__ for value in exported} <= set(losses.__all__)
    assert losses.Style(layers=("relu1_1",)) == losses.Style(layers=("relu1_1",)) != losses.Style()
    assert len({losses.Style(), losses.Style(), losses.Style(form="gram")}) == 2
