"""The game between generator and discriminator, and penalties on the discriminator."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gqst.losses import base

Form = Literal["bce", "lsgan", "hinge", "wgan_gp"]


class _Game(NamedTuple):
    """Losses of single logits.

    Attributes:
      generator: The generator's loss of a fake's logit.
      real: The discriminator's loss of a target's logit.
      fake: The discriminator's loss of a fake's logit.
    """

    generator: Callable[[jax.Array], jax.Array]
    real: Callable[[jax.Array], jax.Array]
    fake: Callable[[jax.Array], jax.Array]


_GAMES: dict[Form, _Game] = {
    # Goodfellow et al. 2014, the non-saturating game.
    "bce": _Game(
        generator=lambda logit: jax.nn.softplus(-logit),
        real=lambda logit: jax.nn.softplus(-logit),
        fake=lambda logit: jax.nn.softplus(logit),
    ),
    # Mao et al. 2017; the discriminator's loss is halved, as in CycleGAN.
    "lsgan": _Game(
        generator=lambda logit: (logit - 1.0) ** 2,
        real=lambda logit: 0.5 * (logit - 1.0) ** 2,
        fake=lambda logit: 0.5 * logit**2,
    ),
    # Lim and Ye 2017.
    "hinge": _Game(
        generator=lambda logit: -logit,
        real=lambda logit: jax.nn.relu(1.0 - logit),
        fake=lambda logit: jax.nn.relu(1.0 + logit),
    ),
    # Arjovsky et al. 2017; AdversarialDiscriminator adds the penalty.
    "wgan_gp": _Game(
        generator=lambda logit: -logit,
        real=lambda logit: -logit,
        fake=lambda logit: logit,
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Side(base.Term):
    """Options that both players of a game share."""

    form: Form = "bce"
    penalty: float = 10.0

    needs = frozenset({"logits"})


@base.TERMS.register("adversarial")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversarial(_Side):
    """The generator's side of the adversarial game, the part L_adv of the objective.

    It is f32[b]: at least 0 for bce and lsgan, unbounded for hinge and wgan_gp. The discriminator's side,
    `AdversarialDiscriminator` with the same options, comes with it.

    Attributes:
      form: `bce` (non-saturating; Goodfellow et al. 2014), `lsgan` (Mao et al. 2017), `hinge` (Lim and Ye 2017) or
        `wgan_gp` (Gulrajani et al. 2017).
      penalty: Weight of the gradient penalty of wgan_gp, on the discriminator's side.
    """

    @property
    def opponent(self) -> "AdversarialDiscriminator":
        """The discriminator's side of the same game."""
        return AdversarialDiscriminator(form=self.form, penalty=self.penalty)

    def __call__(self, context: base.Context) -> Float[Array, "b"]:
        """Returns the loss of each picture; reads `logits`."""
        assert context.logits is not None
        return _over_scales(_GAMES[self.form].generator, context.logits.fake)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdversarialDiscriminator(_Side):
    """The discriminator's side of `Adversarial`, f32[b]: unbounded for wgan_gp, else at least 0.

    Attributes:
      form: Form of the game, as in `Adversarial`.
      penalty: Weight of the gradient penalty of wgan_gp (Gulrajani et al. 2017, equation 3).
    """

    player = "discriminator"

    def __call__(self, context: base.Context) -> Float[Array, "b"]:
        """Returns the loss of each picture; reads `logits`, and for wgan_gp the pictures, `keys` and `score`."""
        assert context.logits is not None and context.logits.real is not None
        game = _GAMES[self.form]
        loss = _over_scales(game.real, context.logits.real) + _over_scales(game.fake, context.logits.fake)
        if self.form == "wgan_gp":
            assert context.keys is not None
            share = jax.vmap(jax.random.uniform)(context.keys)[:, None, None, None]
            between = share * context.target + (1.0 - share) * context.fake
            slope = jnp.sqrt(_squared_slope(context, between) + 1e-12)
            loss = loss + self.penalty * (slope - 1.0) ** 2
        return loss


@base.TERMS.register("r1")
@dataclasses.dataclass(frozen=True, kw_only=True)
class R1(base.Term):
    """Half the squared slope of the discriminator at the targets, f32[b], at least 0.

    The penalty R1 of Mescheder et al. 2018, equation 9, where gamma is the weight.
    """

    player = "discriminator"

    def __call__(self, context: base.Context) -> Float[Array, "b"]:
        """Returns the loss of each picture; reads `target` and `score`."""
        return 0.5 * _squared_slope(context, context.target)


def _over_scales(loss: Callable[[jax.Array], jax.Array], logits: tuple[jax.Array, ...]) -> jax.Array:
    """Returns the mean loss over positions, then over scales, f32[b]."""
    return sum((base.mean_per_picture(loss(scale)) for scale in logits), jnp.zeros(())) / len(logits)


def _squared_slope(context: base.Context, pictures: jax.Array) -> jax.Array:
    """Returns the squared norm of the gradient of D's mean logit by each picture, f32[b]."""
    score = context.score
    assert score is not None
    gradient = jax.grad(lambda x: jnp.sum(_over_scales(lambda logit: logit, score(x))))(pictures)
    return jnp.sum(gradient**2, axis=(1, 2, 3))
