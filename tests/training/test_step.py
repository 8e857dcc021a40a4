"""The step: what one update is, by explicit gradients; and what each kind of config comes to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gqst import metrics as quality
from gqst import overrides
from gqst.training import parallel, state, step, summary
from gqst.training.recipe import Recipe
from tests import conftest

SGD = tuple(
    f"{player}_optimizer.{change}"
    for player in ("generator", "discriminator")
    for change in ("name=sgd", "options={}", "learning_rate=0.05")
)
ONE_WAY = ("losses.adversarial.form=hinge", "losses.structure=5", "losses.structure.floor=0.75", "ema_decay=0.98")
FORWARD = "forward"
# Even smaller than small: these tests compile much and run little.
_RESNET = ("generator.blocks=0", "generator.scales=1", "discriminator.layers=1")
TINY = {
    "style_image": _RESNET,
    "cyclegan": _RESNET,
    "pix2pix": ("generator.depth=2", "discriminator.layers=1"),
}


def _build(name: str, *changes: str, paired: bool = False, repeats: int = 1):
    cfg = conftest.small(name, *TINY[name], *changes)
    recipe = Recipe(cfg, paired=paired)
    one = jax.devices()[:1]
    return recipe, parallel.build(recipe, batch_size=2, repeats=repeats, devices=one)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return {key: rng.random((2, 32, 32, 3), np.float32) for key in ("source", "target")}


@pytest.fixture(scope="module")
def one_way():
    """A hinge game and structure below a floor, with SGD, compiled."""
    return _build("style_image", *ONE_WAY, *SGD)


@pytest.fixture(scope="module")
def after(one_way, pictures):
    """A state as NumPy before and after a step, and the metrics."""
    _, trainer = one_way
    train_state = trainer.create(3)
    before = _held(train_state)
    train_state, metrics = trainer.step(train_state, trainer.put(pictures))
    return before, _held(train_state), {k: float(v) for k, v in metrics.items()}


def _held(train_state: state.TrainState) -> state.TrainState:
    """A copy in NumPy, which survives donation and compiles nothing."""
    return jax.tree.map(np.array, train_state.replace(key=jax.random.key_data(train_state.key)))


def _variables(train_state: state.TrainState):
    """What the running average averages."""
    return {d: {"params": train_state.gen.params[d], **train_state.gen.stats[d]} for d in train_state.ema}


def _close(one, other, rtol=1e-4):
    """Each tree against its largest value."""
    one, other = jax.device_get((one, other))
    largest = max(float(np.max(np.abs(leaf))) for leaf in jax.tree.leaves(other))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * largest)


def test_one_update_is_that_of_explicit_gradients(one_way, after, pictures):
    """Both players' gradients are taken before either moves; hinge game, and structure below its floor."""
    recipe, _ = one_way
    before, new, metrics = after
    x, y = pictures["source"], pictures["target"]
    stats = before.disc.stats[FORWARD]

    def judge(params, images):
        return recipe.discriminator.apply({"params": params, **stats}, images).logits[0]

    def gen_loss(params, disc):
        fake = recipe.generator.apply({"params": params}, x)
        game = jnp.mean(-judge(disc, fake))
        short = jnp.mean(jnp.maximum(0.75 - quality.contrast_structure(fake, x), 0.0))
        return game + 5.0 * short, (fake, game, short)

    def disc_loss(params, fake):
        return jnp.mean(jnp.maximum(0.0, 1.0 - judge(params, y))) + jnp.mean(
            jnp.maximum(0.0, 1.0 + judge(params, fake))
        )

    @jax.jit
    def both(gen, disc):
        (_, (fake, *parts)), g = jax.value_and_grad(gen_loss, has_aux=True)(gen, disc)
        loss, d = jax.value_and_grad(disc_loss)(disc, fake)
        return g, d, (*parts, loss)

    gen, disc = before.gen.params[FORWARD], before.disc.params[FORWARD]
    g, d, losses = jax.device_get(both(gen, disc))
    game, short, loss = map(float, losses)
    _close(new.gen.params[FORWARD], jax.tree.map(lambda p, s: p - 0.05 * s, gen, g))
    _close(new.disc.params[FORWARD], jax.tree.map(lambda p, s: p - 0.05 * s, disc, d))
    # The update itself, not only what is left of it beside the parameters.
    moved = jax.tree.map(lambda a, b: (b - a) / 0.05, new.gen.params[FORWARD], gen)
    _close(moved, g, rtol=1e-3)
    moved = jax.tree.map(lambda a, b: (b - a) / 0.05, new.disc.params[FORWARD], disc)
    _close(moved, d, rtol=1e-3)
    assert metrics["loss/adversarial"] == pytest.approx(game, rel=1e-4, abs=1e-6)
    assert metrics["loss/structure"] == pytest.approx(short, rel=1e-4, abs=1e-6)
    assert metrics["loss/generator"] == pytest.approx(game + 5.0 * short, rel=1e-4, abs=1e-6)
    assert metrics["loss/discriminator"] == pytest.approx(loss, rel=1e-4)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(d)))
    assert metrics["gradient_norm/discriminator"] == pytest.approx(norm, rel=1e-3)


def test_what_else_a_step_changes(after):
    before, new, metrics = after
    assert (int(before.step), int(new.step)) == (0, 1)
    # At step 0 the running average holds on to a tenth: min(decay, 1 / 10).
    average = jax.tree.map(lambda old, p: 0.1 * old + 0.9 * p, before.ema, _variables(new))
    _close(new.ema, average, rtol=1e-6)
    np.testing.assert_array_equal(new.key, before.key)
    assert not all(map(np.array_equal, *map(jax.tree.leaves, (before.disc.stats, new.disc.stats))))
    assert metrics["learning_rate/generator"] == pytest.approx(0.05)
    assert metrics["finite"] == 1.0
    assert new.pool == {} and set(new.multipliers) == {"structure"}
    assert set(metrics) == {
        "loss/adversarial",
        "loss/adversarial_discriminator",
        "loss/structure",
        "loss/generator",
        "loss/discriminator",
        "weight/structure",
        "learning_rate/generator",
        "learning_rate/discriminator",
        "gradient_norm/generator",
        "gradient_norm/discriminator",
        "without_gradient/generator",
        "without_gradient/discriminator",
        "finite",
    }


def test_kernels_without_a_gradient_are_counted(pictures):
    _, trainer = _build("style_image", *SGD, "generator.norm=none")
    alive, dead = trainer.create(3), trainer.create(3)
    params = dead.gen.params[FORWARD]
    up = {**params["UpConv_0"], "bias": params["UpConv_0"]["bias"] - 1000.0}
    dead = dead.replace(gen=dead.gen.replace(params={FORWARD: {**params, "UpConv_0": up}}))
    shares = []
    for train_state in (alive, dead):
        first, metrics = trainer.step(train_state, trainer.put(pictures))
        after = trainer.step(first, trainer.put(pictures))[1]
        shares.append([float(m["without_gradient/generator"]) for m in (metrics, after)])
        assert after["gradient_norm/generator"] > 0.0 and after["without_gradient/discriminator"] == 0.0
    # Of four, at first all but the last, whose zeros let nothing through. Of the dead one only biases learn, for ever.
    assert shares == [[0.75, 0.0], [1.0, 1.0]]


def test_the_running_average_holds_no_more_than_its_decay(one_way, pictures):
    _, trainer = one_way
    train_state = trainer.create(0)
    before = _held(train_state)
    train_state = train_state.replace(step=jax.device_put(np.int32(90_000), train_state.step.sharding))
    new = _held(trainer.step(train_state, trainer.put(pictures))[0])
    average = jax.tree.map(lambda old, p: 0.98 * old + 0.02 * p, before.ema, _variables(new))
    _close(new.ema, average, rtol=1e-6)


def test_multipliers_change_weights_without_a_new_trace(one_way, pictures):
    _, trainer = one_way
    seen = {}
    for multiplier in (1.0, 3.0):
        train_state = trainer.create(0)
        train_state = train_state.replace(
            multipliers={"structure": jnp.full_like(train_state.multipliers["structure"], multiplier)}
        )
        new, metrics = trainer.step(train_state, trainer.put({**pictures, "source": pictures["target"]}))
        seen[multiplier] = metrics
        assert new.multipliers["structure"] == multiplier
    assert [float(m["weight/structure"]) for m in seen.values()] == [5.0, 15.0]
    for metrics in seen.values():
        expected = metrics["loss/adversarial"] + metrics["weight/structure"] * metrics["loss/structure"]
        np.testing.assert_allclose(metrics["loss/generator"], expected, rtol=1e-5, atol=1e-6)
    assert trainer.traces == 1


def test_nothing_finite_hides(one_way, pictures):
    _, trainer = one_way
    bad = {**pictures, "target": np.full_like(pictures["target"], np.nan)}
    _, metrics = trainer.step(trainer.create(0), trainer.put(bad))
    assert not metrics["finite"]


def test_steps_in_one_dispatch_are_the_same_steps(one_way, pictures):
    _, trainer = one_way
    _, repeated = _build("style_image", *ONE_WAY, *SGD, repeats=2)
    batches = [pictures, {key: value[:, ::-1].copy() for key, value in pictures.items()}]
    train_state, said = trainer.create(0), []
    for batch in batches:
        train_state, metrics = trainer.step(train_state, trainer.put(batch))
        said.append(metrics)
    stacked = {key: np.stack([batch[key] for batch in batches]) for key in pictures}
    new, metrics = repeated.step(repeated.create(0), repeated.put(stacked))
    assert int(new.step) == 2 and repeated.traces == 1
    for part in (lambda s: s.gen.params, lambda s: s.disc.params, lambda s: s.disc.stats, lambda s: s.ema):
        _close(part(new), part(train_state), rtol=1e-5)
    for name in said[0]:
        mean = (float(said[0][name]) + float(said[1][name])) / 2
        assert float(metrics[name]) == pytest.approx(mean, rel=1e-4, abs=1e-5), name


@pytest.fixture(scope="module")
def four():
    rng = np.random.default_rng(1)
    return {key: rng.random((4, 32, 32, 3), np.float32) for key in ("source", "target")}


@pytest.mark.slow  # five compiled steps
@pytest.mark.parametrize(
    ("change", "tolerance"),
    [("accumulate=2", 1e-5), ("accumulate=4", 1e-5), ("remat=blocks", 1e-6), ("remat=all", 1e-6)],
)
def test_less_memory_is_the_same_step(four, whole, change, tolerance):
    """Gradients of parts add up to those of the batch, pool and gradient penalty included; and recomputing changes
    nothing."""
    reference, bytes_whole = whole
    actual, bytes_needed = _two_steps(four, change)
    for part in (lambda s: s.gen.params, lambda s: s.disc.params, lambda s: s.disc.stats, lambda s: s.ema):
        _close(part(actual), part(reference), rtol=tolerance)
    _close([p.pictures for p in actual.pool.values()], [p.pictures for p in reference.pool.values()], rtol=tolerance)
    # What is recomputed takes no less on CPU, whose compiler keeps all in the end.
    assert bytes_needed < 0.95 * bytes_whole or change.startswith("remat")


@pytest.mark.parametrize(("remat", "loops"), [("none", True), ("blocks", False), ("all", False)])
def test_blocks_are_no_loop_where_they_are_recomputed(remat, loops):
    """A loop keeps the activations of all blocks while it is recomputed."""
    size = ("generator.blocks=2", "image_size=64", "preprocess.load_size=64", "batch_size=4", "pool_size=0")
    recipe = Recipe(conftest.small("cyclegan", *size, f"remat={remat}"), paired=False)
    assert ("scan[" in str(jax.make_jaxpr(step.build(recipe))(*step.abstract_arguments(recipe)))) == loops


@pytest.fixture(scope="module")
def whole(four):
    return _two_steps(four)


def _two_steps(batch, *changes: str):
    """The state after two steps, and the bytes that the step needs besides what goes in and out."""
    game = ("losses.adversarial.form=wgan_gp", "losses.style=0.1", "losses.style.layers=('relu1_1',)")
    heads = ("losses.patch_nce=0.1", "losses.patch_nce.width=8", "pool_size=3", "batch_size=4", "generator.blocks=2")
    cfg = conftest.small("style_image", *TINY["style_image"], *game, *heads, *SGD, *changes)
    recipe = Recipe(cfg, paired=False)
    trainer = parallel.build(recipe, batch_size=4, devices=jax.devices()[:1])
    train_state = trainer.create(0)
    lowered = jax.jit(step.build(recipe)).lower(train_state, trainer.put(batch), recipe.frozen)
    needed = lowered.compile().memory_analysis().temp_size_in_bytes
    for _ in range(2):
        train_state, _ = trainer.step(train_state, trainer.put(batch))
    return train_state, needed


def test_two_directions(pictures):
    """Every metric has its backward twin, G'(G(x)) is compared with x, and each direction has a pool."""
    recipe, trainer = _build("cyclegan", *SGD, "pool_size=3")
    assert recipe.directions == ("forward", "backward")
    train_state = trainer.create(0)
    params = _held(train_state).gen.params
    new, metrics = trainer.step(train_state, trainer.put(pictures))
    losses = {name for name in metrics if name.startswith("loss/")}
    terms = {"adversarial", "adversarial_discriminator", "cycle", "identity"}
    assert losses == {f"loss/{t}{b}" for t in terms for b in ("", "_backward")} | {
        "loss/generator",
        "loss/discriminator",
    }

    @jax.jit
    def generate(params, images):
        return recipe.generator.apply({"params": params}, images)

    x, y = pictures["source"], pictures["target"]
    there, back = params["forward"], params["backward"]
    fakes = {"forward": generate(there, x), "backward": generate(back, y)}
    expected = {
        "loss/cycle": np.abs(generate(back, fakes["forward"]) - x).mean(),
        "loss/cycle_backward": np.abs(generate(there, fakes["backward"]) - y).mean(),
        "loss/identity": np.abs(generate(there, y) - y).mean(),
        "loss/identity_backward": np.abs(generate(back, x) - x).mean(),
    }
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value, rel=1e-4), name
    sums = {
        b: sum(w * float(metrics[f"loss/{t}{b}"]) for t, w in (("adversarial", 1), ("cycle", 10), ("identity", 5)))
        for b in ("", "_backward")
    }
    assert float(metrics["loss/generator"]) == pytest.approx(sum(sums.values()), rel=1e-4)
    # The pools were filled with the fakes of this step; the next one fills them up.
    for direction, fake in fakes.items():
        assert int(new.pool[direction].count) == 2
        np.testing.assert_allclose(new.pool[direction].pictures[:2], fake, atol=1e-5)
        np.testing.assert_array_equal(new.pool[direction].pictures[2], 0.0)
    new, _ = trainer.step(new, trainer.put(pictures))
    assert {int(p.count) for p in new.pool.values()} == {3} and trainer.traces == 1


def test_pairs_with_a_conditional_discriminator(pictures):
    recipe, trainer = _build("pix2pix", *SGD, paired=True)
    train_state = trainer.create(0)
    before = _held(train_state)
    kernels = {leaf.shape[2] for leaf in jax.tree.leaves(train_state.disc.params) if leaf.ndim == 4}
    assert kernels == {6, 8, 16}
    _, metrics = trainer.step(train_state, trainer.put(pictures))
    fake = jax.jit(recipe.generator.apply)({"params": before.gen.params[FORWARD]}, pictures["source"])
    l1 = np.abs(fake - pictures["target"]).mean()
    assert float(metrics["loss/l1"]) == pytest.approx(l1, rel=1e-4)
    judged = {}
    for name, picture in (("real", pictures["target"]), ("fake", fake)):
        seen = np.concatenate([pictures["source"], picture], axis=-1)
        apply = jax.jit(recipe.discriminator.apply)
        judged[name] = np.asarray(apply({"params": before.disc.params[FORWARD]}, seen).logits[0])
    bce = np.mean(np.log1p(np.exp(-judged["real"]))) + np.mean(np.log1p(np.exp(judged["fake"])))
    assert float(metrics["loss/discriminator"]) == pytest.approx(bce, rel=1e-4)
    game = np.mean(np.log1p(np.exp(-judged["fake"])))
    assert float(metrics["loss/generator"]) == pytest.approx(game + 100.0 * l1, rel=1e-4)


@pytest.fixture
def by_features():
    """A game on features of VGG-16 beside a content loss on the same network, with SGD."""
    shrink = ("discriminator=projected", "discriminator.filters=4", "generator.filters=4", "losses.structure=off")
    shrink += ("generator_optimizer.schedule=constant", "generator_optimizer.warmup_steps=0")
    return conftest.small("photo2painting", *_RESNET[:2], *shrink, "losses.style=off", "losses.patch_nce=off", *SGD)


@pytest.mark.slow
def test_a_game_on_features_is_that_of_explicit_gradients(by_features, pictures):
    recipe = Recipe(by_features, paired=False)
    trainer = parallel.build(recipe, batch_size=2, repeats=1, devices=jax.devices()[:1])
    train_state = trainer.create(0)
    before = _held(train_state)
    new, metrics = trainer.step(train_state, trainer.put(pictures))
    x, y = pictures["source"], pictures["target"]
    vgg, weights = recipe.features["vgg16"], {"params": recipe.frozen["vgg16"]}
    disc = before.disc.params[FORWARD]

    def judge(params, picture):
        seen = vgg.apply(weights, picture, layers=recipe.discriminator.wants[1])
        variables = {"params": params, **before.disc.stats[FORWARD]}
        return recipe.discriminator.apply(variables, picture, features=seen).logits

    def mean(logits):
        return sum(map(jnp.mean, logits)) / len(logits)

    def gen_loss(params):
        fake = recipe.generator.apply({"params": params}, x)
        content = (_normal(vgg, weights, fake) - _normal(vgg, weights, x)).__abs__().mean()
        return 0.1 * content - mean(judge(disc, fake))

    def disc_loss(params):
        fake = recipe.generator.apply({"params": before.gen.params[FORWARD]}, x)
        real, fake = judge(params, y), judge(params, fake)
        return mean([jax.nn.relu(1.0 - r) for r in real]) + mean([jax.nn.relu(1.0 + f) for f in fake])

    for player, loss, after in (("gen", gen_loss, new.gen), ("disc", disc_loss, new.disc)):
        held = getattr(before, player).params[FORWARD]
        value, grads = jax.jit(jax.value_and_grad(loss))(held)
        name = {"gen": "generator", "disc": "discriminator"}[player]
        assert float(metrics[f"loss/{name}"]) == pytest.approx(float(value), rel=1e-4)
        _close(after.params[FORWARD], jax.tree.map(lambda p, g: p - 0.05 * g, held, grads))


def _normal(vgg, weights, picture):
    of = vgg.apply(weights, picture, layers=("relu3_1",))["relu3_1"]
    return (of - of.mean((1, 2), keepdims=True)) / jnp.sqrt(of.var((1, 2), keepdims=True) + 1e-5)


@pytest.mark.parametrize(("pool", "seen"), [(0, 3), (4, 4)])
def test_a_feature_network_sees_each_picture_once(by_features, pool, seen, monkeypatch):
    """Source, target and fake, whoever looks at them; and what a pool gives in the fake's place."""
    recipe = Recipe(overrides.override(by_features, [f"pool_size={pool}"]), paired=False)
    calls = []
    vgg = type(recipe.features["vgg16"])
    apply = vgg.apply
    monkeypatch.setattr(vgg, "apply", lambda self, *args, **kwargs: calls.append(1) or apply(self, *args, **kwargs))
    train_state = jax.eval_shape(functools.partial(state.create, recipe), jax.random.key(0))
    shape = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    del calls[:]
    jax.eval_shape(step.build(recipe), train_state, {"source": shape, "target": shape}, recipe.frozen)
    assert len(calls) == seen


def test_without_a_game_there_is_no_discriminator_and_the_loss_falls(pictures):
    changes = ("losses.adversarial=off", "conditional=false", "pool_size=4")
    recipe, trainer = _build("pix2pix", *changes, "generator_optimizer.learning_rate=2e-3", paired=True)
    train_state = trainer.create(0)
    assert not recipe.adversarial
    assert train_state.disc.params == {} and train_state.disc.stats == {} and train_state.pool == {}
    batch, losses = trainer.put(pictures), []
    for _ in range(20):
        train_state, metrics = trainer.step(train_state, batch)
        losses.append(float(metrics["loss/l1"]))
    assert not any("discriminator" in name for name in metrics)
    assert losses[-1] < 0.9 * losses[0] and trainer.traces == 1


def test_frozen_parameters_are_no_part_of_the_state():
    """They enter as an argument: the state has none of their 1.7 million numbers, nor has the program."""
    cfg = conftest.small("photo2painting", "discriminator=projected", "discriminator.filters=4", "generator.filters=4")
    recipe = Recipe(cfg, paired=False)
    assert set(recipe.frozen) == {"vgg16"}
    train_state, _ = summary.trace(recipe)
    assert summary.state_bytes(train_state) < 2**22
    shape = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    batch = {"source": shape, "target": shape}
    lowered = jax.jit(step.build(recipe)).lower(train_state, batch, recipe.frozen)
    constants = [line for line in lowered.as_text().splitlines() if "stablehlo.constant" in line]
    assert max(map(len, constants)) < 10_000


@pytest.mark.slow  # two compiled steps
def test_training_does_not_see_colours(batch):
    """Pictures of the same brightness and other colours give the same step."""
    recipe = Recipe(conftest.small("style_image", "keep_colors=True", "batch_size=8"), paired=False)
    trainer = parallel.build(recipe, batch_size=8, devices=jax.devices()[:1])
    soft = {key: 0.25 + 0.5 * x for key, x in batch.items()}
    shift = np.float32([0.587, -0.299, 0.0]) * 0.1  # has no luma: 0.299 * 0.587 - 0.587 * 0.299
    other = {key: (x + shift).astype(np.float32) for key, x in soft.items()}
    one, two = (trainer.step(trainer.create(0), trainer.put(b))[1] for b in (soft, other))
    for name, value in one.items():
        assert float(two[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-4), name
