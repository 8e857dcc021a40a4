"""The game: each form by hand, and the penalties on discriminators whose slope is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gqst import config
from gqst.losses import base

RNG = np.random.default_rng(0)
FAKE = tuple(RNG.normal(size=(2, s, s, 1)).astype(np.float32) for s in (3, 2))
REAL = tuple(RNG.normal(size=(2, s, s, 1)).astype(np.float32) for s in (3, 2))


def _context(fake=FAKE, real=REAL, score=None) -> base.Context:
    pictures = np.random.default_rng(1).random((3, 2, 6, 6, 3), np.float32)
    return base.Context(
        source=pictures[0],
        target=pictures[1],
        fake=pictures[2],
        keys=jax.random.split(jax.random.key(0), 2),
        logits=base.Logits(fake=fake, real=real),
        score=score,
    )


def _terms(label: str = "adversarial", **options):
    losses = {label: config.loss(1.0, **options), "total_variation": config.loss(1.0)}
    if label != "adversarial":
        losses["adversarial"] = config.loss(1.0)
    return {e.term.player: e.term for e in base.build(losses, paired=False) if e.label == label}


def _mean(function, *scales):
    """The mean over patches, then over scales, for each picture."""
    return np.mean([function(*map(np.float64, s)).mean((1, 2, 3)) for s in zip(*scales, strict=True)], axis=0)


def _log_sigmoid(x):
    return -np.log1p(np.exp(-x))


BY_HAND = {
    "bce": (lambda f: -_log_sigmoid(f), lambda f, r: -_log_sigmoid(r) - _log_sigmoid(-f)),
    "lsgan": (lambda f: (f - 1) ** 2, lambda f, r: ((r - 1) ** 2 + f**2) / 2),
    "hinge": (lambda f: -f, lambda f, r: np.maximum(0, 1 - r) + np.maximum(0, 1 + f)),
}


@pytest.mark.parametrize("form", BY_HAND)
def test_forms_by_hand(form):
    terms = _terms(form=form)
    gen, disc = BY_HAND[form]
    np.testing.assert_allclose(terms["generator"](_context()), _mean(gen, FAKE), rtol=1e-5)
    np.testing.assert_allclose(terms["discriminator"](_context()), _mean(disc, FAKE, REAL), rtol=1e-5)


@pytest.mark.parametrize(
    ("form", "logit", "gen", "disc"),
    [
        ("bce", 0.0, math.log(2), 2 * math.log(2)),  # D says one half to all: the equilibrium of 2014
        ("lsgan", 0.5, 0.25, 0.25),  # halfway between its labels 0 and 1
        ("hinge", 0.0, 0.0, 2.0),
    ],
)
def test_equilibria(form, logit, gen, disc):
    everywhere = (np.full((2, 4, 4, 1), logit, np.float32),)
    terms = _terms(form=form)
    np.testing.assert_allclose(terms["generator"](_context(everywhere, everywhere)), gen, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(terms["discriminator"](_context(everywhere, everywhere)), disc, rtol=1e-6)


@pytest.mark.parametrize("form", ["bce", "lsgan", "hinge"])
def test_a_perfect_discriminator_loses_nothing(form):
    fake, real = {"lsgan": (0.0, 1.0), "bce": (-40.0, 40.0), "hinge": (-1.0, 1.0)}[form]
    context = _context((jnp.full((2, 1, 1, 1), fake),), (jnp.full((2, 1, 1, 1), real),))
    terms = _terms(form=form)
    np.testing.assert_allclose(terms["discriminator"](context), 0.0, atol=1e-6)
    # The generator is not satisfied, and its gradient does not vanish (the sign of the paper's is wrong).
    slope = jax.grad(lambda z: jnp.sum(terms["generator"](context.replace(logits=base.Logits(fake=(z,))))))(
        context.logits.fake[0]
    )
    assert (np.asarray(slope) < -0.4).all()


def _linear(norm: float):
    """D(x) = w.x with |w| = norm, as a map of four equal logits."""
    weights = np.random.default_rng(2).normal(size=(6, 6, 3))
    weights = jnp.asarray(norm * weights / np.linalg.norm(weights), jnp.float32)

    def score(x):
        logit = jnp.einsum("bhwc,hwc->b", x, weights)
        return (jnp.broadcast_to(logit[:, None, None, None], (x.shape[0], 2, 2, 1)),)

    return score


@pytest.mark.parametrize("norm", [0.5, 1.0, 3.0])
def test_wgan_gp_on_a_linear_discriminator(norm):
    terms = _terms(form="wgan_gp", penalty=7.0)
    actual = terms["discriminator"](_context(score=_linear(norm)))
    expected = _mean(lambda f, r: f - r, FAKE, REAL) + 7.0 * (norm - 1.0) ** 2
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(terms["generator"](_context()), _mean(lambda f: -f, FAKE), rtol=1e-5)


def test_wgan_gp_takes_each_picture_on_its_own_way_from_fake_to_target():
    """D(x) = |x|^2 / 2 has the slope |x|: the penalty tells where on the way the picture lay."""
    context = _context(
        (jnp.zeros((2, 1, 1, 1)),),
        (jnp.zeros((2, 1, 1, 1)),),
        score=lambda x: (jnp.sum(x**2, axis=(1, 2, 3))[:, None, None, None] / 2,),
    )
    ones = jnp.ones_like(context.target)
    context = context.replace(target=ones, fake=0.0 * ones)
    penalty = np.asarray(_terms(form="wgan_gp", penalty=1.0)["discriminator"](context))
    length = math.sqrt(6 * 6 * 3)
    shares = (np.sqrt(penalty) + 1.0) / length
    expected = [float(jax.random.uniform(key)) for key in context.keys]
    signed = np.where(np.asarray(expected) * length < 1.0, (1.0 - np.sqrt(penalty)) / length, shares)
    np.testing.assert_allclose(signed, expected, rtol=1e-4)
    assert abs(expected[0] - expected[1]) > 0.01


@pytest.mark.parametrize("norm", [0.5, 3.0])
def test_r1_on_a_linear_discriminator(norm):
    (r1,) = _terms("r1").values()
    np.testing.assert_allclose(r1(_context(score=_linear(norm))), [0.5 * norm**2] * 2, rtol=1e-5)


def test_r1_is_taken_at_the_targets():
    context = _context(score=lambda x: (jnp.sum(x**2, axis=(1, 2, 3))[:, None, None, None] / 2,))
    (r1,) = _terms("r1").values()
    np.testing.assert_allclose(r1(context), 0.5 * (context.target**2).sum((1, 2, 3)), rtol=1e-5)


def test_penalties_average_over_patches_and_scales():
    def score(x):
        one = jnp.sum(x, axis=(1, 2, 3))[:, None, None, None]
        return jnp.concatenate([one, 3.0 * one], axis=1), 0.0 * one

    (r1,) = _terms("r1").values()
    # The mean logit is (2 + 0) / 2 times the sum of all 108 values.
    np.testing.assert_allclose(r1(_context(score=score)), [0.5 * 108] * 2, rtol=1e-5)
