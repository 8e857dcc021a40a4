"""Terms that keep a translation true to its source or to its paired target, pixel by pixel."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from gqst.losses import base


@base.TERMS.register("cycle")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Cycle(base.Term):
    """Mean absolute error of G'(G(x)) against x, f32[b] in [0, 1] (Zhu et al. 2017, equation 2).

    A config that has it trains a second generator and discriminator, for both directions of translation.
    """

    needs = frozenset({"cycled"})

    def __call__(self, context: base.Context) -> Float[Array, "b"]:
        """Returns the loss of each picture; reads `cycled` and `source`."""
        assert context.cycled is not None
        return base.mean_per_picture(jnp.abs(context.cycled - context.source))


@base.TERMS.register("identity")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity(base.Term):
    """Mean absolute error of G(y) against y, f32[b] in [0, 1] (Zhu et al. 2017, section 5.2)."""

    needs = frozenset({"identity"})

    def __call__(self, context: base.Context) -> Float[Array, "b"]:
        """Returns the loss of each picture; reads `identity` and `target`."""
        assert context.identity is not None
        return base.mean_per_picture(jnp.abs(context.identity - context.target))


@base.TERMS.register("l1")
@dataclasses.dataclass(frozen=True, kw_only=True)
class L1(base.Term):
    """Mean absolute error of fakes against their paired targets, f32[b] in [0, 1] (Isola et al. 2017, equation 3)."""

    needs = frozenset({"paired"})

    def __call__(self, context: base.Context) -> Float[Array, "b"]:
        """Returns the loss of each picture; reads `fake` and `target`."""
        return base.mean_per_picture(jnp.abs(context.fake - context.target))


@base.TERMS.register("total_variation")
@dataclasses.dataclass(frozen=True, kw_only=True)
class TotalVariation(base.Term):
    """Mean absolute difference between neighbouring pixels of the fakes, f32[b] in [0, 2] (Rudin et al. 1992)."""

    def __call__(self, context: base.Context) -> Float[Array, "b"]:
        """Returns the loss of each picture; reads `fake`."""
        down = jnp.abs(jnp.diff(context.fake, axis=1))
        right = jnp.abs(jnp.diff(context.fake, axis=2))
        return base.mean_per_picture(down) + base.mean_per_picture(right)
