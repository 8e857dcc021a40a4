"""Terms that keep a translation true to its source or to its paired target, pixel by pixel."""

import jax
import jax.numpy as jnp

from gqst.losses import base


@base.term("cycle", needs=("cycled",))
def cycle(context: base.Context) -> jax.Array:
    """Mean absolute error of G'(G(x)) against x, f32[b] (Zhu et al. 2017, equation 2).

    Its presence in a config brings the second generator and discriminator, and trains both directions.
    """
    assert context.cycled is not None
    return base.mean_per_picture(jnp.abs(context.cycled - context.source))


@base.term("identity", needs=("identity",))
def identity(context: base.Context) -> jax.Array:
    """Mean absolute error of G(y) against y, f32[b] (Zhu et al. 2017, section 5.2)."""
    assert context.identity is not None
    return base.mean_per_picture(jnp.abs(context.identity - context.target))


@base.term("l1", needs=("paired",))
def l1(context: base.Context) -> jax.Array:
    """Mean absolute error of fakes against their paired targets, f32[b] (Isola et al. 2017, equation 3)."""
    return base.mean_per_picture(jnp.abs(context.fake - context.target))


@base.term("total_variation")
def total_variation(context: base.Context) -> jax.Array:
    """Mean absolute difference of neighbouring pixels of the fakes, f32[b] (Rudin et al. 1992)."""
    down = jnp.abs(jnp.diff(context.fake, axis=1))
    right = jnp.abs(jnp.diff(context.fake, axis=2))
    return base.mean_per_picture(down) + base.mean_per_picture(right)
