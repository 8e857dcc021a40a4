"""The pool of past fakes that the discriminator is shown (Shrivastava et al. 2017, section 2.3)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gqst.training import state


def draw(
    pool: state.Pool, fakes: Float[Array, "b h w c"], keys: jax.Array, *, axis_name: str | None = None
) -> tuple[Float[Array, "b h w c"], state.Pool]:
    """What the discriminator is shown in place of `fakes`, and the pool afterwards.

    While the pool fills, each fake is kept and shown. Then, with probability one half, a fake is shown as
    it is; else it takes the place of a random one of the pool, which is shown.

    Args:
      pool: past fakes, the same on every device.
      fakes: new ones, without gradient.
      keys: a random key for each fake.
      axis_name: of pmap; every device then walks through the fakes of all.
    """
    local = fakes.shape[0]
    if axis_name is not None:
        fakes = jax.lax.all_gather(fakes, axis_name, tiled=True)
        keys = jax.lax.all_gather(keys, axis_name, tiled=True)
    pool, shown = jax.lax.scan(_take_one, pool, (fakes, keys))
    if axis_name is not None:
        shown = jax.lax.dynamic_slice_in_dim(shown, jax.lax.axis_index(axis_name) * local, local)
    return shown, pool


def _take_one(pool: state.Pool, new: tuple[jax.Array, jax.Array]) -> tuple[state.Pool, jax.Array]:
    fake, key = new
    size = pool.pictures.shape[0]
    swap_key, slot_key = jax.random.split(key)
    full = pool.count >= size
    swap = full & jax.random.bernoulli(swap_key)
    slot = jnp.where(full, jax.random.randint(slot_key, (), 0, size), pool.count)
    old = pool.pictures[slot]
    kept = jnp.where(swap | ~full, fake, old)
    pool = pool.replace(pictures=pool.pictures.at[slot].set(kept), count=jnp.minimum(pool.count + 1, size))
    return pool, jnp.where(swap, old, fake)
