"""What has gone wrong with a run, told from what a round measured."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float

from gqst.ops import color

Kind = Literal["inversion", "collapse", "dead", "does_nothing", "discriminator_wins", "not_finite"]

ROLL_BACK: frozenset[Kind] = frozenset({"inversion", "collapse", "dead", "not_finite"})
"""Alarms after which a run goes back to its last good checkpoint with half the learning rate; others only warn."""

INVERTED = -0.2
COLLAPSED = 0.1
UNCHANGED = 0.01
WON = 0.02
_THUMBNAIL = 8


@dataclasses.dataclass(frozen=True)
class Alarm:
    """One alarm.

    Attributes:
      kind: what has gone wrong.
      message: a sentence with the figure that tells it.
    """

    kind: Kind
    message: str


def of_pictures(
    source: Float[np.ndarray, "n h w 3"], fake: Float[np.ndarray, "n h w 3"], *, settled: bool
) -> list[Alarm]:
    """The alarms that pictures in [0, 1] and their translations give.

    Args:
      source: held-out pictures.
      fake: what the generator makes of them.
      settled: whether the run is far enough to have changed something.
    """
    if not np.isfinite(fake).all():
        return [Alarm("not_finite", "the fakes have values that are not numbers")]
    made = []
    correlation = luma_correlation(source, fake)
    if correlation < INVERTED:
        made.append(Alarm("inversion", f"light and dark have changed places: luma correlates at {correlation:.2f}"))
    spread = diversity(source, fake)
    if spread < COLLAPSED:
        made.append(Alarm("collapse", f"fakes of different sources look alike: {spread:.2f} of the sources' spread"))
    change = float(np.mean(np.abs(fake - source)))
    if settled and change < UNCHANGED:
        made.append(Alarm("does_nothing", f"fakes differ from their sources by {change:.4f} on average"))
    return made


def of_training(metrics: Mapping[str, float], last: Mapping[str, float]) -> list[Alarm]:
    """The alarms that training metrics give.

    Args:
      metrics: their means since the last round.
      last: those of the last step. Where only biases have a gradient, a layer of ReLUs is off for every pixel of every
        picture: what lies before it is lost for good.
    """
    made = []
    if last.get("without_gradient/generator") == 1.0 and last["gradient_norm/generator"] > 0.0:
        what = "only biases of the generator get a gradient: a layer of ReLUs is off for every pixel, and stays so"
        made.append(Alarm("dead", what))
    for name, value in metrics.items():
        if name.startswith("loss/adversarial") and name.endswith("_discriminator") and 0.0 <= value < WON:
            what = f"the generator learns nothing from the game: {name} is {value:.4f}"
            made.append(Alarm("discriminator_wins", what))
    return made


def luma_correlation(one: Float[np.ndarray, "n h w 3"], other: Float[np.ndarray, "n h w 3"]) -> float:
    """The mean over pictures of the correlation of their brightness with another's, in [-1, 1].

    Contrast and structure alone cannot tell an inversion where pictures are mostly flat: there their constants
    outweigh the sign. A picture without contrast correlates at 0.
    """
    first, second = (color.luma_of_arrays(x).reshape(len(x), -1) for x in (one, other))
    first, second = (x - x.mean(1, keepdims=True) for x in (first, second))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(np.mean(np.sum(first * second, axis=1) / np.maximum(norms, 1e-9)))


def diversity(source: Float[np.ndarray, "n h w 3"], fake: Float[np.ndarray, "n h w 3"]) -> float:
    """How different the fakes are from each other, over how different their sources are; at least 0.

    Differences are root mean squares around the mean picture, of brightness at 8 x 8. A single picture, or
    sources that are all alike, give 1.
    """
    thumbs = [_thumbnails(x) for x in (source, fake)]
    of_source, of_fake = (float(np.sqrt(np.mean((x - x.mean(0, keepdims=True)) ** 2))) for x in thumbs)
    return of_fake / of_source if of_source > 1e-4 else 1.0


def _thumbnails(pictures: np.ndarray) -> np.ndarray:
    """Brightness at 8 x 8, by means over blocks; what is left at the edges is cut off."""
    luma = color.luma_of_arrays(pictures)
    height, width = (max(side // _THUMBNAIL, 1) for side in luma.shape[1:])
    luma = luma[:, : height * _THUMBNAIL, : width * _THUMBNAIL]
    return luma.reshape(len(luma), -1, height, luma.shape[2] // width, width).mean((2, 4))
