"""A generator that takes the style as an input, and how much of the scene's structure is to be kept.

An autoencoder whose encoder is VGG-16. Between its layers, channels get mean and deviation of the style's own
activations in the same places (adaptive instance norm, Huang and Belongie 2017; at every layer of the decoder as in
Sheng et al. 2018). One pass over a painting is enough to know its style. The more structure is asked for, the more of
the photograph itself, in the painting's colours, is blended in.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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

_EXTRA = 3
"""Places behind those of `channels`, in this order: colours before and after the network, the photograph itself."""

Edit = Callable[[Float[Array, "b h w c"]], Float[Array, "b h w c"]]


def _as_it_is(x: jax.Array, other: Any = None) -> jax.Array:
    del other
    return x


class _Edits(NamedTuple):
    """What is done to activations on their way; by default nothing.

    Attributes:
      recolor_input: To the colours before the network.
      mix: To the activations at a place of `channels`, which is its second argument.
      recolor_output: To the colours after the network.
      blend: To the result, in opponent colours, with the colours before the network as its second argument.
    """

    recolor_input: Edit = _as_it_is
    mix: Callable[[Float[Array, "b h w c"], int], Float[Array, "b h w c"]] = _as_it_is
    recolor_output: Edit = _as_it_is
    blend: Callable[[Float[Array, "b h w 3"], Float[Array, "b h w 3"]], Float[Array, "b h w 3"]] = _as_it_is


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
        asked = nn.Dense(self.places, kernel_init=_dial_init, bias_init=_share_init)
        # What other styles need more or less of; at first nothing.
        own = nn.Dense(self.places, use_bias=False, kernel_init=nn.initializers.zeros)
        logits = asked(jnp.concatenate([dial, dial**2], axis=-1))
        return nn.sigmoid(logits + own(jnp.tanh(nn.Dense(self.hidden)(jnp.arcsinh(style)))))


def _dial_init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    del key
    # The whole style, whatever is asked; the photograph itself for much structure.
    return jnp.zeros(shape, dtype).at[0, -1].set(-5.0)


def _share_init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    del key
    return jnp.full(shape, 4.0, dtype).at[-1].set(-3.0)


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
        """Number of places where style and structure come in."""
        return len(self.channels) + _EXTRA

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
        means, deviations = inner[::2], inner[1::2]
        *mixed, first, last, plain = jnp.moveaxis(shares, 1, 0)

        def mix(x: jax.Array, place: int) -> jax.Array:
            return _mixed(x, means[place], deviations[place], mixed[place])

        edits = _Edits(
            recolor_input=functools.partial(_recolored, mean=mean, spread=spread, share=first),
            mix=mix,
            recolor_output=functools.partial(_recolored, mean=mean, spread=spread, share=last),
            blend=functools.partial(_toward, share=plain),
        )
        return self._network(source, edits)

    def style_of(self, pictures: Float[Array, "b h w 3"]) -> Float[Array, "b n"]:
        """Returns the style of pictures in [0, 1].

        It is mean and variance of each opponent colour, and the variance of the sums of any two; then mean and
        deviation of each channel of the pictures' own activations, in the order of `channels`.
        """
        mean, variance = norms.moments(_with_sums(blocks.to_opponent(pictures)))
        seen = [mean[:, 0, 0, :_COLORS], variance[:, 0, 0]]

        def look(x: jax.Array, place: int) -> jax.Array:
            del place
            mean, variance = norms.moments(x)
            # The gradient of a root has no bound at 0.
            seen.extend([mean[:, 0, 0], jnp.sqrt(variance[:, 0, 0] + norms.EPSILON)])
            return x

        self._network(pictures, _Edits(mix=look))
        return jnp.concatenate(seen, axis=-1)

    def _network(self, source: jax.Array, edits: _Edits) -> jax.Array:
        """The picture after encoder and decoder, edited on its way."""
        height, width = source.shape[1:3]
        source, mix = blocks.pad_to_multiple(source, self.multiple), edits.mix
        recolored = edits.recolor_input(blocks.to_opponent(source))
        x = mix(_SCALE * self._encoded(_picture(recolored))[ENCODED], 0)
        x = blocks.keep(mix(nn.relu(self.first(x)), 1))
        for place, (inner, outer) in enumerate(zip(self.inner, self.outer, strict=True), 2):
            x = blocks.keep(x + outer(nn.relu(mix(inner(x), place))))
        x = blocks.keep(mix(nn.relu(self.second(nn.relu(self.up2(x)))), self.blocks + 2))
        x = self.last(mix(nn.relu(self.up1(x)), self.blocks + 3)) + 0.5
        x = edits.blend(edits.recolor_output(blocks.to_opponent(x)), recolored)
        return _picture(x)[:, :height, :width]

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
    structures: tuple[float, float] = (0.6, 0.9)

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
        # Colours are not trained: steps of single entries could make of a covariance what is none. Nor are their shares
        # and that of the photograph, which nothing keeps between 0 and 1.
        style = jnp.concatenate([jax.lax.stop_gradient(self.style[:_COLORED]), self.style[_COLORED:]])
        shares = jnp.concatenate([self.shares[:-_EXTRA], jax.lax.stop_gradient(self.shares[-_EXTRA:])])
        return self.painted(source, style[None], shares[None])


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
    wide = x.astype(jnp.float32)
    return _toward(wide, (wide - own[0]) * gain + mean, share).astype(x.dtype)


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
    return _toward(x, matched, share)


def _toward(x: jax.Array, other: jax.Array, share: Float[Array, "b"]) -> jax.Array:
    """Activations with a share of the way to others gone."""
    return x + share[:, None, None, None].astype(x.dtype) * (other - x)


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
