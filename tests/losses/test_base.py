"""The objective: building it, weighing, averaging, naming."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gqst import config, overrides, types
from gqst.losses import base
from gqst.training.recipe import directions


@pytest.fixture
def context() -> base.Context:
    rng = np.random.default_rng(0)
    source, target, fake, cycled = rng.random((4, 3, 16, 16, 3), np.float32)
    logits = base.Logits(fake=(rng.normal(size=(3, 2, 2, 1)).astype(np.float32),))
    keys = jax.random.split(jax.random.key(0), 3)
    return base.Context(source=source, target=target, fake=fake, cycled=cycled, identity=fake, logits=logits, keys=keys)


def _build(paired: bool = False, **losses):
    return base.build(losses, paired=paired)


def _total(objective, context, step=0, player="generator", **multipliers):
    return base.total(
        objective,
        context,
        player=player,
        step=jnp.asarray(step),
        multipliers={k: jnp.asarray(v) for k, v in multipliers.items()},
    )


def test_total_weighs_the_means_over_the_batch(context):
    objective = _build(
        cycle=config.loss(10.0),
        again=config.loss(((0, 0.0), (10, 4.0)), term="cycle"),
        total_variation=config.loss(0.5),
    )
    loss, metrics = _total(objective, context, step=5)
    cycle = np.abs(context.cycled - context.source).mean()
    smooth = np.abs(np.diff(context.fake, axis=1)).mean() + np.abs(np.diff(context.fake, axis=2)).mean()
    assert set(metrics) == {"loss/cycle", "loss/again", "loss/total_variation"}
    np.testing.assert_allclose(metrics["loss/cycle"], cycle, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/again"], cycle, rtol=1e-5)  # unweighted
    np.testing.assert_allclose(metrics["loss/total_variation"], smooth, rtol=1e-5)
    np.testing.assert_allclose(loss, 10.0 * cycle + 2.0 * cycle + 0.5 * smooth, rtol=1e-5)


def test_multipliers_scale_steered_terms(context):
    structure = config.loss(4.0, term="quality", metric="contrast_structure", pair="fake_source")
    objective = _build(structure=structure, total_variation=config.loss(1.0))
    assert base.steered(objective) == ("structure",)
    losses = {}
    for multiplier in (0.0, 1.0, 2.5):
        losses[multiplier], metrics = _total(objective, context, structure=multiplier)
        assert metrics["weight/structure"] == 4.0 * multiplier
        assert "weight/total_variation" not in metrics
    difference = metrics["loss/structure"] * 10.0
    np.testing.assert_allclose(losses[2.5] - losses[0.0], difference, rtol=1e-5)


def test_players_are_apart(context):
    objective = _build(adversarial=config.loss(2.0, form="lsgan"), total_variation=config.loss(1.0))
    assert [(e.label, e.term.player) for e in objective] == [
        ("adversarial", "generator"),
        ("adversarial", "discriminator"),
        ("total_variation", "generator"),
    ]
    context = context.replace(logits=context.logits.replace(real=context.logits.fake))
    loss, metrics = _total(objective, context, player="discriminator")
    assert set(metrics) == {"loss/adversarial_discriminator"}
    z = np.asarray(context.logits.fake[0])
    expected = 0.5 * np.mean((z - 1) ** 2) + 0.5 * np.mean(z**2)
    np.testing.assert_allclose(metrics["loss/adversarial_discriminator"], expected, rtol=1e-5)
    np.testing.assert_allclose(loss, 2.0 * expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("step", "weight"), [(0, 1.0), (10, 1.0), (15, 2.0), (20, 3.0), (25, 1.5), (30, 0.0), (9999, 0.0)]
)
def test_knots(step, weight):
    knots = ((10, 1.0), (20, 3.0), (30, 0.0))
    np.testing.assert_allclose(base.schedule(knots, jnp.asarray(step)), weight, rtol=1e-6)
    assert base.schedule(2.5, jnp.asarray(step)) == 2.5
    assert base.schedule(((5, 2.0),), jnp.asarray(step)) == 2.0


def test_what_is_off_is_not_built():
    objective = _build(
        cycle=config.loss(0.0),
        identity=config.loss(((0, 0.0),)),
        adversarial=config.loss(0),
        total_variation=config.loss(1.0),
    )
    assert [e.label for e in objective] == ["total_variation"]
    assert not any(base.needs(objective, need) for need in ("cycled", "identity", "logits"))
    assert directions(objective) == ("forward",)
    assert directions(_build(cycle=config.loss(0.1))) == ("forward", "backward")


def test_needs_follow_the_options():
    def quality(pair):
        return _build(q=config.loss(1.0, term="quality", metric="contrast_structure", pair=pair), paired=True)

    assert base.needs(quality("cycled_source"), "cycled")
    assert base.needs(quality("identity_target"), "identity")
    assert base.needs(quality("fake_target"), "paired")
    assert not any(base.needs(quality("fake_source"), n) for n in ("cycled", "identity", "paired"))


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ({"l1": config.loss(1.0)}, ["loss 'l1'", "needs paired data"]),
        ({"cylce": config.loss(1.0)}, ["unknown loss 'cylce'", "did you mean 'cycle'?"]),
        ({"mine": config.loss(0.0)}, ["unknown loss 'mine'"]),
        ({"cycle": config.loss(1.0, form="l2")}, ["option 'form' of loss 'cycle'", "none"]),
        ({"adversarial": config.loss(1.0, form="gan")}, ["option 'form'", "'gan'", "'wgan_gp'"]),
        ({"adversarial": config.loss(1.0, penalty="x")}, ["option 'penalty'", "'x'"]),
        ({"quality": config.loss(1.0, metric="ssim")}, ["loss 'quality' needs the option 'pair'"]),
        (
            {"q": config.loss(1.0, term="quality", metric="ssim", pair="fake_target")},
            ["loss 'q'", "needs paired data"],
        ),
        (
            {"q": config.loss(1.0, term="quality", metric="ssim", pair="fake_source")},
            ["ssim on fake_source", "use contrast_structure"],
        ),
        (
            {"q": config.loss(1.0, term="quality", metric="psnr", pair="cycled_source", floor=0.5)},
            ["psnr takes no floor"],
        ),
        ({}, ["no term with a weight for the generator"]),
        ({"cycle": config.loss(0.0)}, ["no term with a weight for the generator"]),
        ({"r1": config.loss(1.0)}, ["no term with a weight for the generator"]),
        ({"r1": config.loss(1.0), "cycle": config.loss(1.0)}, ["discriminator", "add `adversarial`"]),
    ],
)
def test_objectives_that_make_no_sense(losses, words):
    with pytest.raises(types.InputError) as caught:
        base.build(losses, paired=False)
    assert all(word in str(caught.value) for word in words), caught.value


def test_narrow_values_are_averaged_wide(context):
    ones = jnp.ones((1, 300, 1), jnp.bfloat16)
    assert base.mean_per_picture(ones).dtype == jnp.float32
    assert base.mean_per_picture(ones)[0] == 1.0


def test_an_objective_from_json_is_the_same():
    """JSON turns tuples into lists; terms are compared and hashed, as where they share a head."""
    cfg = overrides.override(overrides.load("photo2painting"), ["losses.patch_nce.layers=('down1', 'down2')"])
    again = overrides.from_json(overrides.to_json(cfg), origin="config.json")
    objective, restored = (base.build(c.losses, paired=False) for c in (cfg, again))
    assert restored == objective and hash(restored) == hash(objective)


@pytest.mark.parametrize("label", ["generator", "discriminator"])
def test_a_label_is_not_that_of_a_total(label):
    with pytest.raises(types.InputError, match="is the name of a player's total"):
        base.build({label: config.loss(1.0, term="total_variation")}, paired=False)
