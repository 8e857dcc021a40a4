"""Terms in deep features by hand."""

import jax
import numpy as np
import pytest
import scipy.stats

from gqst import config, types
from gqst.losses import base


def _term(name: str, **options) -> base.Term:
    helper = config.loss(1.0, form="hinge")
    actual = base.build({"tested": config.loss(1.0, term=name, **options), "adversarial": helper}, paired=True)
    return next(e.term for e in actual if e.label == "tested")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _context(**fields) -> base.Context:
    picture = np.zeros((2, 8, 8, 3), np.float32)
    return base.Context(
        source=picture, target=picture, fake=picture, keys=jax.random.split(jax.random.key(0), 2), **fields
    )


def _features(rng, *pictures, shape=(2, 3, 4, 5)):
    """Activations of two layers for each picture, f32 of `shape`."""
    return {p: {layer: rng.normal(size=shape).astype(np.float32) for layer in ("a", "b")} for p in pictures}


def _value(term, context):
    actual = term(context)
    assert actual.shape == (2,) and actual.dtype == np.float32
    return actual


def test_content(rng):
    seen = _features(rng, "fake", "source")
    term = _term("content", layers=("a", "b"))
    assert term.features == (("vgg16", "fake", ("a", "b"), 0), ("vgg16", "source", ("a", "b"), 0))
    expected = np.mean([np.abs(seen["fake"][x] - seen["source"][x]).mean((1, 2, 3)) for x in "ab"], axis=0)
    np.testing.assert_allclose(_value(term, _context(features={"vgg16": seen})), expected, rtol=1e-5)


def test_content_of_halved_pictures_reads_their_features(rng):
    seen = _features(rng, "fake/1", "source/1")
    term = _term("content", layers=("a",), halvings=1)
    assert [spec.view for spec in term.features] == ["fake/1", "source/1"]
    expected = np.abs(seen["fake/1"]["a"] - seen["source/1"]["a"]).mean((1, 2, 3))
    np.testing.assert_allclose(_value(term, _context(features={"vgg16": seen})), expected, rtol=1e-5)


def test_normalised_content_is_blind_to_each_channels_scale_and_shift(rng):
    seen = _features(rng, "source")
    scaled = {layer: 3.0 * x + np.arange(5, dtype=np.float32) for layer, x in seen["source"].items()}
    context = _context(features={"vgg16": {**seen, "fake": scaled}})
    plain, normalised = (_value(_term("content", layers=("a",), normalize=n), context) for n in (False, True))
    assert (plain > 1.0).all()
    np.testing.assert_allclose(normalised, 0.0, atol=1e-5)
    # Minus one times a picture of mean 0 and deviation 1 is 2|x| away.
    turned = {layer: -x for layer, x in seen["source"].items()}
    actual = _value(
        _term("content", layers=("a",), normalize=True), _context(features={"vgg16": {**seen, "fake": turned}})
    )
    x = seen["source"]["a"]
    z = (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True)
    np.testing.assert_allclose(actual, 2 * np.abs(z).mean((1, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize(("distance", "of"), [("l1", np.abs), ("l2", np.square)])
def test_style_by_moments(rng, distance, of):
    seen = _features(rng, "fake", "target")
    term = _term("style", layers=("a", "b"), distance=distance)
    expected = 0.0
    for layer in "ab":
        fake, target = seen["fake"][layer], seen["target"][layer]
        expected += of(fake.mean((1, 2)) - target.mean((1, 2))).mean(1) / 2
        expected += of(fake.std((1, 2)) - target.std((1, 2))).mean(1) / 2
    np.testing.assert_allclose(_value(term, _context(features={"vgg16": seen})), expected, rtol=1e-4)


def test_style_by_gram_matrices(rng):
    seen = _features(rng, "fake", "target")
    grams = []
    for picture in ("fake", "target"):
        flat = seen[picture]["a"].reshape(2, 12, 5)
        grams.append(np.stack([x.T @ x / 12 for x in flat]))
    expected = np.abs(grams[0] - grams[1]).mean((1, 2))
    actual = _value(_term("style", form="gram", layers=("a",)), _context(features={"vgg16": seen}))
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_relative_style_counts_layers_alike_whatever_their_scale(rng):
    seen = _features(rng, "fake", "target")
    grams = [[np.stack([x.reshape(12, 5).T @ x.reshape(12, 5) / 12 for x in seen[p][a]]) for a in "ab"] for p in seen]
    expected = sum(
        ((fake - target) ** 2).mean((1, 2)) / (target**2).mean((1, 2)) for fake, target in zip(*grams, strict=True)
    )
    term = _term("style", form="gram", distance="relative", layers=("a", "b"))
    np.testing.assert_allclose(_value(term, _context(features={"vgg16": seen})), expected / 2, rtol=1e-4)
    larger = {picture: {"a": x["a"], "b": 9.0 * x["b"]} for picture, x in seen.items()}
    np.testing.assert_allclose(_value(term, _context(features={"vgg16": larger})), expected / 2, rtol=1e-4)
    # Over the mean square of both it is the same whichever is the target, and at most 2.
    symmetric = _term("style", form="gram", distance="symmetric", layers=("a", "b"))
    expected = sum(
        2 * ((fake - target) ** 2).mean((1, 2)) / (fake**2 + target**2).mean((1, 2))
        for fake, target in zip(*grams, strict=True)
    )
    for features in (seen, larger, {"fake": seen["target"], "target": seen["fake"]}):
        np.testing.assert_allclose(_value(symmetric, _context(features={"vgg16": features})), expected / 2, rtol=1e-4)


def test_sliced_style_is_the_transport_distance_along_axes(rng):
    """With one channel every axis is that channel, so that the distance is SciPy's between the two sets of values."""
    seen = {picture: {"a": layers["a"][..., :1]} for picture, layers in _features(rng, "fake", "target").items()}
    expected = [scipy.stats.wasserstein_distance(*(seen[p]["a"][i].ravel() for p in seen)) for i in range(2)]
    term = _term("style", form="sliced", layers=("a",))
    np.testing.assert_allclose(_value(term, _context(features={"vgg16": seen})), expected, rtol=1e-4)


def test_symmetric_sliced_style_counts_by_how_much_features_spread(rng):
    seen = {picture: {"a": layers["a"][..., :1]} for picture, layers in _features(rng, "fake", "target").items()}
    sorted_ones = [np.sort(seen[p]["a"].reshape(2, -1)) for p in seen]
    middle = np.mean(sorted_ones, axis=(0, 2))[:, None]
    fake, target = (x - middle for x in sorted_ones)
    expected = 2 * ((fake - target) ** 2).mean(1) / (fake**2 + target**2).mean(1)
    term = _term("style", form="sliced", distance="symmetric", layers=("a",))
    for offset in (0.0, 9.0):
        moved = {picture: {"a": x["a"] + np.float32(offset)} for picture, x in seen.items()}
        np.testing.assert_allclose(_value(term, _context(features={"vgg16": moved})), expected, rtol=1e-3)


def test_sliced_style_sees_a_few_bright_spots_where_gram_matrices_do_not():
    """A sixteenth of the positions, four times as large, has the second moments of all of them."""
    even, spots = np.ones((2, 96, 96, 3), np.float32), np.zeros((2, 96, 96, 3), np.float32)
    spots[:, ::4, ::4] = 4.0
    context = _context(features={"vgg16": {"fake": {"a": spots}, "target": {"a": even}}})
    gram, sliced = (_term("style", form=form, layers=("a",)) for form in ("gram", "sliced"))
    np.testing.assert_allclose(_value(gram, context), 0.0, atol=1e-4)
    # |a| E|x - 1| on an axis whose channels sum to a: E|x - 1| is 15/16 + 3/16, and |a| is some 0.8 on average.
    assert (_value(sliced, context) > 0.5).all()
    turned = _context(features={"vgg16": {"fake": {"a": spots[:, ::-1]}, "target": {"a": spots}}})
    assert (_value(sliced, turned) < 0.1).all()


def test_style_at_two_sizes_reads_the_features_of_both(rng):
    seen = _features(rng, "fake", "target", "fake/1", "target/1")
    term = _term("style", layers=("a",), halvings=(0, 1))
    assert [spec.view for spec in term.features] == ["fake", "target", "fake/1", "target/1"]
    halved = {name.removesuffix("/1"): x for name, x in seen.items() if name.endswith("/1")}
    each = [_value(_term("style", layers=("a",)), _context(features={"vgg16": x})) for x in (seen, halved)]
    np.testing.assert_allclose(_value(term, _context(features={"vgg16": seen})), np.mean(each, axis=0), rtol=1e-5)


def test_style_does_not_mind_where_things_are(rng):
    seen = _features(rng, "target")
    moved = {layer: x[:, ::-1, ::-1] for layer, x in seen["target"].items()}
    for form in ("moments", "gram", "sliced"):
        actual = _value(_term("style", form=form, layers=("a",)), _context(features={"vgg16": {**seen, "fake": moved}}))
        np.testing.assert_allclose(actual, 0.0, atol=1e-5)


def test_discriminator_perceptual(rng):
    shapes = ((2, 4, 4, 3), (2, 2, 2, 5))
    fake, real = (tuple(rng.normal(size=s).astype(np.float32) for s in shapes) for _ in range(2))
    context = _context(activations=base.Activations(fake=(fake,), real=(real,)))
    paired = np.mean([np.abs(a - b).mean((1, 2, 3)) for a, b in zip(fake, real, strict=True)], axis=0)
    actual = _value(_term("discriminator_perceptual", paired=True), context)
    np.testing.assert_allclose(actual, paired, rtol=1e-5)
    parts = []
    for a, b in zip(fake, real, strict=True):
        parts.append(np.abs(a.mean((1, 2)) - b.mean((1, 2))).mean(1))
        parts.append(np.abs(a.std((1, 2)) - b.std((1, 2))).mean(1))
    np.testing.assert_allclose(_value(_term("discriminator_perceptual"), context), np.mean(parts, axis=0), rtol=1e-4)


def test_what_they_need():
    assert _term("discriminator_perceptual").needs == {"activations"}
    with pytest.raises(types.InputError, match="adversarial"):
        base.build({"discriminator_perceptual": config.loss(1.0)}, paired=True)
    for name, options in (("lpips", {"reference": "target"}), ("discriminator_perceptual", {"paired": True})):
        with pytest.raises(types.InputError, match="needs paired data"):
            base.build({name: config.loss(1.0, **options), "adversarial": config.loss(1.0)}, paired=False)


def test_all_features_together():
    objective = base.build(
        {
            "content": config.loss(1.0, layers=("relu3_1",)),
            "style": config.loss(1.0, layers=("relu1_1", "relu3_1")),
            "lpips": config.loss(1.0),
            "off": config.loss(0.0, term="style", layers=("relu4_1",)),
        },
        paired=False,
    )
    assert base.features(objective) == {
        "vgg16": {"fake": ("relu1_1", "relu3_1"), "source": ("relu3_1",), "target": ("relu1_1", "relu3_1")},
        "alexnet": dict.fromkeys(("fake", "source"), tuple(f"relu{n}" for n in range(1, 6))),
    }
