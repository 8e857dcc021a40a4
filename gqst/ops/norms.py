"""Normalisation of activations."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

EPSILON = 1e-5
"""Added to variances."""


@jax.custom_vjp
def instance_norm(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Returns x with mean 0 and deviation 1 in each picture and channel (Ulyanov et al. 2016).

    Computed in float32 and returned in the dtype of x.
    """
    return _normalize(x)[0]


def standardize(
    x: Float[Array, "b h w c"], mean: Float[Array, "b 1 1 c"], variance: Float[Array, "b 1 1 c"]
) -> Float[Array, "b h w c"]:
    """Returns x less a mean and over a deviation, computed in float32 and returned in the dtype of x."""
    return ((x.astype(jnp.float32) - mean) * jax.lax.rsqrt(variance + EPSILON)).astype(x.dtype)


def moments(x: Float[Array, "b h w c"]) -> tuple[Float[Array, "b 1 1 c"], Float[Array, "b 1 1 c"]]:
    """Returns mean and variance of each picture and channel, in float32."""
    wide = x.astype(jnp.float32)
    mean = _mean(wide)
    return mean, _mean((wide - mean) ** 2)


@jax.jit
def _normalize(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    wide = x.astype(jnp.float32)
    centred = wide - _mean(wide)
    scale = jax.lax.rsqrt(_mean(centred**2) + EPSILON)
    y = (centred * scale).astype(x.dtype)
    return y, (y, scale)


@jax.jit
def _normalize_gradient(residuals: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array]:
    # The same as automatic differentiation gives, without its pass for the mean of the centred activations, which is 0.
    y, wide = residuals[0].astype(jnp.float32), g.astype(jnp.float32)
    return ((residuals[1] * (wide - _mean(wide) - y * _mean(wide * y))).astype(g.dtype),)


def _mean(x: jax.Array) -> jax.Array:
    """Returns the mean over pixels, f32[b 1 1 c].

    On CPU as a matrix product, because XLA's sums take ten times as long there.
    """

    def product(x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        mean = jax.lax.dot_general(jnp.full(x.shape[:2], 1.0 / x.shape[1]), x, (((1,), (1,)), ((0,), (0,))))
        return mean[:, None, None]

    return jax.lax.platform_dependent(x, cpu=product, default=lambda x: jnp.mean(x, axis=(1, 2), keepdims=True))


instance_norm.defvjp(_normalize, _normalize_gradient)
