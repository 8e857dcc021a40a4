"""Pictures measured against their sources, their truths and a style, one after the other: any number fits."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from gqst import types
from gqst.inference import statistics
from gqst.models.features import base as features_base
from gqst.quality import baselines, distribution, figures, metrics
from gqst.runtime import devices, processes
from gqst.training import perception

BATCH = 16

_RESAMPLES = 1_000

_T = TypeVar("_T")


class Item(NamedTuple):
    """A picture to be measured; all are f32[h w 3] in [0, 1], of one size.

    Attributes:
      name: of the picture.
      output: the picture.
      source: what it was made from, if that is known.
      truth: what it should have become, if that is known.
    """

    name: str
    output: np.ndarray
    source: np.ndarray | None = None
    truth: np.ndarray | None = None


Items = Callable[[], Iterable[Item]]
Pictures = Callable[[], Iterable[np.ndarray]]


class Evaluator:
    """Measures sets of pictures of one size, on all local devices; everything is compiled once.

    Of several processes each measures its own share (`processes.own`) and has the figures of all.
    """

    def __init__(self, network: str = "efficientnet_lite0", weights: str | None = None) -> None:
        """Loads the networks.

        Args:
          network: of the distances of sets, in `perception.EMBEDDERS`.
          weights: a file of its weights; None takes the bundled ones.

        Raises:
          InputError: the weights cannot be used.
        """
        self._where = devices.Placement()
        self._rows = self._where.rows(BATCH)
        self._params = self._where.copy(perception.load(("lpips", "content_retention")))
        self._embed = perception.Embedder(features_base.load(network, weights), network)
        self._compare = jax.jit(_compare, static_argnames="names", compiler_options=devices.compile_options(1))
        self._styles: dict[Pictures, statistics.Statistics] = {}

    def __call__(
        self,
        items: Iterable[Item],
        style: Pictures | statistics.Statistics | None = None,
        *,
        progress: Callable[[int], None] = lambda done: None,
    ) -> figures.Measured:
        """What the items are worth.

        Args:
          items: this process's share of them, read once, one after the other; all with the same parts.
          style: this process's share of pictures that the outputs as a set should look like, or statistics of all.
          progress: called with how many pictures are done.

        Returns:
          the figures; without distances of sets where one of them has fewer than 2 pictures.

        Raises:
          InputError: there are no items.
        """
        features = statistics.Statistics()
        values: dict[str, dict[str, float]] = {}
        against: dict[str, str] = {}
        for batch in processes.in_step(_batched(items, self._rows)):
            found, compared = self._one_batch(batch)
            against |= compared
            single = [{name: float(column[i]) for name, column in found.items()} for i in range(len(batch))]
            values |= processes.in_order([(item.name, each) for item, each in zip(batch, single, strict=True)])
            if style is not None:
                features.add(self._features([item.output for item in batch]))
            progress(len(values))
        if not values:
            raise types.InputError("there are no pictures to measure")
        # A process without a share has compared nothing itself.
        for kinds in processes.gathered(against):
            against |= kinds
        columns = {name: np.asarray([v[name] for v in values.values()]) for name in against}
        means = {name: float(np.mean(column)) for name, column in columns.items()}
        intervals = {name: _bootstrap(column) for name, column in columns.items()}
        count = 0
        if style is not None:
            wanted = style if isinstance(style, statistics.Statistics) else self.statistics_of(style)
            count = wanted.moments.count
            if min(len(values), count) > 1:
                _add_distances(features, wanted, means, intervals, against)
        return figures.Measured(means, intervals, against, len(values), values, count)

    def _one_batch(self, batch: list[Item]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        found: dict[str, np.ndarray] = {}
        against: dict[str, str] = {}
        if not batch:
            return found, against
        # One shape is compiled: the last batch is filled up with its last picture.
        filled = batch + [batch[-1]] * (self._rows - len(batch))
        outputs = np.stack([item.output for item in filled])
        truths = [item.truth for item in filled if item.truth is not None]
        sources = [item.source for item in filled if item.source is not None]
        for kind, parts in (("truths", truths), ("sources", sources)):
            if not parts:
                continue
            names = tuple(_names(kind, outputs.shape[1:3], perceptual="lpips" not in found))
            pairs = self._where.share((outputs, np.stack(parts)))
            made = jax.device_get(self._compare(self._params, *pairs, names=names))
            found |= {name: column[: len(batch)] for name, column in made.items()}
            against |= dict.fromkeys(made, kind)
        return found, against

    def statistics_of(self, pictures: Pictures) -> statistics.Statistics:
        """What the distances of sets need to know of these, of all processes' shares; read once for all calls."""
        known = self._styles.get(pictures)
        if known is None:
            known = self._styles[pictures] = statistics.Statistics()
            for batch in processes.in_step(_batched(pictures(), self._rows)):
                known.add(self._features(batch))
        return known

    def _features(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Of these and of those of the other processes, in the order of the whole."""
        own = self._embed(np.stack(pictures)) if pictures else np.zeros((0, 0), np.float32)
        return processes.rows_in_order(own)


def recolored(items: Items, style: Pictures, *, seed: int = 0, most: int = 256) -> Iterator[Item]:
    """The outputs with the colours of random pictures of the style; see `baselines.color_transfer`.

    Args:
      items: this process's share of what is to be recoloured.
      style: pictures that colours are taken from, the same on all processes.
      seed: of the choice.
      most: the first so many of them are chosen from.
    """
    choice = list(itertools.islice(style(), most))
    draw = np.random.default_rng(seed)
    for item in items():
        # One for each process, so that their shares together have the colours that one process would give.
        drawn = [draw.integers(len(choice)) for _ in range(jax.process_count())][jax.process_index()]
        yield item._replace(output=baselines.color_transfer(item.output, choice[drawn]))


def _batched(items: Iterable[_T], count: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, count)):
        yield batch


def _names(kind: str, size: tuple[int, ...], *, perceptual: bool) -> Iterator[str]:
    """The metrics that say something about pictures of this size against truths or sources."""
    large = min(size) >= metrics.WINDOW
    if kind == "truths":
        yield from ("ssim", "psnr", "pixel_accuracy") if large else ("psnr", "pixel_accuracy")
        if min(size) >= metrics.MS_SMALLEST:
            yield "ms_ssim"
    else:
        if large:
            yield "contrast_structure"
        yield from ("content_retention", "color_shift")
    if perceptual and min(size) >= 32:
        yield "lpips"


def _compare(params: Any, one: jax.Array, other: jax.Array, *, names: tuple[str, ...]) -> dict[str, jax.Array]:
    networks = {"lpips": "alexnet", "content_retention": "vgg16"}
    taken = {networks[name]: params[networks[name]] for name in names if name in networks}
    made = perception.compare(taken, one, other)
    return made | {name: metrics.METRICS[name](one, other) for name in names if name not in networks}


def _bootstrap(values: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the mean (Efron 1979)."""
    draw = np.random.default_rng(seed)
    means = [float(np.mean(values[draw.integers(len(values), size=len(values))])) for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _add_distances(
    features: statistics.Statistics,
    wanted: statistics.Statistics,
    means: dict[str, float],
    intervals: dict[str, tuple[float, float]],
    against: dict[str, str],
) -> None:
    kid = distribution.kid(features.rows, wanted.rows)
    means["kid"] = kid.value
    if np.isfinite(kid.error):
        intervals["kid"] = (kid.value - 2.0 * kid.error, kid.value + 2.0 * kid.error)
    means["frechet"] = distribution.frechet(features.moments, wanted.moments)
    against |= {"kid": "style", "frechet": "style"}
    if against.get("lpips") == "sources":
        means["art_fid"] = distribution.art_fid(means["lpips"], means["frechet"])
        against["art_fid"] = "style"
