"""Terms in the activations of frozen networks, and of the discriminator."""

from typing import Literal

import jax
import jax.numpy as jnp

from gqst import metrics
from gqst.losses import base

_DISTANCES = {"l1": jnp.abs, "l2": jnp.square}
_HEADS = tuple(f"lin{n}" for n in range(1, 6))
_ALEXNET = tuple(f"relu{n}" for n in range(1, 6))

Layers = tuple[str, ...]
Style = Literal["moments", "gram"]
Distance = Literal["l1", "l2"]
Reference = Literal["source", "target"]


def _content_wants(
    *, network: str = "vgg16", layers: Layers = ("relu3_1",), normalize: bool = False
) -> tuple[base.Want, ...]:
    del normalize
    return tuple(base.Want(network, picture, layers) for picture in ("fake", "source"))


@base.term("content", wants=_content_wants)
def content(
    context: base.Context, *, network: str = "vgg16", layers: Layers = ("relu3_1",), normalize: bool = False
) -> jax.Array:
    """Mean absolute difference of deep features of fakes and sources, f32[b]; method.md's L_cont.

    Gatys et al. 2016, section 2.1, with the paper's L1.

    Args:
      context: with features.
      network: vgg16, or another feature network.
      layers: whose differences are averaged.
      normalize: whether each channel of each picture first gets mean 0 and deviation 1, so that what style
        changes, contrast and colour over the whole picture, costs nothing (Huang and Belongie 2017).
    """
    of = context.features[network]
    total = jnp.zeros(())
    for layer in layers:
        fake, source = (of[picture][layer].astype(jnp.float32) for picture in ("fake", "source"))
        if normalize:
            fake, source = _normalized(fake), _normalized(source)
        total = total + base.mean_per_picture(jnp.abs(fake - source))
    return total / len(layers)


_STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")


def _style_wants(
    *, form: Style = "moments", distance: Distance = "l1", network: str = "vgg16", layers: Layers = _STYLE_LAYERS
) -> tuple[base.Want, ...]:
    del form, distance
    return tuple(base.Want(network, picture, layers) for picture in ("fake", "target"))


@base.term("style", wants=_style_wants)
def style(
    context: base.Context,
    *,
    form: Style = "moments",
    distance: Distance = "l1",
    network: str = "vgg16",
    layers: Layers = _STYLE_LAYERS,
) -> jax.Array:
    """The difference of the feature statistics of fakes and targets, f32[b]; method.md's L_styl.

    Args:
      context: with features.
      form: `moments`, per-channel mean and deviation (Huang and Belongie 2017, equation 13), or `gram`
        matrices over positions (Gatys et al. 2016, section 2.2), each divided by the positions.
      distance: `l1`, the mean absolute difference, which pulls towards the median of the targets, or `l2`,
        the mean squared one, which pulls towards their mean.
      network: vgg16, or another feature network.
      layers: whose differences are averaged.
    """
    of = context.features[network]
    total = jnp.zeros(())
    for layer in layers:
        fake, target = (_statistics(of[picture][layer], form) for picture in ("fake", "target"))
        total = total + sum(
            base.mean_per_picture(_DISTANCES[distance](a - b)) for a, b in zip(fake, target, strict=True)
        )
    return total / len(layers)


def _discriminator_needs(*, paired: bool = False) -> tuple[base.Need, ...]:
    return ("activations", "paired") if paired else ("activations",)


@base.term("discriminator_perceptual", needs=_discriminator_needs)
def discriminator_perceptual(context: base.Context, *, paired: bool = False) -> jax.Array:
    """Mean absolute difference of D's inner activations on fakes and on targets, f32[b]; method.md's L_gan.

    Args:
      context: with activations.
      paired: compare position by position, as pix2pixHD's feature matching (Wang et al. 2018, equation 3);
        otherwise per-channel mean and deviation, which need no pairs.
    """
    assert context.activations is not None
    losses: list[jax.Array] = []
    for of_fake, of_real in zip(context.activations.fake, context.activations.real, strict=True):
        for fake, real in zip(of_fake, of_real, strict=True):
            real = jax.lax.stop_gradient(real)
            pairs = ((fake, real),) if paired else zip(_moments(fake), _moments(real), strict=True)
            losses.extend(base.mean_per_picture(jnp.abs(a - b)) for a, b in pairs)
    return jnp.mean(jnp.stack(losses), axis=0)


def _lpips_needs(*, reference: Reference = "source") -> tuple[base.Need, ...]:
    return ("paired",) if reference == "target" else ()


def _lpips_wants(*, reference: Reference = "source") -> tuple[base.Want, ...]:
    return tuple(base.Want("alexnet", picture, _ALEXNET) for picture in ("fake", reference))


@base.term("lpips", needs=_lpips_needs, wants=_lpips_wants)
def lpips(context: base.Context, *, reference: Reference = "source") -> jax.Array:
    """LPIPS v0.1 (AlexNet) of fakes, f32[b] (Zhang et al. 2018).

    A run that optimises it should be judged by another metric.

    Args:
      context: with features.
      reference: `source`, or `target` with paired data.
    """
    of = context.features["alexnet"]
    fake, other = ([of[picture][layer] for layer in _ALEXNET] for picture in ("fake", reference))
    return metrics.lpips(fake, other, [context.frozen["alexnet"][head] for head in _HEADS])


def _statistics(x: jax.Array, form: Style) -> tuple[jax.Array, ...]:
    return _moments(x) if form == "moments" else (_gram(x),)


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and deviation of each channel over positions, f32[b c] each; the gradient is finite on flat ones."""
    x = x.astype(jnp.float32)
    return jnp.mean(x, axis=(1, 2)), jnp.sqrt(jnp.var(x, axis=(1, 2)) + 1e-6)


def _gram(x: jax.Array) -> jax.Array:
    x = x.astype(jnp.float32)
    return jnp.einsum("bhwi,bhwj->bij", x, x) / (x.shape[1] * x.shape[2])


def _normalized(x: jax.Array) -> jax.Array:
    mean, deviation = _moments(x)
    return (x - mean[:, None, None]) / deviation[:, None, None]
