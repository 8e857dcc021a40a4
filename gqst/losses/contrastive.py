"""Contrast between patches of a translation and of its source (CUT, Park et al. 2020)."""

from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import pydantic
from flax import linen as nn

from gqst.losses import base

Samples = Mapping[str, jax.Array]
Pair = Literal["fake_source", "identity_target"]


class Projection(nn.Module, kw_only=True):
    """Two dense layers for each encoder layer, to vectors of unit length.

    Attributes:
      width: of the vectors.
    """

    width: int

    @nn.compact
    def __call__(self, samples: Samples) -> dict[str, jax.Array]:
        """f32[b n width] for each f32[b n c]."""
        made = {}
        for layer, x in samples.items():
            x = nn.relu(nn.Dense(self.width, name=f"{layer}_hidden")(x.astype(jnp.float32)))
            x = nn.Dense(self.width, name=f"{layer}_out")(x)
            made[layer] = x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-7)
        return made


def _needs(*, pair: Pair = "fake_source", **_: object) -> tuple[base.Need, ...]:
    return ("identity",) if pair == "identity_target" else ()


def _encodes(
    *, pair: Pair = "fake_source", layers: tuple[str, ...] = (), **_: object
) -> tuple[tuple[base.Picture, ...], tuple[str, ...]]:
    picture, reference = pair.split("_")
    return (picture, reference), layers  # type: ignore[return-value]


def _head(*, width: int = 256, **_: object) -> nn.Module:
    return Projection(width=width)


@base.term("patch_nce", needs=_needs, encodes=_encodes, head=_head)
def patch_nce(
    context: base.Context,
    project: Callable[[Samples], dict[str, jax.Array]],
    *,
    pair: Pair = "fake_source",
    layers: tuple[str, ...] = (),
    patches: pydantic.PositiveInt = 256,
    temperature: pydantic.PositiveFloat = 0.07,
    width: pydantic.PositiveInt = 256,
) -> jax.Array:
    """Cross-entropy of finding each patch of a picture among patches of its source, f32[b].

    Park et al. 2020, equation 3: patches are the activations of the generator's own encoder at random
    positions, projected; the other patches of the same picture are the wrong answers. The gradient goes
    through the translation only. Where all patches are alike it is log(patches).

    Args:
      context: with encoded pictures.
      project: the head, trained with the generator.
      pair: (fake, source), or (identity, target), which keeps pictures of the style domain as they are.
      layers: the generator's layers that are compared; none given takes those that it names itself.
      patches: how many positions of each layer, at most.
      temperature: of the softmax.
      width: of the projected vectors.
    """
    del layers, width
    name, other = pair.split("_")
    picture, reference = context.encoded[name], context.encoded[other]
    taken, wanted = {}, {}
    for number, layer in enumerate(picture):
        count = picture[layer].shape[1] * picture[layer].shape[2]
        keys = jax.vmap(lambda key, n=number: jax.random.fold_in(key, n))(context.keys)
        places = jax.vmap(lambda key, n=count: jax.random.permutation(key, n)[:patches])(keys)
        taken[layer] = _at(picture[layer], places)
        wanted[layer] = jax.lax.stop_gradient(_at(reference[layer], places))
    queries, answers = project(taken), jax.lax.stop_gradient(project(wanted))
    losses = []
    for layer, query in queries.items():
        alike = jnp.einsum("bic,bjc->bij", query, answers[layer]) / temperature
        right = jnp.diagonal(alike, axis1=1, axis2=2)
        losses.append(jnp.mean(jax.nn.logsumexp(alike, axis=-1) - right, axis=-1))
    return jnp.mean(jnp.stack(losses), axis=0)


def _at(x: jax.Array, places: jax.Array) -> jax.Array:
    """The activations f32[b n c] at flat positions i32[b n]."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    return jnp.take_along_axis(flat, places[..., None], axis=1)
