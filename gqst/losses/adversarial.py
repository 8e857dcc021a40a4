"""The game between generator and discriminator, and penalties on the discriminator."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from gqst.losses import base

Form = Literal["bce", "lsgan", "hinge", "wgan_gp"]

# By form: the generator's loss of a fake's logit, the discriminator's of a target's, and of a fake's.
_FORMS: dict[str, tuple[Callable[[jax.Array], jax.Array], ...]] = {
    # Goodfellow et al. 2014, the non-saturating game.
    "bce": (
        lambda fake: jax.nn.softplus(-fake),
        lambda real: jax.nn.softplus(-real),
        lambda fake: jax.nn.softplus(fake),
    ),
    # Mao et al. 2017, the discriminator's halved as in CycleGAN.
    "lsgan": (
        lambda fake: (fake - 1.0) ** 2,
        lambda real: 0.5 * (real - 1.0) ** 2,
        lambda fake: 0.5 * fake**2,
    ),
    # Lim and Ye 2017.
    "hinge": (
        lambda fake: -fake,
        lambda real: jax.nn.relu(1.0 - real),
        lambda fake: jax.nn.relu(1.0 + fake),
    ),
    # Arjovsky et al. 2017; the penalty of Gulrajani et al. 2017 is added below.
    "wgan_gp": (lambda fake: -fake, lambda real: -real, lambda fake: fake),
}


def adversarial_discriminator(context: base.Context, *, form: Form = "bce", penalty: float = 10.0) -> jax.Array:
    """The discriminator's side of `adversarial`, f32[b]."""
    assert context.logits is not None and context.logits.real is not None
    _, of_real, of_fake = _FORMS[form]
    loss = _over_scales(of_real, context.logits.real) + _over_scales(of_fake, context.logits.fake)
    if form == "wgan_gp":
        share = jax.vmap(jax.random.uniform)(context.keys)[:, None, None, None]
        between = share * context.target + (1.0 - share) * context.fake
        slope = jnp.sqrt(_squared_slope(context, between) + 1e-12)
        loss = loss + penalty * (slope - 1.0) ** 2
    return loss


@base.term("adversarial", needs=("logits",), opponent=adversarial_discriminator)
def adversarial(context: base.Context, *, form: Form = "bce", penalty: float = 10.0) -> jax.Array:
    """How plainly the discriminator tells the fakes, f32[b]; method.md's L_adv.

    Args:
      context: with logits.
      form: `bce` (non-saturating), `lsgan`, `hinge` or `wgan_gp`.
      penalty: weight of the gradient penalty of `wgan_gp`, on the discriminator's side.
    """
    del penalty
    assert context.logits is not None
    return _over_scales(_FORMS[form][0], context.logits.fake)


@base.term("r1", player="discriminator")
def r1(context: base.Context) -> jax.Array:
    """Half the squared slope of the discriminator at the targets, f32[b] (Mescheder et al. 2018, R1)."""
    return 0.5 * _squared_slope(context, context.target)


def _over_scales(loss: Callable[[jax.Array], jax.Array], logits: tuple[jax.Array, ...]) -> jax.Array:
    return sum((base.mean_per_picture(loss(scale)) for scale in logits), jnp.zeros(())) / len(logits)


def _squared_slope(context: base.Context, pictures: jax.Array) -> jax.Array:
    """The squared norm of the gradient of D's mean logit by each picture, f32[b]."""
    score = context.score
    assert score is not None
    gradient = jax.grad(lambda x: jnp.sum(_over_scales(lambda logit: logit, score(x))))(pictures)
    return jnp.sum(gradient**2, axis=(1, 2, 3))
