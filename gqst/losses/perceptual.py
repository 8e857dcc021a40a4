"""Terms in the activations of frozen networks, and of the discriminator."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import pydantic
from jaxtyping import Array, Float

from gqst import metrics
from gqst.losses import base

_DISTANCES = {"l1": jnp.abs, "l2": jnp.square}
_ALEXNET = tuple(f"relu{n}" for n in range(1, 6))
_LPIPS_HEADS = tuple(f"lin{n}" for n in range(1, 6))

_AXES, _POSITIONS = 64, 1_024  # of a sliced distance

Form = Literal["moments", "gram", "sliced"]
Distance = Literal["l1", "l2", "relative", "symmetric"]
Reference = Literal["source", "target"]


@base.TERMS.register("content")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Content(base.Term):
    """Mean absolute difference between deep features of fakes and sources, the part L_cont of the objective.

    It is f32[b], at least 0. The content loss of Gatys et al. 2016, section 2.1, with absolute in place of squared
    differences.

    Attributes:
      network: Frozen network that the features are taken from.
      layers: Layers over which differences are averaged.
      normalize: Whether each channel of each picture is first brought to mean 0 and deviation 1 (Huang and Belongie
        2017), so that changes of contrast and colour over the whole picture, which are style, cost nothing.
      halvings: Number of times that pictures are halved before the network sees them: 1 costs a quarter, and leaves
        more of the finest detail to the style.
    """

    network: str = "vgg16"
    layers: tuple[str, ...] = ("relu3_1",)
    normalize: bool = False
    halvings: pydantic.NonNegativeInt = 0

    @property
    def features(self) -> tuple[base.FeatureSpec, ...]:
        """Features of fakes and sources."""
        return tuple(
            base.FeatureSpec(self.network, picture, self.layers, self.halvings) for picture in ("fake", "source")
        )

    def __call__(self, context: base.Context) -> Float[Array, "b"]:
        """Returns the loss of each picture; reads `features`."""
        views = [context.features[self.network][spec.view] for spec in self.features]
        total = jnp.zeros(())
        for layer in self.layers:
            fake, source = (view[layer].astype(jnp.float32) for view in views)
            if self.normalize:
                fake, source = _normalized(fake), _normalized(source)
            total = total + base.mean_per_picture(jnp.abs(fake - source))
        return total / len(self.layers)


@base.TERMS.register("style")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Style(base.Term):
    """Difference between the feature statistics of fakes and targets, the part L_styl of the objective.

    It is f32[b], at least 0.

    Attributes:
      form: `moments`, mean and deviation of each channel (Huang and Belongie 2017, equation 13); `gram`, Gram
        matrices over positions, divided by the number of positions (Gatys et al. 2016, section 2.2); or `sliced`,
        sorted projections on 64 random axes of 1,024 random positions (Heitz et al. 2021, section 3.1): all of the
        distribution, where the other two take a few bright spots for the style's strokes everywhere.
      distance: `l1`, the mean absolute difference, which pulls towards the median of the targets; `l2`, the mean
        squared difference, which pulls towards their mean; `relative`, the squared difference over the square of
        the targets' statistics, so that all layers count alike; or `symmetric`, the same over the mean square of both,
        at most 2, so that dark and flat targets count no more than others where targets are many. Of projections,
        these two take squares about the mean of both.
      network: Frozen network that the features are taken from.
      layers: Layers over which differences are averaged.
      halvings: Numbers of times that pictures are halved before the network sees them: (0, 1) compares brushwork at
        the crops' own size and at half of it, where the same layers see strokes twice as wide.
    """

    form: Form = "moments"
    distance: Distance = "l1"
    network: str = "vgg16"
    layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    halvings: tuple[pydantic.NonNegativeInt, ...] = (0,)

    @property
    def features(self) -> tuple[base.FeatureSpec, ...]:
        """Features of fakes and targets at all sizes."""
        return tuple(self._spec(picture, halvings) for halvings in self.halvings for picture in ("fake", "target"))

    def __call__(self, context: base.Context) -> Float[Array, "b"]:
        """Returns the loss of each picture; reads `features`, and `keys` for the form `sliced`."""
        features = context.features[self.network]
        total = jnp.zeros(())
        for halvings in self.halvings:
            views = [features[self._spec(picture, halvings).view] for picture in ("fake", "target")]
            for layer in self.layers:
                fake, target = (self._statistics(view[layer], context.keys) for view in views)
                total = total + sum(self._difference(a, b) for a, b in zip(fake, target, strict=True))
        return total / (len(self.layers) * len(self.halvings))

    def _spec(self, picture: Literal["fake", "target"], halvings: int) -> base.FeatureSpec:
        return base.FeatureSpec(self.network, picture, self.layers, halvings)

    def _statistics(self, x: jax.Array, keys: jax.Array | None) -> tuple[jax.Array, ...]:
        if self.form == "sliced":
            assert keys is not None
            return (jax.vmap(_sorted_projections)(x, keys),)
        return _moments(x) if self.form == "moments" else (_gram(x),)

    def _difference(self, fake: jax.Array, target: jax.Array) -> Float[Array, "b"]:
        if self.distance in _DISTANCES:
            return base.mean_per_picture(_DISTANCES[self.distance](fake - target))
        if self.form == "sliced":
            # So that they count by how much they spread, not by how far from zero.
            middle = jnp.mean((fake + target) / 2, axis=-1, keepdims=True)
            fake, target = fake - middle, target - middle
        squares = [base.mean_per_picture(x**2) for x in (fake, target)]
        whole = squares[1] if self.distance == "relative" else (squares[0] + squares[1]) / 2
        return base.mean_per_picture((fake - target) ** 2) / (whole + 1e-6)


@base.TERMS.register("discriminator_perceptual")
@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscriminatorPerceptual(base.Term):
    """Mean absolute difference between D's inner activations on fakes and on targets, a part of L_gan of the objective.

    It is f32[b], at least 0.

    Attributes:
      paired: Whether activations are compared position by position, as in pix2pixHD's feature matching (Wang et al.
        2018, equation 3), for which the data must be paired; otherwise mean and deviation of each channel are.
    """

    paired: bool = False

    @property
    def needs(self) -> frozenset[base.Need]:
        """The discriminator's activations, and pairs if it compares positions."""
        return frozenset({"activations", "paired"}) if self.paired else frozenset({"activations"})

    def __call__(self, context: base.Context) -> Float[Array, "b"]:
        """Returns the loss of each picture; reads `activations`."""
        assert context.activations is not None
        losses: list[jax.Array] = []
        for fakes, reals in zip(context.activations.fake, context.activations.real, strict=True):
            for fake, real in zip(fakes, reals, strict=True):
                real = jax.lax.stop_gradient(real)
                pairs = ((fake, real),) if self.paired else zip(_moments(fake), _moments(real), strict=True)
                losses.extend(base.mean_per_picture(jnp.abs(a - b)) for a, b in pairs)
        return jnp.mean(jnp.stack(losses), axis=0)


@base.TERMS.register("lpips")
@dataclasses.dataclass(frozen=True, kw_only=True)
class LPIPS(base.Term):
    """LPIPS v0.1 (AlexNet) between fakes and a reference, f32[b], at least 0 (Zhang et al. 2018, equation 1).

    A run that optimises it should be judged by another metric.

    Attributes:
      reference: `source`, or `target`, for which the data must be paired.
    """

    reference: Reference = "source"

    @property
    def needs(self) -> frozenset[base.Need]:
        """Pairs if the reference is the target."""
        return frozenset({"paired"}) if self.reference == "target" else frozenset()

    @property
    def features(self) -> tuple[base.FeatureSpec, ...]:
        """Features of fakes and of their references."""
        return tuple(base.FeatureSpec("alexnet", picture, _ALEXNET) for picture in ("fake", self.reference))

    def __call__(self, context: base.Context) -> Float[Array, "b"]:
        """Returns the loss of each picture; reads `features` and `frozen`."""
        features, params = context.features["alexnet"], context.frozen["alexnet"]
        fake, reference = ([features[picture][layer] for layer in _ALEXNET] for picture in ("fake", self.reference))
        return metrics.lpips(fake, reference, [params[head] for head in _LPIPS_HEADS])


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns mean and deviation of each channel over positions, f32[b c] each; the gradient is finite if x is flat."""
    x = x.astype(jnp.float32)
    return jnp.mean(x, axis=(1, 2)), jnp.sqrt(jnp.var(x, axis=(1, 2)) + 1e-6)


def _gram(x: jax.Array) -> jax.Array:
    """Returns the products of channels averaged over positions, f32[b c c]."""
    x = x.astype(jnp.float32)
    return jnp.einsum("bhwi,bhwj->bij", x, x) / (x.shape[1] * x.shape[2])


def _sorted_projections(x: jax.Array, key: jax.Array) -> jax.Array:
    """Returns projections of one picture's activations on random axes, each sorted, f32[axes positions].

    Axes and positions follow from the key, so that two pictures of one size get the same.
    """
    x = x.astype(jnp.float32).reshape(-1, x.shape[-1])
    of_axes, of_positions = jax.random.split(key)
    if len(x) > _POSITIONS:
        x = x[jax.random.randint(of_positions, (_POSITIONS,), 0, len(x))]
    axes = jax.random.normal(of_axes, (x.shape[-1], _AXES))
    axes = axes / jnp.linalg.norm(axes, axis=0, keepdims=True)
    return jnp.sort((x @ axes).T, axis=-1)


def _normalized(x: jax.Array) -> jax.Array:
    """Returns x with mean 0 and deviation 1 in each channel."""
    mean, deviation = _moments(x)
    return (x - mean[:, None, None]) / deviation[:, None, None]
