"""Alarms: signs that a run has gone wrong, in the pictures and metrics of a round."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float

from gqst.ops import color

Kind = Literal["inversion", "collapse", "dead", "does_nothing", "discriminator_wins", "not_finite", "repetition"]

ROLL_BACK: frozenset[Kind] = frozenset({"inversion", "collapse", "dead", "not_finite"})
"""Alarms after which a run goes back to its last good checkpoint with half the learning rate; others only warn."""

INVERTED = -0.2
"""Correlation of brightness below which fakes are inverted."""

COLLAPSED = 0.1
"""Diversity of the fakes, relative to their sources, below which they have collapsed."""

UNCHANGED = 0.01
"""Mean absolute change of a pixel below which the generator does nothing."""

WON = 0.02
"""Adversarial loss of a discriminator below which the generator learns nothing from it."""

REPEATED = 0.6
"""Repetition that a tenth of the fakes exceed, above which the generator stamps flat parts; paintings reach 0.5.

Fakes that repeat themselves less than their sources do not count.
"""

_THUMBNAIL = 8


@dataclasses.dataclass(frozen=True)
class Alarm:
    """One alarm.

    Attributes:
      kind: Kind of failure.
      message: Sentence that describes it, with the measured value.
    """

    kind: Kind
    message: str


def of_pictures(
    source: Float[np.ndarray, "n h w 3"],
    fake: Float[np.ndarray, "n h w 3"],
    *,
    settled: bool,
    repetition: tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]] | None = None,
) -> list[Alarm]:
    """Returns the alarms that pictures and their translations raise.

    Args:
      source: Held-out pictures in [0, 1].
      fake: Their translations.
      settled: Whether the run is far enough along that the generator should change something.
      repetition: The metric of this name of each fake, and of its source, which may repeat itself too, as boards do;
        None if it was not measured.
    """
    if not np.isfinite(fake).all():
        return [Alarm("not_finite", "the fakes have values that are not numbers")]
    raised = []
    correlation = luma_correlation(source, fake)
    if correlation < INVERTED:
        raised.append(Alarm("inversion", f"light and dark have changed places: luma correlates at {correlation:.2f}"))
    spread = diversity(source, fake)
    if spread < COLLAPSED:
        raised.append(Alarm("collapse", f"fakes of different sources look alike: {spread:.2f} of the sources' spread"))
    change = float(np.mean(np.abs(fake - source)))
    if settled and change < UNCHANGED:
        raised.append(Alarm("does_nothing", f"fakes differ from their sources by {change:.4f} on average"))
    if settled and repetition is not None:
        fakes, sources = repetition
        high = float(np.quantile(np.where(fakes > sources, fakes, 0.0), 0.9))
        if high > REPEATED:
            raised.append(
                Alarm("repetition", f"flat parts are stamped: a tenth of the fakes repeat themselves at {high:.2f}")
            )
    return raised


def of_training(metrics: Mapping[str, float], last: Mapping[str, float]) -> list[Alarm]:
    """Returns the alarms that training metrics raise.

    Args:
      metrics: Means of the training metrics since the last round.
      last: Training metrics of the last step. Where only biases have a gradient, a layer of ReLUs is off for every
        pixel of every picture, and everything before it has stopped learning for good.
    """
    raised = []
    if last.get("without_gradient/generator") == 1.0 and last["gradient_norm/generator"] > 0.0:
        message = "only biases of the generator get a gradient: a layer of ReLUs is off for every pixel, and stays so"
        raised.append(Alarm("dead", message))
    for name, value in metrics.items():
        if name.startswith("loss/adversarial") and name.endswith("_discriminator") and 0.0 <= value < WON:
            message = f"the generator learns nothing from the game: {name} is {value:.4f}"
            raised.append(Alarm("discriminator_wins", message))
    return raised


def luma_correlation(source: Float[np.ndarray, "n h w 3"], fake: Float[np.ndarray, "n h w 3"]) -> float:
    """Returns the correlation between the brightness of sources and of fakes, averaged over pictures, in [-1, 1].

    `metrics.contrast_structure` cannot detect that mostly flat pictures are inverted, because its constants outweigh
    the sign there. A picture without contrast correlates at 0.
    """
    a, b = (color.luma_of_arrays(x).reshape(len(x), -1) for x in (source, fake))
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean(np.sum(a * b, axis=1) / np.maximum(norms, 1e-9)))


def diversity(source: Float[np.ndarray, "n h w 3"], fake: Float[np.ndarray, "n h w 3"]) -> float:
    """Returns the spread of the fakes around their mean picture, relative to that of their sources; at least 0.

    Spreads are root mean squares of brightness at 8 x 8. A single picture, or sources that are all alike, give 1.
    """
    thumbnails = [_thumbnails(x) for x in (source, fake)]
    before, after = (float(np.sqrt(np.mean((x - x.mean(0, keepdims=True)) ** 2))) for x in thumbnails)
    return after / before if before > 1e-4 else 1.0


def _thumbnails(pictures: np.ndarray) -> np.ndarray:
    """Brightness at 8 x 8, by means over blocks; rows and columns that do not fill a block are cut off."""
    luma = color.luma_of_arrays(pictures)
    height, width = (max(side // _THUMBNAIL, 1) for side in luma.shape[1:])
    luma = luma[:, : height * _THUMBNAIL, : width * _THUMBNAIL]
    return luma.reshape(len(luma), -1, height, luma.shape[2] // width, width).mean((2, 4))
