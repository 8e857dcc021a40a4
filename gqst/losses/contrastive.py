"""Contrast between patches of a translation and of its source (CUT, Park et al. 2020)."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import pydantic
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.losses import base

Pair = Literal["fake_source", "identity_target"]

_NAME = "patch_nce"
_PICTURES: dict[Pair, tuple[base.Picture, ...]] = {
    "fake_source": ("fake", "source"),
    "identity_target": ("identity", "target"),
}


class Projection(nn.Module, kw_only=True):
    """Two dense layers for each encoder layer, to vectors of unit length.

    Attributes:
      width: Length of the vectors.
    """

    width: int

    @nn.compact
    def __call__(self, samples: Mapping[str, Float[Array, "b n c"]]) -> dict[str, Float[Array, "b n width"]]:
        """Returns f32[b n width] for each f32[b n c]."""
        projected = {}
        for layer, x in samples.items():
            x = nn.relu(nn.Dense(self.width, name=f"{layer}_hidden")(x.astype(jnp.float32)))
            x = nn.Dense(self.width, name=f"{layer}_out")(x)
            projected[layer] = x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-7)
        return projected


@base.TERMS.register(_NAME)
@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchNCE(base.Term):
    """Cross-entropy of finding each patch of a picture among the patches of its source.

    It is f32[b], at least 0, and log(patches) if all patches look alike. Patches are the activations of the
    generator's own encoder at random positions, projected by the head; the other patches of the same picture are the
    negatives. Gradients flow through the translation only. Park et al. 2020, equation 3.

    Attributes:
      pair: Picture and its reference: `fake_source`, or `identity_target`, which keeps pictures of the style domain as
        they are.
      layers: Layers of the generator that are compared; if empty, those that the generator itself proposes.
      patches: Largest number of positions taken from each layer.
      temperature: Temperature of the softmax.
      width: Length of the projected vectors.
    """

    pair: Pair = "fake_source"
    layers: tuple[str, ...] = ()
    patches: pydantic.PositiveInt = 256
    temperature: pydantic.PositiveFloat = 0.07
    width: pydantic.PositiveInt = 256

    @property
    def needs(self) -> frozenset[base.Need]:
        """G(target), if the pair has it."""
        return frozenset({"identity"}) if self.pair == "identity_target" else frozenset()

    @property
    def encoder(self) -> base.EncoderSpec:
        """Both pictures of the pair."""
        return base.EncoderSpec(_PICTURES[self.pair], self.layers)

    @property
    def head(self) -> Projection:
        """The projection of patches."""
        return Projection(width=self.width)

    def __call__(self, context: base.Context) -> Float[Array, "b"]:
        """Returns the loss of each picture; reads `encoded`, `heads["patch_nce"]` and `keys`."""
        assert context.keys is not None
        project: Any = functools.partial(self.head.apply, {"params": context.heads[_NAME]})
        picture, reference = (context.encoded[name] for name in _PICTURES[self.pair])
        samples, references = {}, {}
        for number, layer in enumerate(picture):
            count = picture[layer].shape[1] * picture[layer].shape[2]
            keys = jax.vmap(lambda key, n=number: jax.random.fold_in(key, n))(context.keys)
            positions = jax.vmap(lambda key, n=count: jax.random.permutation(key, n)[: self.patches])(keys)
            samples[layer] = _at(picture[layer], positions)
            references[layer] = jax.lax.stop_gradient(_at(reference[layer], positions))
        queries, matches = project(samples), jax.lax.stop_gradient(project(references))
        losses = []
        for layer, query in queries.items():
            similarity = jnp.einsum("bic,bjc->bij", query, matches[layer]) / self.temperature
            positive = jnp.diagonal(similarity, axis1=1, axis2=2)
            losses.append(jnp.mean(jax.nn.logsumexp(similarity, axis=-1) - positive, axis=-1))
        return jnp.mean(jnp.stack(losses), axis=0)


def _at(x: jax.Array, positions: jax.Array) -> jax.Array:
    """Returns the activations f32[b n c] at flat positions i32[b n]."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    return jnp.take_along_axis(flat, positions[..., None], axis=1)
