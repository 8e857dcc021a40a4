"""A generator that takes the style as an input, and how much of the scene's structure is to be kept.

An autoencoder whose encoder is VGG-16. Between its layers, channels get mean and deviation of the style's own
activations in the same places (adaptive instance norm, Huang and Belongie 2017; at every layer of the decoder as in
Sheng et al. 2018), the more of it the less structure is asked for. So a style is known from one look at its picture.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
from flax import linen as nn
from jaxtyping import Array, Float

from gqst.models import base, blocks, conditions, frames
from gqst.models.features import base as features
from gqst.models.features import vgg
from gqst.ops import norms

ENCODED = "relu3_1"
"""Layer of VGG-16 that the decoder starts from."""

_MOST_GAIN = 5.0
"""Factor on the deviation of a source's channel that is approached; more would show the noise of flat pictures."""

_SCALE = 0.25  # brings ENCODED to a size near 1

MIDDLE, HALF = 0.6, 0.3
"""The middle of the range of structures and its half."""

_COLORS = 3
_COLORED = 9
"""Number of entries of a style for its colours."""

Mix = Callable[[Float[Array, "b h w c"]], Float[Array, "b h w c"]]


def _as_it_is(x: jax.Array) -> jax.Array:
    return x


class _Shares(nn.Module):
    """How much of the style every place gets, from style and structure.

    Attributes:
      places: Number of places.
      hidden: Number of features of the style.
    """

    places: int
    hidden: int

    @nn.compact
    def __call__(self, style: Float[Array, "b n"], structure: Float[Array, "b"]) -> Float[Array, "b p"]:
        dial = (MIDDLE - structure)[:, None] / HALF
        asked = nn.Dense(self.places, kernel_init=_dial_init, bias_init=nn.initializers.ones)
        # What other styles need more or less of; at first nothing.
        own = nn.Dense(self.places, use_bias=False, kernel_init=nn.initializers.zeros)
        logits = asked(jnp.concatenate([dial, dial**2], axis=-1))
        return nn.sigmoid(logits + own(jnp.tanh(nn.Dense(self.hidden)(jnp.arcsinh(style)))))


def _dial_init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    del key
    return jnp.zeros(shape, dtype).at[0].set(2.0)


class _Painter(nn.Module, kw_only=True):
    """VGG-16 and a decoder, in whose places activations follow a style.

    Attributes:
      filters: Number of channels of the decoder at full size; doubled at each of two halvings.
      blocks: Number of residual blocks at the smallest size.
      dtype: Type of the computation; parameters are float32.
    """

    filters: pydantic.PositiveInt = 32
    blocks: pydantic.NonNegativeInt = 2
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Creates the encoder's parameters, which training leaves as they are, and the decoder."""
        self.encoder = self.param("encoder", lambda key: _encoder())
        options: dict[str, Any] = {"dtype": self.dtype, "kernel_init": nn.initializers.he_normal()}
        few, some, many = (self.filters * 2**scale for scale in range(3))
        self.first = blocks.Conv(features=many, **options)
        self.inner = [blocks.Conv(features=many, **options) for _ in range(self.blocks)]
        # Blocks start as the identity.
        self.outer = [
            blocks.Conv(features=many, dtype=self.dtype, kernel_init=nn.initializers.zeros) for _ in range(self.blocks)
        ]
        self.up2 = blocks.UpConv(features=some, **options)
        self.second = blocks.Conv(features=some, **options)
        self.up1 = blocks.UpConv(features=few, **options)
        self.last = blocks.Conv(features=3, dtype=self.dtype)

    @property
    def channels(self) -> tuple[int, ...]:
        """Number of channels at each place in the network where the style comes in."""
        few, some, many = (self.filters * 2**scale for scale in range(3))
        return (256, many, *[many] * self.blocks, some, few)

    @property
    def multiple(self) -> int:
        """See `base.GENERATORS`."""
        return 4

    @property
    def taps(self) -> tuple[str, ...]:
        """See `base.GENERATORS`."""
        return ("pixels", "relu1_1", "relu2_1", ENCODED)

    @property
    def places(self) -> int:
        """Number of places where the style comes in: before and after the network with its colours."""
        return 1 + len(self.channels) + 1

    @property
    def entries(self) -> int:
        """Number of entries of a style."""
        return _COLORED + 2 * sum(self.channels)

    def tapped(self, source: Float[Array, "b h w 3"], taps: Sequence[str]) -> dict[str, jax.Array]:
        """Returns the encoder's activations of these layers; it sees a picture as it is."""
        seen = self._encoded(blocks.pad_to_multiple(source, self.multiple))
        return {layer: seen[layer] for layer in taps}

    def painted(
        self, source: Float[Array, "b h w 3"], style: Float[Array, "b n"], shares: Float[Array, "b p"]
    ) -> Float[Array, "b h w 3"]:
        """Returns pictures in styles, as from `style_of`, of which each place gets a share."""
        ends = np.cumsum([_COLORS, _COLORED - _COLORS, *np.repeat(self.channels, 2)])
        mean, spread, *inner = jnp.split(style, ends[:-1], axis=-1)
        shares = jnp.moveaxis(shares, 1, 0)
        each = iter(zip(inner[::2], inner[1::2], shares[1:-1], strict=True))

        def mix(x: jax.Array) -> jax.Array:
            return _mixed(x, *next(each))

        recolor = functools.partial(_recolored, mean=mean, spread=spread)
        first, last = (functools.partial(recolor, share=share) for share in (shares[0], shares[-1]))
        return self._network(source, mix, first, last)

    def style_of(self, pictures: Float[Array, "b h w 3"]) -> Float[Array, "b n"]:
        """Returns the style of pictures in [0, 1].

        It is mean and variance of each opponent colour, and the variance of the sums of any two; then mean and
        deviation of each channel of the pictures' own activations, in the order of `channels`.
        """
        mean, variance = norms.moments(_with_sums(blocks.to_opponent(pictures)))
        seen = [mean[:, 0, 0, :_COLORS], variance[:, 0, 0]]

        def look(x: jax.Array) -> jax.Array:
            mean, variance = norms.moments(x)
            # The gradient of a root has no bound at 0.
            seen.extend([mean[:, 0, 0], jnp.sqrt(variance[:, 0, 0] + norms.EPSILON)])
            return x

        self._network(pictures, look)
        return jnp.concatenate(seen, axis=-1)

    def _network(self, source: jax.Array, mix: Mix, first: Mix = _as_it_is, last: Mix = _as_it_is) -> jax.Array:
        """The picture, with `mix` at every inner place, and `first` and `last` for colours."""
        height, width = source.shape[1:3]
        source = blocks.pad_to_multiple(source, self.multiple)
        x = self._encoded(_picture(first(blocks.to_opponent(source))))[ENCODED]
        x = blocks.keep(mix(nn.relu(self.first(mix(_SCALE * x)))))
        for inner, outer in zip(self.inner, self.outer, strict=True):
            x = blocks.keep(x + outer(nn.relu(mix(inner(x)))))
        x = blocks.keep(mix(nn.relu(self.second(nn.relu(self.up2(x))))))
        x = self.last(mix(nn.relu(self.up1(x)))) + 0.5
        return _picture(last(blocks.to_opponent(x)))[:, :height, :width]

    def _encoded(self, source: jax.Array) -> dict[str, jax.Array]:
        """Activations of VGG-16 by layer. Borders are reflected: zeros, as in its training, would leave a rim."""
        seen = {"pixels": source}
        x = features.scaled(source, vgg.MEAN, vgg.DEVIATION).astype(self.dtype)
        for name, params in jax.lax.stop_gradient(self.encoder).items():
            if name in ("conv2_1", "conv3_1"):
                x = nn.max_pool(blocks.keep(x), (2, 2), strides=(2, 2))
            conv = blocks.Conv(parent=None, features=params["bias"].size, dtype=self.dtype)
            y: Any = conv.apply({"params": params}, x)
            x = nn.relu(y)
            seen[name.replace("conv", "relu")] = x
        return seen


@base.GENERATORS.register("any_style")
class AnyStyle(_Painter, kw_only=True):
    """VGG-16 and a decoder, in whose places activations follow a style picture (`models.conditions`).

    Attributes:
      filters: Number of channels of the decoder at full size; doubled at each of two halvings.
      blocks: Number of residual blocks at the smallest size.
      hidden: Number of features of a style from which its strength follows.
      structures: Lowest and highest contrast_structure that is asked for in training.
      dtype: Type of the computation; parameters are float32.
    """

    hidden: pydantic.PositiveInt = 16
    structures: tuple[float, float] = (0.3, 0.9)

    def setup(self) -> None:
        """Creates the parameters of the network, and those of the dial."""
        super().setup()
        self.shares = _Shares(self.places, self.hidden)

    def __call__(self, source: Float[Array, "b h w 3"], *, taps: Sequence[str] = ()) -> Any:
        """Returns fakes in [0, 1] of the size of `source`, float32; with `taps`, the activations of these layers."""
        if taps:
            return self.tapped(source, taps)
        asked = conditions.of(self, len(source), self.entries)
        return self.painted(source, asked.style, self.shares(asked.style, asked.structure))

    def shares_of(self, style: Float[Array, "b n"], structure: Float[Array, "b"]) -> Float[Array, "b p"]:
        """Returns how much of the style every place gets."""
        return self.shares(style, structure)

    @property
    def options(self) -> dict[str, Any]:
        """Options of the `OneStyle` that it is for one style."""
        return {name: getattr(self, name) for name in ("filters", "blocks")}

    def folded(
        self, variables: Mapping[str, Any], style: Float[Any, "n"], structure: float | jax.Array
    ) -> dict[str, Any]:
        """Returns the variables of `OneStyle` for one style, as from `style_of`, and structure."""
        asked = jnp.asarray(style)[None], jnp.asarray(structure, jnp.float32)[None]
        shares: Any = self.apply(variables, *asked, method="shares_of")
        params = {name: value for name, value in variables["params"].items() if name != "shares"}
        return {"params": {**params, "style": asked[0][0], "shares": shares[0]}}


@base.GENERATORS.register("one_style")
class OneStyle(_Painter, kw_only=True):
    """What `AnyStyle` is for one style, which training refines: a start for runs (`start_from=any_style`).

    Attributes:
      filters: Number of channels of the decoder at full size; doubled at each of two halvings.
      blocks: Number of residual blocks at the smallest size.
      dtype: Type of the computation; parameters are float32.
    """

    def setup(self) -> None:
        """Creates the parameters of the network, the style, and its share in every place."""
        super().setup()
        self.style = self.param("style", nn.initializers.zeros, (self.entries,))
        self.shares = self.param("shares", nn.initializers.zeros, (self.places,))

    def __call__(self, source: Float[Array, "b h w 3"], *, taps: Sequence[str] = ()) -> Any:
        """Returns fakes in [0, 1] of the size of `source`, float32; with `taps`, the activations of these layers."""
        if taps:
            return self.tapped(source, taps)
        # Colours stay: a covariance that is moved entry by entry may be none any more.
        style = jnp.concatenate([jax.lax.stop_gradient(self.style[:_COLORED]), self.style[_COLORED:]])
        return self.painted(source, style[None], self.shares[None])


def _encoder() -> Any:
    """The convolutions of VGG-16 up to ENCODED, in their order."""
    tensors, layers = features.load("vgg16"), vgg.VGG16().layers
    names = [layer.replace("relu", "conv") for layer in layers[: layers.index(ENCODED) + 1]]
    return {name: jax.tree.map(jnp.asarray, dict(tensors[name])) for name in names}


def _picture(colors: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """A picture in [0, 1] from opponent colours."""
    return jnp.clip(colors @ blocks.OPPONENT.T, 0.0, 1.0)


def _mixed(
    x: Float[Array, "b h w c"], mean: Float[Array, "b c"], deviation: Float[Array, "b c"], share: Float[Array, "b"]
) -> Float[Array, "b h w c"]:
    """Activations with a share of the way to mean and deviation of the style gone."""
    x, own = _moments(x)
    mean, deviation = mean[:, None, None], deviation[:, None, None]
    least = (deviation / _MOST_GAIN) ** 2 + norms.EPSILON
    gain = jnp.sqrt((deviation**2 + least) / (own[1] + least))
    wide, share = x.astype(jnp.float32), share[:, None, None, None]
    return (wide + share * ((wide - own[0]) * gain + mean - wide)).astype(x.dtype)


def _recolored(
    x: Float[Array, "b h w 3"], mean: Float[Array, "b 3"], spread: Float[Array, "b 6"], share: Float[Array, "b"]
) -> Float[Array, "b h w 3"]:
    """Opponent colours with a share of the way to mean and covariance of the style's gone.

    The map is triangular: light follows from light alone, and what light tells of the colours comes with it.
    """
    sums, own = _moments(_with_sums(x))
    x = sums[..., :_COLORS]
    wanted, given = (_covariance(z) for z in (spread, own[1][:, 0, 0]))
    least = jnp.diagonal(wanted, axis1=1, axis2=2) / _MOST_GAIN**2 + norms.EPSILON
    roots = [jnp.linalg.cholesky(z + jax.vmap(jnp.diag)(least)) for z in (wanted, given)]
    # Row vectors: (x - mean) T^t with T = L_style L_own^-1.
    turn = jax.scipy.linalg.solve_triangular(roots[1], jnp.swapaxes(roots[0], 1, 2), lower=True, trans=1)
    matched = (_flat(x - own[0][..., :_COLORS]) @ turn).reshape(x.shape) + mean[:, None, None]
    return x + share[:, None, None, None] * (matched - x)


def _moments(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """The activations, and mean and variance of each channel over the whole picture."""
    frame = frames.current()
    return (x, norms.moments(x)) if frame is None else frame.moments(x)


def _with_sums(x: Float[Array, "b h w 3"]) -> Float[Array, "b h w 6"]:
    """Colours, and the sums of any two, whose variances give covariances."""
    return jnp.concatenate([x, x + jnp.roll(x, 1, axis=-1)], axis=-1)


def _covariance(variances: Float[Array, "b 6"]) -> Float[Array, "b 3 3"]:
    """The covariance of colours from the variances of `_with_sums`."""
    own, sums = variances[:, :_COLORS], variances[:, _COLORS:]
    mixed = (sums - own - jnp.roll(own, 1, axis=-1)) / 2  # of channels i and i - 1
    matrix = jax.vmap(jnp.diag)(own)
    for i in range(_COLORS):
        matrix = matrix.at[:, i, i - 1].set(mixed[:, i]).at[:, i - 1, i].set(mixed[:, i])
    return matrix


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1, x.shape[-1])
