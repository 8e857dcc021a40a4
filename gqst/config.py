"""The configuration of an experiment: frozen, validated, unknown keys refused.

An experiment is a Python file with `get_config()` that returns a `Config`; `gqst.overrides` reads and changes it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, cast, dataclass_transform

import pydantic

_STRICT = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)
_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,))
def _frozen(cls: type[_T]) -> type[_T]:
    return cast(type[_T], pydantic.dataclasses.dataclass(cls, frozen=True, kw_only=True, config=_STRICT))


Fraction = Annotated[float, pydantic.Field(ge=0.0, lt=1.0)]
Remat = Literal["none", "blocks", "all"]
Weight = pydantic.NonNegativeFloat | tuple[tuple[pydantic.NonNegativeInt, pydantic.NonNegativeFloat], ...]


@_frozen
class Choice:
    """A member of a registry (a data source, a network) and its options. Write it with `choice`.

    Attributes:
      name: the member's name.
      options: its keyword options; the member's own signature says which there are.
    """

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@_frozen
class Loss:
    """A term of the objective. Write it with `loss`.

    Attributes:
      term: the name of the term in the registry of losses; None where the label in `Config.losses` is it.
      weight: a number, or knots ((step, weight), ...) between which the weight goes linearly; 0 switches
        the term off, and what only it needs is then not computed.
      options: the term's keyword options.
    """

    term: str | None = None
    weight: Weight = 1.0
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def on(self) -> bool:
        """Whether the term has a weight above 0 at any step."""
        return any(w > 0 for _, w in self.weight) if isinstance(self.weight, tuple) else self.weight > 0

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Loss":
        if isinstance(self.weight, tuple):
            steps = [step for step, _ in self.weight]
            if not steps or steps != sorted(set(steps)):
                raise ValueError(f"the steps of a weight's knots must rise, got {steps}")
        return self


@_frozen
class Preprocess:
    """How a picture becomes a training crop of `image_size` (the paper's step 1).

    Attributes:
      resize: `resize_and_crop` (shorter side to load_size, shape kept, then crop), `stretch_and_crop` (both
        sides to load_size, then crop; what pytorch-CycleGAN calls resize_and_crop), `scale_width` (width to
        load_size, then crop) or `none` (crop at the picture's own size).
      load_size: pixels; None takes image_size * 286 / 256, the published ratio.
      random_scale: lowest and highest factor on the size before the crop, drawn anew for every picture.
      flip: whether half of the training pictures are mirrored left to right.
    """

    resize: Literal["resize_and_crop", "stretch_and_crop", "scale_width", "none"] = "resize_and_crop"
    load_size: pydantic.PositiveInt | None = None
    random_scale: tuple[pydantic.PositiveFloat, pydantic.PositiveFloat] = (1.0, 1.0)
    flip: bool = True


@_frozen
class Optimizer:
    """An optax optimiser and its learning rate over the run.

    Attributes:
      name: adam, adamw, nadam, radam, lion, rmsprop, sgd, adabelief or yogi, from optax.
      learning_rate: the highest rate.
      schedule: `constant`, `linear_decay` (constant until decay_start, then to 0 at the last step, as
        CycleGAN) or `cosine` (to 0 at the last step).
      warmup_steps: steps of linear rise from 0 before the schedule, at most half of the run.
      decay_start: step where linear_decay begins; None is half of the run.
      clip_norm: largest global norm of the gradient; None clips nothing.
      options: the optimiser's own options, as in {"b2": 0.99}. Where it has a first moment b1, that is 0.5
        unless given here, as GANs are trained.
    """

    name: Literal["adam", "adamw", "nadam", "radam", "lion", "rmsprop", "sgd", "adabelief", "yogi"] = "adam"
    learning_rate: pydantic.PositiveFloat = 2e-4
    schedule: Literal["constant", "linear_decay", "cosine"] = "constant"
    warmup_steps: pydantic.NonNegativeInt = 0
    decay_start: pydantic.NonNegativeInt | None = None
    clip_norm: pydantic.PositiveFloat | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@_frozen
class Control:
    """How the weights of quality losses follow the targets; every number holds for one round.

    Attributes:
      gain: change of the logarithm of a weight for an error of one unit: 1, or 30 dB of psnr.
      smoothing: share of the past in the smoothed measurement; 0 takes each round as it is.
      dead_band: error, in units, within which nothing is changed.
      limit: largest factor on a weight at once, up or down.
      bounds: lowest and highest multiplier of a weight; it can come back from the lowest in a few rounds.
    """

    gain: pydantic.PositiveFloat = 4.0
    smoothing: Fraction = 0.2
    dead_band: pydantic.NonNegativeFloat = 0.005
    limit: Annotated[float, pydantic.Field(gt=1.0)] = 2.0
    bounds: tuple[pydantic.PositiveFloat, pydantic.PositiveFloat] = (0.05, 1e3)

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Control":
        if not self.bounds[0] <= 1.0 <= self.bounds[1]:
            raise ValueError(f"bounds={self.bounds} must hold 1, where multipliers start")
        return self


@_frozen
class Config:
    """An experiment.

    Attributes:
      steps: optimiser steps of the whole run.
      batch_size: pictures of each domain in a step, over all devices.
      image_size: side of the square training crops, in pixels.
      seed: of everything random.
      checkpoint_every: steps between checkpoints.
      round_every: steps between rounds: held-out metrics and sample grids.
      log_every: steps between lines of training metrics.
      steps_per_dispatch: steps that one call to the device runs (lax.scan); the four numbers above and
        `steps` must be multiples of it.
      data: the data source.
      preprocess: how pictures become training crops.
      validation: pictures held off the training split for the rounds: a count, or a fraction below 1.
      samples: pictures in a sample grid.
      round_pictures: held-out pictures that a round measures, at most.
      metrics: what a round measures on frozen networks, besides the metrics of pixels: `kid` of the fakes
        against the style domain on EfficientNet-Lite0, where there are 10 pictures of each, `lpips` (AlexNet)
        and `content_retention` (VGG-16) of fakes against their sources.
      generator: the network that makes fakes.
      discriminator: the network that tells fakes from targets.
      conditional: whether the discriminator sees the source beside the picture, D(x, .); paired data only.
      keep_colors: whether style is a matter of brightness alone: training sees pictures without colour, and
        stylised pictures have the colours of their sources.
      losses: the terms of the objective by label.
      targets: held-out quality to be met, as in {"contrast_structure": 0.6}: after every round the weight of the
        quality loss of that metric is changed so that the next comes nearer. contrast_structure (fakes and
        their sources); ssim and psnr (fakes and targets, paired data); ssim_cycled (sources and cycles). Where
        no quality loss has that metric, one is added with weight 5; its floor is the target.
      control: how the weights follow the targets.
      stop_after: rounds without a smaller style distance or shortfall after which the run ends; None never.
      rollbacks: how often a run may go back to its last good checkpoint, with half the learning rate, because
        of a loss that is not finite, inverted light, collapsed fakes or a dead generator, before it ends.
      generator_optimizer, discriminator_optimizer: one optax optimiser for each network.
      ema_decay: of the running average of the generator's parameters that evaluation and stylising use.
      pool_size: past fakes that the discriminator is shown at random; 0 has no pool.
      compute_dtype: of activations; parameters, losses and metrics are float32.
      accumulate: parts that each device cuts its share of a batch into; they are gone through one after the
        other, in as much less memory. The update is that of the whole batch, but for batch norm, whose
        statistics are then those of a part.
      remat: what of the generator's passes is not kept for the gradient but computed again, in more time and on TPU
        much less memory (a little on GPU, none on CPU): `none`; `blocks`, all but what goes from block to block;
        or `all`.
      weights: files of feature networks' weights by network, in torchvision's names and layout
        (.safetensors or .npz), as in {"vgg19": "vgg19.safetensors"}; others come with gqst.
      keep_checkpoints: newest checkpoints that are kept.
      keep_every: checkpoints at multiples of it are kept for good; None keeps none besides.
    """

    steps: pydantic.PositiveInt = 100_000
    batch_size: pydantic.PositiveInt = 1
    image_size: Annotated[int, pydantic.Field(ge=16)] = 256
    seed: pydantic.NonNegativeInt = 0
    checkpoint_every: pydantic.PositiveInt = 5_000
    round_every: pydantic.PositiveInt = 1_000
    log_every: pydantic.PositiveInt = 100
    steps_per_dispatch: pydantic.PositiveInt = 1
    data: Choice = Choice(name="demo")
    preprocess: Preprocess = Preprocess()
    validation: Fraction | pydantic.NonNegativeInt = 0.05
    samples: pydantic.PositiveInt = 4
    round_pictures: pydantic.PositiveInt = 64
    metrics: tuple[Literal["kid", "lpips", "content_retention"], ...] = ("kid", "lpips", "content_retention")
    generator: Choice = Choice(name="resnet")
    discriminator: Choice = Choice(name="patch")
    conditional: bool = False
    keep_colors: bool = False
    losses: Mapping[str, Loss] = dataclasses.field(
        default_factory=lambda: {
            "adversarial": loss(1.0, form="lsgan"),
            "cycle": loss(10.0),
            "identity": loss(5.0),
        }
    )
    targets: Mapping[str, float] = dataclasses.field(default_factory=dict)
    control: Control = Control()
    stop_after: pydantic.PositiveInt | None = None
    rollbacks: pydantic.NonNegativeInt = 3
    generator_optimizer: Optimizer = Optimizer()
    discriminator_optimizer: Optimizer = Optimizer()
    ema_decay: Fraction = 0.999
    pool_size: pydantic.NonNegativeInt = 0
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    accumulate: pydantic.PositiveInt = 1
    remat: Remat = "none"
    weights: Mapping[str, str] = dataclasses.field(default_factory=dict)
    keep_checkpoints: pydantic.PositiveInt = 3
    keep_every: pydantic.PositiveInt | None = None

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Config":
        for key in ("steps", "checkpoint_every", "round_every", "log_every"):
            if getattr(self, key) % self.steps_per_dispatch:
                raise ValueError(
                    f"{key}={getattr(self, key)} is not a multiple of steps_per_dispatch={self.steps_per_dispatch}"
                )
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size={self.batch_size} does not divide into accumulate={self.accumulate} parts")
        return self


RESUMABLE = (
    "steps",
    "checkpoint_every",
    "round_every",
    "log_every",
    "steps_per_dispatch",
    "samples",
    "stop_after",
    "rollbacks",
    "remat",
    "keep_checkpoints",
    "keep_every",
)
"""Keys that may change between two starts of one run; any other makes it another experiment."""


def choice(name: str, **options: Any) -> Choice:
    """A registry member with its options, as in `choice("resnet", filters=64, blocks=9)`."""
    return Choice(name=name, options=options)


def loss(weight: Any = 1.0, /, *, term: str | None = None, **options: Any) -> Loss:
    """A loss term, as in `loss(1.0, form="lsgan")`; `term` where the label is not the term's name."""
    return Loss(term=term, weight=weight, options=options)
