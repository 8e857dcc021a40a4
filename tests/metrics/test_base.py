"""Records of metrics, and which of them a round measures."""

import math

import numpy as np
import pytest

from gqst import metrics, types

PLAIN = {"name": "plain", "better": "higher", "definition": "", "function": min}


def _names(named=(), aimed=(), *, side=64, paired=False, cycled=False):
    return [metric.name for metric in metrics.of_round(named, aimed, side=side, paired=paired, cycled=cycled)]


def test_the_metrics_of_a_round():
    assert _names() == ["contrast_structure", "palette_distance"]
    assert _names(cycled=True) == ["contrast_structure", "ssim_cycled", "palette_distance"]
    assert _names(paired=True) == ["ssim", "psnr", "contrast_structure", "palette_distance"]
    default = ("kid", "lpips", "content_retention")
    assert _names(default) == ["contrast_structure", "content_retention", "lpips", "palette_distance", "kid"]
    # One that combines others brings them along; what is named twice is measured once.
    assert set(_names(("art_fid", "lpips"))) - set(_names()) == {"art_fid", "lpips", "frechet"}
    assert _names((), ("ssim",), paired=True) == _names(paired=True)


def test_pictures_too_small_for_a_metric():
    assert "lpips" in _names(("lpips",), side=32) and "lpips" not in _names(("lpips",), side=31)
    with pytest.raises(types.InputError, match="contrast_structure needs pictures of at least 11 px a side, got 10"):
        _names((), ("contrast_structure",), side=10)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lipps", r"unknown metric 'lipps' \(did you mean 'lpips'\?\); there are: art_fid, "),
        ("ms_ssim", "'ms_ssim' compares fakes with truths and needs paired data"),
        ("ssim_cycled", "'ssim_cycled' looks at cycles, which no loss of this config makes"),
    ],
)
def test_metrics_that_this_data_does_not_have(name, words):
    with pytest.raises(types.InputError, match=words):
        _names((name,))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"aim": metrics.Aim()}, "needs a highest value, or a loss of its own"),
        ({"aim": metrics.Aim(), "range": (0.0, 1.0), "better": "lower"}, "better when higher"),
        ({"aim": metrics.Aim(), "range": (0.0, 1.0), "network": "vgg16"}, "metrics of pixels"),
        ({"combines": ("lpips",)}, "its reference has to be 'style'"),
    ],
)
def test_records_that_contradict_themselves(fields, words):
    with pytest.raises(ValueError, match=words):
        metrics.Metric(**{**PLAIN, **fields})


def test_names_are_taken_once():
    with pytest.raises(ValueError, match="metric 'ssim' is registered twice"):
        metrics.register(metrics.Metric(**{**PLAIN, "name": "ssim"}))


def test_the_decorator_leaves_the_function_as_it_is():
    record = metrics.METRICS["color_shift"]
    assert record.function is metrics.color_shift and "Euclidean" in metrics.color_shift.__doc__
    flat = np.zeros((1, 4, 4, 3), np.float32)
    assert float(record(flat, flat + 0.1)[0]) == pytest.approx(math.sqrt(3) * 0.1, abs=1e-5)


def test_estimates_of_sets():
    assert metrics.METRICS["art_fid"].estimate(0.25, 15.0)[0] == pytest.approx(20.0)
    assert math.isnan(metrics.METRICS["art_fid"].estimate(0.25, 15.0).error)
    rows = np.random.default_rng(0).normal(size=(60, 4))
    assert metrics.METRICS["kid"].estimate(rows, rows + 1.0) == metrics.kid(rows, rows + 1.0)


def test_pairs_are_those_of_quality_losses():
    pairs = {name: metrics.METRICS[name].pair for name in ("contrast_structure", "ssim", "psnr", "ssim_cycled")}
    assert list(pairs.values()) == ["fake_source", "fake_target", "fake_target", "cycled_source"]


def test_definitions_name_the_network():
    described = metrics.METRICS["kid"].describe("inception_v3")
    assert described == "kernel distance, unbiased, x1000, features of inception_v3, cubic kernel"
