"""Quality as a differentiable loss: dm-pix's SSIM and PSNR inside the step."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import jax

from gqst import config, types
from gqst.losses import base
from gqst.quality import controller, metrics

Measure = Literal["ssim", "psnr", "contrast_structure"]
Pair = Literal["fake_target", "cycled_source", "identity_target", "fake_source"]

_NEEDS: dict[str, tuple[base.Need, ...]] = {
    "fake_target": ("paired",),
    "cycled_source": ("cycled",),
    "identity_target": ("identity",),
    "fake_source": (),
}


_HELD_OUT: dict[str, tuple[Measure, Pair]] = {
    "contrast_structure": ("contrast_structure", "fake_source"),
    "ssim": ("ssim", "fake_target"),
    "psnr": ("psnr", "fake_target"),
    "ssim_cycled": ("ssim", "cycled_source"),
}
"""What is optimised for a metric of a round, by its name there."""

_WEIGHT = 5.0


def aim(
    losses: Mapping[str, config.Loss], targets: Mapping[str, float]
) -> tuple[dict[str, config.Loss], tuple[controller.Target, ...]]:
    """The losses with which targets can be met, and the targets with the labels of these.

    Raises:
      InputError: a target on what no round measures, or a value that cannot be reached.
    """
    made, aims = dict(losses), []
    for name, value in targets.items():
        if name not in _HELD_OUT:
            raise types.InputError(f"targets: there is no metric {name!r} to aim at; there are: {', '.join(_HELD_OUT)}")
        metric, pair = _HELD_OUT[name]
        if not 0.0 < value < (100.0 if metric == "psnr" else 1.0):
            raise types.InputError(f"targets: {name}={value} cannot be met: it lies between 0 and 1, psnr below 100 dB")
        labels = [label for label, entry in made.items() if _is_of(label, entry, metric, pair)]
        if not labels:
            labels = [f"target_{name}"]
            made[labels[0]] = config.loss(_WEIGHT, term="quality", metric=metric, pair=pair)
        if metric != "psnr":
            for label in labels:
                options = {**made[label].options, "floor": value}
                made[label] = dataclasses.replace(made[label], options=options)
        aims.append(controller.Target(name, value, tuple(labels)))
    return made, tuple(aims)


def _is_of(label: str, entry: config.Loss, metric: str, pair: str) -> bool:
    asked = entry.options.get("metric"), entry.options.get("pair")
    return entry.on and (entry.term or label) == "quality" and asked == (metric, pair)


def _needs(*, metric: Measure, pair: Pair, floor: float | None = None) -> tuple[base.Need, ...]:
    if pair == "fake_source" and metric != "contrast_structure":
        raise types.InputError(
            f"a quality loss of {metric} on fake_source would punish every change of colour, which is "
            "what style is: use contrast_structure there"
        )
    if floor is not None and metric == "psnr":
        raise types.InputError("a quality loss of psnr takes no floor: it is a log-MSE, use its weight")
    return _NEEDS[pair]


@base.term("quality", needs=_needs, steered=True)
def quality(context: base.Context, *, metric: Measure, pair: Pair, floor: float | None = None) -> jax.Array:
    """How far a pair of pictures falls short in quality, f32[b]; method.md's L_qual.

    Args:
      context: with what the pair needs.
      metric: `ssim` and `contrast_structure` lose 1 minus the metric; `psnr` is the logarithm of the mean
        squared error, clamped at 50 dB.
      pair: `fake_target` (paired data), `cycled_source`, `identity_target`, or `fake_source` (only for
        contrast_structure).
      floor: the metric's value above which nothing is lost: max(floor - metric, 0). None loses
        1 - metric everywhere.
    """
    pairs = {
        "fake_target": (context.fake, context.target),
        "cycled_source": (context.cycled, context.source),
        "identity_target": (context.identity, context.target),
        "fake_source": (context.fake, context.source),
    }
    picture, reference = pairs[pair]
    assert picture is not None
    if metric == "psnr":
        return metrics.log_mse(picture, reference)
    value = metrics.METRICS[metric](picture, reference)
    return 1.0 - value if floor is None else jax.nn.relu(floor - value)
