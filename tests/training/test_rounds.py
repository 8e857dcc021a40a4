"""A round: metrics of the running average on held-out pictures."""

import functools

import jax
import numpy as np
import pytest
import skimage.metrics

from gqst import metrics
from gqst.evaluation import networks
from gqst.metrics import sets
from gqst.models import conditions
from gqst.models.features import base as features
from gqst.models.features import efficientnet_lite
from gqst.ops import color
from gqst.runtime import devices
from gqst.training import state
from gqst.training.recipe import Recipe
from gqst.training.rounds import Round
from tests import conftest

TINY = {"cyclegan": ("generator.blocks=0", "generator.scales=1"), "pix2pix": ("generator.depth=2",)}


@pytest.fixture(scope="module")
def held_out():
    """Five pictures of each domain, odd against the batches of two."""
    rng = np.random.default_rng(0)
    return {key: rng.random((5, 32, 32, 3), np.float32) for key in ("source", "target")}


def _make(held_out, name, *changes, paired=False, named=()):
    changes = (*TINY.get(name, ()), "samples=3", f"metrics={named!r}", *changes)
    recipe = Recipe(conftest.small(name, *changes), paired=paired)
    ema = jax.jit(lambda: state.create(recipe, jax.random.key(0)).ema)()
    measure = Round(recipe, held_out, devices.DeviceMesh(jax.devices()[:1]))
    apply = jax.jit(recipe.generator.apply)
    return measure, ema, lambda direction, x: np.asarray(apply(ema[direction], x))


def _ssim(one, other) -> float:
    options = {
        "data_range": 1.0,
        "channel_axis": -1,
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "full": True,
    }
    maps = [skimage.metrics.structural_similarity(a, b, **options)[1] for a, b in zip(one, other, strict=True)]
    return float(np.mean([m[5:-5, 5:-5].mean() for m in maps]))


def test_both_directions(held_out):
    measure, ema, translate = _make(held_out, "cyclegan")
    metrics, standing, columns, *_ = measure(ema, 7)
    assert measure.traces == 1
    measure(ema, 8)
    assert measure.traces == 1
    fakes = translate("forward", held_out["source"])
    cycled = translate("backward", fakes)
    assert metrics["pictures"] == 5
    assert metrics["ssim_cycled"] == pytest.approx(_ssim(cycled, held_out["source"]), abs=1e-4)
    distance = sets.palette_distance(fakes, held_out["target"])
    assert metrics["palette_distance"] == pytest.approx(distance, rel=1e-4)
    assert standing.step == 7 and standing.style_distance == metrics["palette_distance"]
    assert standing.shortfall == 0.0  # no floor was asked for
    assert list(columns) == ["source", "fake", "cycled"]
    np.testing.assert_array_equal(columns["source"], held_out["source"][:3])
    np.testing.assert_allclose(columns["fake"], fakes[:3], atol=1e-5)
    np.testing.assert_allclose(columns["cycled"], cycled[:3], atol=1e-5)


def test_the_worst_and_the_best_pictures(held_out):
    measure, ema, translate = _make(held_out, "pix2pix", paired=True)
    labels, columns = measure(ema, 3).extremes
    fakes = translate("forward", held_out["source"])
    values = [_ssim([fake], [truth]) for fake, truth in zip(fakes, held_out["target"], strict=True)]
    found = [(label["kind"], label["value"], i) for i, label in enumerate(labels) if label["metric"] == "ssim"]
    for (kind, value, row), expected in zip(found, (np.argmin(values), np.argmax(values)), strict=True):
        assert value == pytest.approx(values[expected], abs=1e-4), kind
        np.testing.assert_array_equal(columns["source"][row], held_out["source"][expected])
        np.testing.assert_allclose(columns["fake"][row], fakes[expected], atol=1e-5)
    assert [kind for kind, _, _ in found] == ["worst", "best"]
    assert len(labels) == len(columns["source"]) == len(columns["fake"])


def test_pairs(held_out):
    measure, ema, translate = _make(held_out, "pix2pix", paired=True, named=("pixel_accuracy", "psnr"))
    metrics, standing, columns, *_ = measure(ema, 3)
    fakes = translate("forward", held_out["source"])
    assert metrics["ssim"] == pytest.approx(_ssim(fakes, held_out["target"]), abs=1e-4)
    psnr = [
        skimage.metrics.peak_signal_noise_ratio(t, f, data_range=1.0)
        for t, f in zip(held_out["target"], fakes, strict=True)
    ]
    assert metrics["psnr"] == pytest.approx(np.mean(psnr), rel=1e-4)
    assert standing.style_distance == pytest.approx(1.0 - metrics["ssim"])
    # What the sources have without a generator, beside every metric against truths.
    assert metrics["ssim_source"] == pytest.approx(_ssim(held_out["source"], held_out["target"]), abs=1e-4)
    for name, picture in (("pixel_accuracy", fakes), ("pixel_accuracy_source", held_out["source"])):
        near = (np.abs(picture - held_out["target"]) <= 0.05 + 1e-6).all(-1)
        assert metrics[name] == pytest.approx(near.mean(), abs=1e-4)
    assert list(columns) == ["source", "fake", "target"]
    assert all(isinstance(value, float | int) for value in metrics.values())


@pytest.mark.parametrize(("floor", "short"), [(0.5, False), (1.0, True)])
def test_the_shortfall_is_what_is_missing_to_the_floor(held_out, floor, short):
    """The generator starts at the source itself: its structure is that of the source."""
    measure, ema, _ = _make(held_out, "style_image", f"losses.structure.floor={floor}")
    half = jax.tree.map(lambda x: x + 0.05, ema)  # away from the source
    metrics, standing, *_ = measure(half, 1)
    structure = metrics["contrast_structure"]
    assert standing.shortfall == pytest.approx(max(floor - structure, 0.0))
    _, near, *_ = measure(ema, 0)
    assert near.shortfall == pytest.approx(0.0, abs=1e-3)
    assert (standing.shortfall > 0.01) is short or structure < 0.5


def test_fewer_pictures_than_a_batch():
    rng = np.random.default_rng(0)
    held_out = {key: rng.random((1, 32, 32, 3), np.float32) for key in ("source", "target")}
    measure, ema, _ = _make(held_out, "style_image")
    metrics, _, columns, *_ = measure(ema, 0)
    assert metrics["pictures"] == 1 and len(columns["fake"]) == 1
    assert metrics["contrast_structure"] > 0.99


@pytest.mark.slow  # EfficientNet is compiled
def test_what_frozen_networks_see(held_out):
    """KID with ten pictures of each and above; with fewer only the metrics of single pictures."""
    named = ("kid", "lpips", "content_retention")
    recipe = Recipe(conftest.small("style_image", f"metrics={named!r}"), paired=False)
    ema = jax.jit(lambda: state.create(recipe, jax.random.key(0)).ema)()
    mesh = devices.DeviceMesh(jax.devices()[:1])
    rng = np.random.default_rng(0)
    many = {"source": rng.random((11, 32, 32, 3), np.float32), "target": rng.random((12, 32, 32, 3), np.float32) ** 3}
    measure = Round(recipe, many, mesh)
    metrics, standing, *_ = measure(ema, 1)
    # The generator starts at the source: nothing is changed but the darkest and brightest pixels.
    assert metrics["lpips"] < 0.01 and 0.99 < metrics["content_retention"] <= 1.0 + 1e-5
    embed = jax.jit(efficientnet_lite.embed)
    params = features.load("efficientnet_lite0")
    near = np.clip(many["source"], 0.02, 0.98)
    expected = sets.kid(*(np.asarray(embed(params, x)) for x in (near, many["target"])))
    assert metrics["kid"] == pytest.approx(expected.value, rel=0.01)
    assert standing.style_distance == metrics["kid"]
    few, standing, *_ = Round(recipe, held_out, mesh)(ema, 1)
    assert "kid" not in few and standing.style_distance == few["palette_distance"]


def test_a_round_shows_the_colours_of_the_source():
    recipe = Recipe(conftest.small("style_image", "keep_colors=True", "batch_size=3"), paired=False)
    ema = jax.jit(lambda: state.create(recipe, jax.random.key(0)).ema)()
    ema = jax.tree.map(lambda x: x + 0.02, ema)
    rng = np.random.default_rng(0)
    held_out = {key: rng.uniform(0.3, 0.7, (3, 32, 32, 3)).astype(np.float32) for key in ("source", "target")}
    measure = Round(recipe, held_out, devices.DeviceMesh(jax.devices()[:1]))
    columns = measure(ema, 1).columns
    fake, source = columns["fake"], columns["source"]
    inside = (fake > 0.001).all(-1) & (fake < 0.999).all(-1)
    assert inside.mean() > 0.3
    gap = fake - source
    np.testing.assert_allclose(gap[inside].max(-1), gap[inside].min(-1), atol=1e-4)
    assert np.abs(np.asarray(color.luma(fake)) - np.asarray(color.luma(source))).max() > 0.01


@pytest.mark.slow
def test_style_gain_and_repetition_of_larger_pictures():
    rng = np.random.default_rng(1)
    pictures = {"source": rng.random((3, 96, 96, 3), np.float32), "target": rng.random((4, 96, 96, 3), np.float32) / 2}
    changes = ("round_size=96", "batch_size=2")
    measure, ema, apply = _make(pictures, "quickstart", *changes, named=("style_gain", "repetition"))
    result = measure(ema, 0)
    fakes = apply("forward", pictures["source"])
    network, params = features.FEATURES["efficientnet_lite0"](), features.load("efficientnet_lite0")
    layers = ("stem", "stage1", "stage2", "stage3")

    def statistics(x):
        seen = network.apply({"params": params}, x, layers=layers)
        return [np.stack([np.asarray(a).mean((1, 2)), np.asarray(a).std((1, 2))], 1) for a in seen.values()]

    goals = [x.mean(0) for x in statistics(pictures["target"])]

    def distance(x):
        ways = [np.sqrt(((a - g) ** 2).sum((1, 2)) / (g**2).sum()) for a, g in zip(statistics(x), goals, strict=True)]
        return np.mean(ways, axis=0)

    expected = np.mean(1.0 - distance(fakes) / distance(pictures["source"]))
    assert result.metrics["style_gain"] == pytest.approx(expected, abs=2e-3)
    assert 0.0 < result.metrics["repetition"] < 0.5


@pytest.mark.slow
def test_a_generator_that_is_asked_is_measured_by_what_it_was_asked_for(held_out):
    """Source i is asked to look like target i, and for the structures of its range in turn."""
    named = ("style_gain",)
    held_out = {name: pictures[:3] if name == "target" else pictures for name, pictures in held_out.items()}
    measure, ema, _ = _make(held_out, "any_style", named=named)
    values, standing, columns, *_ = measure(ema, 7)
    recipe, asked = measure._recipe, np.float32([0.6, 0.65, 0.7, 0.75, 0.8])
    styles = held_out["target"][[0, 1, 2, 0, 1]]
    np.testing.assert_array_equal(columns["style"], styles[:3])
    statistics = jax.jit(functools.partial(conditions.style_of, recipe.generator))(ema["forward"], styles)
    variables = conditions.conditioned(ema["forward"], conditions.Conditions(statistics, asked))
    fakes = jax.jit(recipe.generator.apply)(variables, held_out["source"])
    np.testing.assert_allclose(columns["fake"], fakes[:3], atol=1e-4)
    structure = np.asarray(metrics.contrast_structure(fakes, held_out["source"]))
    assert values["structure_error"] == pytest.approx(np.abs(structure - asked).mean(), abs=1e-4)
    (metric,) = (m for m in metrics.METRICS.values() if m.name == "style_gain")
    params = {"efficientnet_lite0": features.load("efficientnet_lite0")}
    gains = []
    for source, fake, style in zip(held_out["source"], np.asarray(fakes), styles, strict=True):
        own = networks.style_statistics([metric], params, style[None])
        goal = jax.tree.map(lambda x: x[0], own)
        gains.append(float(networks.measure([metric], params, fake[None], source[None], goal)["style_gain"][0]))
    assert values["style_gain"] == pytest.approx(np.mean(gains), abs=1e-3)
    assert standing.style_distance == pytest.approx(1 - np.mean(gains), abs=1e-3)
