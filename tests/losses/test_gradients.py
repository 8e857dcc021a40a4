"""Every registered term has a finite gradient where pictures are equal or flat, in bfloat16 too.

The terms come from the registry, each with all of its options that are a choice, so that a new one is covered.
"""

import dataclasses
import functools
import itertools
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gqst import config, metrics, types
from gqst.losses import base
from gqst.models import base as models
from gqst.models.features import base as features

SIZE = 32
# Values of options that are no choice between names, tried besides the defaults.
MORE = {
    ("quality", "metric"): tuple(m.name for m in metrics.METRICS.values() if m.aim is not None and m.output == "fake"),
    ("quality", "floor"): (None, 0.6),
}


def _variants(name: str) -> list[dict[str, typing.Any]]:
    """All combinations of a term's options."""
    tried = []
    for key, parameter in base.TERMS.options(name).items():
        values = MORE.get((name, key)) or typing.get_args(parameter.annotation)
        if parameter.annotation is bool:
            values = (False, True)
        elif (name, key) not in MORE and typing.get_origin(parameter.annotation) is not typing.Literal:
            assert parameter.default is not parameter.empty, f"say in MORE what to try for {name}.{key}"
            values = (parameter.default,)
        tried.append([(key, value) for value in values])
    return [dict(options) for options in itertools.product(*tried)]


def _entries() -> dict[str, list[base.Entry]]:
    collected = {"generator": [], "discriminator": []}
    helpers = {"adversarial": config.loss(1.0), "total_variation": config.loss(1.0)}
    for name in base.TERMS:
        for options in _variants(name):
            losses = helpers | {"tested": config.loss(1.0, term=name, **options)}
            try:
                objective = base.build(losses, paired=True)
            except types.InputError:
                continue  # a combination that the term itself refuses
            for entry in objective:
                if entry.label == "tested":
                    collected[entry.term.player].append(entry)
    return collected


ENTRIES = _entries()


def _name(entry: base.Entry) -> str:
    return "-".join([type(entry.term).__name__, *map(str, dataclasses.asdict(entry.term).values())])


def _cases() -> tuple[np.ndarray, np.ndarray]:
    """Pairs of pictures: equal, flat, flat and equal, flat and far apart."""
    rng = np.random.default_rng(0)
    noise = rng.random((SIZE, SIZE, 3), np.float32)
    black, grey, white = (np.full_like(noise, value) for value in (0.0, 0.5, 1.0))
    pairs = [(noise, noise), (black, black), (grey, grey), (white, white)]
    pairs += [(black, white), (white, black), (grey, noise), (noise, black)]
    one, other = zip(*pairs, strict=True)
    return np.stack(one), np.stack(other)


def _context(one, other, logits=None, score=None, **more) -> base.Context:
    keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(len(one)))
    return base.Context(
        source=other,
        target=other,
        fake=one,
        cycled=one,
        identity=one,
        keys=keys,
        structure=jnp.linspace(0.2, 0.9, len(one)),
        logits=logits,
        score=score,
        **more,
    )


@pytest.fixture(scope="module")
def disc():
    """A discriminator in bfloat16 as a function of pictures, and its variables."""
    chosen = config.choice("patch", filters=8, layers=1, spectral_norm=True)
    module = models.DISCRIMINATORS.build(chosen, dtype=jnp.bfloat16)
    picture = jnp.zeros((1, SIZE, SIZE, 3))
    variables = jax.jit(module.init)(jax.random.key(0), picture)
    return (lambda variables, pictures: module.apply(variables, pictures)), variables


@pytest.fixture(scope="module")
def frozen():
    """The parameters of the bundled feature networks."""
    return {name: features.load(name) for name in ("vgg16", "alexnet")}


def _see(term: base.Term, frozen, one, other):
    """The features that a term reads of the fakes `one` and of `other`."""
    collected: dict = {}
    for spec in term.features:
        network = features.FEATURES[spec.network]()
        seen = network.apply(
            {"params": frozen[spec.network]}, one if spec.picture == "fake" else other, layers=spec.layers
        )
        collected.setdefault(spec.network, {})[spec.picture] = seen
    return collected


@pytest.fixture(scope="module")
def through_networks(disc):
    """The pullback of pictures' gradients to a bfloat16 generator's parameters."""
    chosen = config.choice("resnet", filters=8, blocks=1, start_at_identity=True)
    module = models.GENERATORS.build(chosen, dtype=jnp.bfloat16)
    _, sources = _cases()
    variables = jax.jit(module.init)(jax.random.key(0), sources)

    @jax.jit
    def pull(gradient):
        fakes, pullback = jax.vjp(lambda v: module.apply(v, sources), variables)
        return fakes, pullback(gradient)[0]

    return pull


def test_all_terms_are_here():
    tested = {type(entry.term) for entries in ENTRIES.values() for entry in entries}
    assert {base.TERMS[name] for name in base.TERMS} <= tested
    assert {type(entry.term.opponent) for entry in ENTRIES["generator"] if entry.term.opponent} <= tested


@pytest.mark.parametrize("entry", ENTRIES["generator"], ids=_name)
def test_generator_terms(entry, disc, frozen, through_networks):
    judge, variables = disc
    heads = {}
    if entry.term.head is not None:
        heads = {entry.name: entry.term.head.init(jax.random.key(0), {"layer": jnp.ones((1, 1, 3))})["params"]}

    def loss(one, other):
        logits = base.Logits(fake=judge(variables, one).logits)
        inner = base.Activations(fake=judge(variables, one).activations, real=judge(variables, other).activations)
        seen = _see(entry.term, frozen, one, other)
        encoded = {
            p: {"layer": 2.0 * x[:, ::2, ::2]}
            for p, x in {"fake": one, "identity": one, "source": other, "target": other}.items()
        }
        context = _context(
            one, other, logits, activations=inner, features=seen, frozen=frozen, encoded=encoded, heads=heads
        )
        values = entry.term(context)
        assert values.shape == (len(one),) and values.dtype == jnp.float32
        return jnp.sum(values), values

    both = jax.jit(jax.grad(loss, has_aux=True))
    one, other = _cases()
    gradient, values = both(one, other)
    assert np.isfinite(values).all() and np.isfinite(gradient).all()
    # The fakes of an untrained bfloat16 generator that starts at identity are all but the sources.
    fakes, _ = through_networks(jnp.zeros_like(one))
    gradient, values = both(fakes, other)
    _, pulled = through_networks(gradient)
    assert np.isfinite(values).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pulled))


def test_discriminator_terms(disc):
    judge, variables = disc
    entries = ENTRIES["discriminator"]

    one, other = _cases()

    def loss(params, entry):
        def score(pictures):
            return judge({**variables, "params": params}, pictures).logits

        logits = base.Logits(fake=score(one), real=score(other)) if entry.term.needs else None
        return jnp.sum(entry.term(_context(one, other, logits, score)))

    @jax.jit
    def gradients(params):
        collected = [jax.value_and_grad(loss)(params, entry) for entry in entries]
        return tuple(zip(*collected, strict=True))

    values, all_gradients = gradients(variables["params"])
    for entry, gradient, value in zip(entries, all_gradients, values, strict=True):
        assert np.isfinite(value), _name(entry)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient)), _name(entry)
        assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient)), _name(entry)
