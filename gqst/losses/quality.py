"""Quality as a differentiable loss: dm-pix's SSIM and PSNR inside the step."""

from typing import Literal

import jax

from gqst import metrics, types
from gqst.losses import base

Measure = Literal["ssim", "psnr", "contrast_structure"]
Pair = Literal["fake_target", "cycled_source", "identity_target", "fake_source"]

_NEEDS: dict[str, tuple[base.Need, ...]] = {
    "fake_target": ("paired",),
    "cycled_source": ("cycled",),
    "identity_target": ("identity",),
    "fake_source": (),
}


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
