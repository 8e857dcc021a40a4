"""Optimisers and learning rates at steps worked out by hand."""

import inspect
import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gqst import config, types
from gqst.training import optimizer


def _rate(step: int, *, steps: int = 100, **options) -> float:
    cfg = config.Optimizer(learning_rate=0.4, **options)
    return float(optimizer.learning_rate(cfg, steps=steps)(step))


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({}, {0: 0.4, 99: 0.4, 1000: 0.4}),
        ({"schedule": "linear_decay"}, {0: 0.4, 50: 0.4, 75: 0.2, 90: 0.08, 100: 0.0}),
        ({"schedule": "linear_decay", "decay_start": 0}, {0: 0.4, 25: 0.3, 100: 0.0}),
        ({"schedule": "linear_decay", "decay_start": 80}, {80: 0.4, 95: 0.1, 100: 0.0}),
        ({"schedule": "cosine"}, {0: 0.4, 50: 0.2, 75: 0.2 * (1 - math.sqrt(0.5)), 100: 0.0}),
        ({"warmup_steps": 500}, {0: 0.0, 25: 0.2, 50: 0.4, 99: 0.4}),  # half of the run at most
        ({"warmup_steps": 20}, {0: 0.0, 5: 0.1, 20: 0.4, 99: 0.4}),
        ({"warmup_steps": 20, "schedule": "cosine"}, {10: 0.2, 20: 0.4, 60: 0.2, 100: 0.0}),
        (
            {"warmup_steps": 20, "schedule": "linear_decay", "decay_start": 60},
            {10: 0.2, 20: 0.4, 60: 0.4, 80: 0.2, 100: 0.0},
        ),
        ({"warmup_steps": 20, "schedule": "linear_decay", "decay_start": 20}, {19: 0.38, 60: 0.2, 100: 0.0}),
    ],
)
def test_learning_rates(options, rates):
    for step, expected in rates.items():
        assert _rate(step, **options) == pytest.approx(expected, abs=1e-6), step


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedule": "linear_decay", "decay_start": 100}, ["decay_start=100"]),
        ({"schedule": "linear_decay", "decay_start": 10, "warmup_steps": 20}, ["decay_start=10", "20"]),
        ({"options": {"beta1": 0.5}}, ["'adam'", "'beta1'", "it takes: b1, b2"]),
        ({"options": {"learning_rate": 0.5}}, ["'adam'", "'learning_rate'"]),
        ({"name": "sgd", "options": {"b1": 0.5}}, ["'sgd'", "'b1'", "momentum"]),
        ({"options": {"b2": "abc"}}, ["option 'b2' of optimiser 'adam' is 'abc': it takes a number from 0 to less"]),
        ({"options": {"b1": None}}, ["option 'b1' of optimiser 'adam' is None: it takes a number from 0 to less"]),
        ({"options": {"b2": 1.0}}, ["option 'b2' of optimiser 'adam' is 1.0"]),
        ({"options": {"eps": math.nan}}, ["option 'eps' of optimiser 'adam' is nan: it takes a number of at least 0"]),
        ({"options": {"eps": True}}, ["option 'eps' of optimiser 'adam' is True"]),
        ({"options": {"nesterov": 1}}, ["option 'nesterov' of optimiser 'adam' is 1: it takes True or False"]),
        ({"options": {"mu_dtype": "int8"}}, ["option 'mu_dtype' of optimiser 'adam' is 'int8'"]),
        ({"name": "adamw", "options": {"mask": "x"}}, ["option 'mask' of optimiser 'adamw' is 'x'"]),
    ],
)
def test_what_does_not_fit(options, words):
    with pytest.raises(types.InputError) as caught:
        optimizer.build(config.Optimizer(**options), steps=100)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "radam", "lion", "rmsprop", "sgd", "adabelief", "yogi"])
def test_every_default_of_optax_passes(name):
    parameters = inspect.signature(getattr(optax, name)).parameters
    options = {key: p.default for key, p in parameters.items() if key != "learning_rate"}
    optimizer.build(config.Optimizer(name=name, options=options), steps=10)


def _first_steps(gradients, **options) -> np.ndarray:
    tx = optimizer.build(config.Optimizer(**options), steps=10)
    params = jnp.zeros(2)
    opt_state = tx.init(params)
    for gradient in gradients:
        updates, opt_state = tx.update(jnp.asarray(gradient), opt_state, params)
        params = params + updates
    return np.asarray(params)


def test_sgd_and_clipping():
    moved = _first_steps([[3.0, 4.0]], name="sgd", learning_rate=0.1)
    np.testing.assert_allclose(moved, [-0.3, -0.4], rtol=1e-6)
    moved = _first_steps([[3.0, 4.0]], name="sgd", learning_rate=0.1, clip_norm=1.0)
    np.testing.assert_allclose(moved, [-0.06, -0.08], rtol=1e-6)
    moved = _first_steps([[0.3, 0.4]], name="sgd", learning_rate=0.1, clip_norm=1.0)
    np.testing.assert_allclose(moved, [-0.03, -0.04], rtol=1e-6)


@pytest.mark.parametrize(("options", "b1"), [({}, 0.5), ({"b1": 0.9}, 0.9)])
def test_adam_has_the_first_moment_of_gans(options, b1):
    """Kingma and Ba 2015, algorithm 1, over two steps."""
    gradients = np.array([[1.0, -2.0], [0.5, 2.0]])
    first, second, expected = np.zeros(2), np.zeros(2), np.zeros(2)
    for t, g in enumerate(gradients, start=1):
        first, second = b1 * first + (1 - b1) * g, 0.999 * second + 0.001 * g**2
        expected -= 0.1 * (first / (1 - b1**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    moved = _first_steps(gradients, learning_rate=0.1, options=options)
    np.testing.assert_allclose(moved, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "radam", "lion", "rmsprop", "sgd", "adabelief", "yogi"])
def test_every_named_optimizer_steps(name):
    moved = _first_steps([[1.0, -1.0]] * 6, name=name, learning_rate=0.1)
    assert np.isfinite(moved).all() and moved[0] < 0.0 < moved[1]
