"""The configuration of an experiment: frozen, validated, and without unknown keys.

An experiment is a Python file with a function `get_config()` that returns a `Config`; `gqst.overrides` reads and
changes it. `Config` describes every key.
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
    """A member of a registry, such as a data source or a network, with its options; written with `choice`.

    Attributes:
      name: Name of the member.
      options: Options of the member by name: its keyword-only parameters. Those left out keep their defaults.
    """

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@_frozen
class Loss:
    """A term of the objective; written with `loss`.

    Attributes:
      term: Name of the term in the registry of losses; None takes the label in `Config.losses`.
      weight: Factor of the term in the loss, at least 0: a number, or knots ((step, weight), ...) with rising steps,
        interpolated linearly. 0 switches the term off, and nothing that only it needs is computed.
      options: Options of the term by name.
    """

    term: str | None = None
    weight: Weight = 1.0
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def on(self) -> bool:
        """True if the weight is above 0 at any step."""
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
    """Steps from a picture to a square training crop of side `Config.image_size` (the paper's step 1).

    A picture that would be smaller than the crop is enlarged to fit it.

    Attributes:
      resize: Resizing before the crop: `resize_and_crop` (shorter side to load_size, aspect ratio kept),
        `stretch_and_crop` (both sides to load_size; pytorch-CycleGAN's resize_and_crop), `scale_width` (width to
        load_size, aspect ratio kept) or `none` (the picture's own size).
      load_size: Size in pixels for `resize`; None takes image_size * 286 / 256, the published ratio.
      random_scale: Lowest and highest factor on the size before the crop, drawn anew for every crop; 1 keeps the size.
      flip: Whether training crops are mirrored left to right with probability one half.
      recolor_target: Probability with which a training crop of unpaired targets gets other colours: channels
        exchanged, saturation and contrast changed, light and dark exchanged now and then. More styles for a generator
        that is to learn any.
    """

    resize: Literal["resize_and_crop", "stretch_and_crop", "scale_width", "none"] = "resize_and_crop"
    load_size: pydantic.PositiveInt | None = None
    random_scale: tuple[pydantic.PositiveFloat, pydantic.PositiveFloat] = (1.0, 1.0)
    flip: bool = True
    recolor_target: Annotated[float, pydantic.Field(ge=0.0, le=1.0)] = 0.0


@_frozen
class Optimizer:
    """An optax optimiser and its learning rate over the run.

    Attributes:
      name: Name of the optimiser in optax: `adam`, `adamw`, `nadam`, `radam`, `lion`, `rmsprop`, `sgd`, `adabelief` or
        `yogi`.
      learning_rate: Peak learning rate, above 0.
      schedule: Course of the learning rate: `constant`, `linear_decay` (constant until decay_start, then linearly to 0
        at the last step, as in CycleGAN) or `cosine` (to 0 at the last step).
      warmup_steps: Number of steps over which the rate first rises linearly from 0; at most half of the run is used.
      decay_start: Step at which `linear_decay` begins to fall; None takes half of the run.
      clip_norm: Largest global norm of the gradient, above 0; None does not clip.
      options: Further arguments of the optimiser, such as {"b2": 0.99}. b1, the decay of the first moment, is 0.5
        unless set here, as usual for GANs.
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
    """Settings of the controller that adapts the weights of quality losses to `Config.targets` after every round.

    Errors are in units of the metric: 1, but 30 dB for psnr.

    Attributes:
      gain: Change in the logarithm of a weight per unit of error in one round, above 0.
      smoothing: Share of earlier rounds in the smoothed measurement, in [0, 1); 0 uses the last round alone.
      dead_band: Error up to which a weight stays as it is, at least 0.
      limit: Largest factor by which a weight rises or falls in one round, above 1.
      bounds: Lowest and highest multiplier of a configured weight, above 0; they must enclose 1, the initial value.
    """

    gain: pydantic.PositiveFloat = 4.0
    smoothing: Fraction = 0.2
    dead_band: pydantic.NonNegativeFloat = 0.005
    limit: Annotated[float, pydantic.Field(gt=1.0)] = 2.0
    bounds: tuple[pydantic.PositiveFloat, pydantic.PositiveFloat] = (0.05, 1e3)

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Control":
        if not self.bounds[0] <= 1.0 <= self.bounds[1]:
            raise ValueError(f"bounds={self.bounds} must enclose 1, the initial multiplier")
        return self


@_frozen
class Config:
    """An experiment.

    A round evaluates the running-average generator on held-out pictures: it measures metrics, writes a sample grid,
    adapts weights to `targets` and decides which checkpoint is the best. Numbers of steps, pictures and parts are at
    least 1 unless 0 is explained.

    Attributes:
      steps: Number of optimiser steps in the whole run.
      batch_size: Number of pictures of each domain in a step, over all devices; a multiple of `accumulate` times the
        number of devices.
      image_size: Side of the square training crops in pixels, at least 16.
      seed: Seed of everything random, at least 0.
      checkpoint_every: Number of steps between checkpoints.
      round_every: Number of steps between rounds.
      log_every: Number of steps between lines of training metrics, each a mean over those steps.
      steps_per_dispatch: Number of steps in one call to the devices (lax.scan); `steps`, `checkpoint_every`,
        `round_every` and `log_every` must be multiples of it.
      data: Data source and its options.
      preprocess: Steps from pictures to training crops.
      validation: Pictures of each domain held out of the training split for rounds: a count, or a fraction below 1,
        which takes between 1 and 64. A data source with a validation split of its own uses that. 0 holds out nothing,
        and rounds then use training pictures.
      samples: Number of held-out pictures in a sample grid, one per row.
      round_size: Side in pixels of the squares of held-out pictures that rounds look at, at the scale of training
        (`preprocess.load_size`, or a picture's own size); a smaller picture is enlarged to it. None takes `image_size`:
        set it to the size at which pictures will be used, because a crop does not show what becomes of a whole.
      round_pictures: Largest number of held-out pictures of each domain that a round measures; never fewer than
        `samples`.
      metrics: Names of registered metrics (`gqst.metrics`) that rounds measure besides those that they always measure:
        `kid` between the fakes and the style domain on EfficientNet-Lite0, where there are 10 pictures of each; `lpips`
        (AlexNet) and `content_retention` (VGG-16) of fakes against their sources. A metric for which the pictures are
        too small is left out.
      start_from: Folder of another run, or a style (a file, or the name of one that comes with gqst), whose generator
        the run starts with; or `any_style`, the generator that comes with gqst for any style, with the run's own
        targets as the style. It must have the config's options. A run's discriminator is taken too if the config has
        the same. Optimisers, rounds and targets begin anew. None starts with random networks.
      generator: Network that translates sources to fakes, with its options.
      discriminator: Network that distinguishes fakes from targets, with its options.
      conditional: Whether the discriminator sees the source together with the picture, D(x, .); needs paired data and
        no pool.
      keep_colors: Whether style is a matter of brightness alone: training sees pictures without colour, and stylised
        pictures keep the colours of their sources.
      losses: Terms of the objective by label.
      targets: Held-out quality to reach, as in {"contrast_structure": 0.6}: after every round the weight of the
        quality loss of that metric is moved so that the next round comes nearer. Any metric with an aim may be named,
        among them contrast_structure (fakes and their sources), ssim and psnr (fakes and targets, paired data) and
        ssim_cycled (sources and cycles). Where no quality loss has that metric, one is added with weight 5; its floor
        is the target.
      control: Settings of the controller that adapts weights to `targets`.
      stop_after: Number of rounds in which neither the style distance nor the shortfall of quality has fallen after
        which the run ends early; None never ends it early.
      rollbacks: Largest number of times, at least 0, that a run returns to its last good checkpoint, each time with
        half the learning rate, after a loss that is not finite, inverted light, collapsed fakes or a dead generator.
        The next such event ends the run.
      generator_optimizer, discriminator_optimizer: Optimiser of either network.
      ema_decay: Decay per step of the running average of the generator's parameters, in [0, 1). Rounds, evaluation and
        stylising use the average.
      pool_size: Number of past fakes kept. Once that many are, the discriminator is shown one of them in place of a
        new fake with probability one half; 0 shows new fakes only.
      compute_dtype: Type of activations, `float32` or `bfloat16`; parameters, losses and metrics are float32.
      accumulate: Number of parts into which each device divides its share of a batch. They are processed one after
        another, so activations need correspondingly less memory. The update is that of the whole batch, except with
        batch norm, whose statistics are those of a part.
      remat: Activations of the generator that are recomputed for the gradient instead of kept: `none`, `blocks` (all
        but those passed from block to block) or `all`. Takes more time, and much less memory on TPU, a little less on
        GPU, no less on CPU.
      weights: Weight files of feature networks by network, such as {"vgg19": "vgg19.safetensors"}: .safetensors or
        .npz, in torchvision's names and layout. Networks not listed use the weights that come with gqst.
      keep_checkpoints: Number of newest checkpoints to keep, and the largest number of best ones kept besides.
      keep_every: Interval in steps at which checkpoints are kept permanently; None keeps none beyond the newest and
        the best.
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
    round_size: Annotated[int, pydantic.Field(ge=16)] | None = None
    round_pictures: pydantic.PositiveInt = 64
    metrics: tuple[str, ...] = ("kid", "lpips", "content_retention")
    start_from: str | None = None
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
"""Keys that may change when a run is resumed; a change of any other key needs another workdir."""


def choice(name: str, **options: Any) -> Choice:
    """Returns a registry member with its options, as in `choice("resnet", filters=64, blocks=9)`."""
    return Choice(name=name, options=options)


def loss(weight: Any = 1.0, /, *, term: str | None = None, **options: Any) -> Loss:
    """Returns a loss term, as in `loss(1.0, form="lsgan")`; `term` names it where the label does not."""
    return Loss(term=term, weight=weight, options=options)
