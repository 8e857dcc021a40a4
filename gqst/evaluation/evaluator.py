"""Pictures measured against their sources, their truths and a style, one after the other: any number fits."""

import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

from gqst import metrics, types
from gqst.evaluation import comparisons, feature_sets, networks, results
from gqst.metrics import sets
from gqst.models.features import base as features_base
from gqst.runtime import devices, processes
from gqst.runtime import progress as runtime_progress

_RESAMPLES = 1_000

_T = TypeVar("_T")


class Evaluator:
    """Measures sets of pictures of one size, on all local devices; everything is compiled once.

    Of several processes each measures its own share (`processes.own`) and has the figures of all.
    """

    def __init__(self, network: str = "efficientnet_lite0", weights: str | None = None) -> None:
        """Loads the networks.

        Args:
          network: of the distances of sets, in `networks.EMBEDDERS`.
          weights: a file of its weights; None takes the bundled ones.

        Raises:
          InputError: the weights cannot be used.
        """
        self._where = devices.Placement()
        self._rows = self._where.rows(comparisons.BATCH)
        self._params = self._where.copy(networks.load(("lpips", "content_retention")))
        self._embed = networks.Embedder(features_base.load(network, weights), network)
        self._compare = jax.jit(_compare, static_argnames="names", compiler_options=devices.compile_options(1))
        self._styles: dict[comparisons.Pictures, feature_sets.Statistics] = {}

    def __call__(
        self,
        items: Iterable[comparisons.Item],
        style: comparisons.Pictures | feature_sets.Statistics | None = None,
        *,
        progress: Callable[[int], None] = lambda done: None,
    ) -> results.Measured:
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
        features = feature_sets.Statistics()
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
            wanted = style if isinstance(style, feature_sets.Statistics) else self.statistics_of(style)
            count = wanted.moments.count
            if min(len(values), count) > 1:
                _add_distances(features, wanted, means, intervals, against)
        return results.Measured(means, intervals, against, len(values), values, count)

    def _one_batch(self, batch: list[comparisons.Item]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
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

    def statistics_of(self, pictures: comparisons.Pictures) -> feature_sets.Statistics:
        """What the distances of sets need to know of these, of all processes' shares; read once for all calls."""
        known = self._styles.get(pictures)
        if known is None:
            known = self._styles[pictures] = feature_sets.Statistics()
            for batch in processes.in_step(_batched(pictures(), self._rows)):
                known.add(self._features(batch))
        return known

    def _features(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Of these and of those of the other processes, in the order of the whole."""
        own = self._embed(np.stack(pictures)) if pictures else np.zeros((0, 0), np.float32)
        return processes.rows_in_order(own)


def evaluate(
    comparison: comparisons.Comparison,
    *,
    network: str = "efficientnet_lite0",
    weights: str | None = None,
    with_baselines: bool = True,
    save: pathlib.Path | None = None,
) -> dict[str, results.Measured]:
    """The figures of the outputs, and of baselines by name beside them.

    Args:
      comparison: to be measured.
      network: whose features the distances of sets compare.
      weights: a file of its weights; None takes the bundled ones.
      with_baselines: whether to measure baselines.
      save: file for the statistics of the style, that they need not be computed again.

    Raises:
      InputError: none of the pictures can be measured, the weights or statistics cannot be used, or there is no
        style whose statistics to save.
    """
    if save is not None and comparison.style is None:
        raise types.InputError("there are no pictures of a style whose statistics could be saved")
    about = {"network": network, "size": str(comparison.about["size"])}
    known = comparison.known
    style = None if known is None else processes.together(lambda: feature_sets.load(known, about))
    evaluator = processes.together(lambda: Evaluator(network, weights))

    def one(title: str, items: Iterable[comparisons.Item]) -> results.Measured:
        with runtime_progress.Counter(f"measuring {title}", quiet=not processes.first()) as counter:
            return evaluator(items, style or comparison.style, progress=lambda n: counter(n, max(comparison.total, n)))

    found = {"outputs": one("outputs", comparison.items())}
    if save is not None and comparison.style is not None:
        wanted = evaluator.statistics_of(comparison.style)
        processes.at_first(lambda: feature_sets.save(save, wanted, about))
    if not with_baselines:
        return found
    if comparison.untouched is not None:
        found["untouched sources"] = one("sources", comparison.untouched())
        if comparison.palette is not None:
            found["colour transfer"] = one(
                "colour transfer", comparisons.recolored(comparison.untouched, comparison.palette)
            )
    if comparison.real is not None:
        found["real style pictures"] = one("real", comparison.real())
    return found


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
    network_of = {"lpips": "alexnet", "content_retention": "vgg16"}
    taken = {network_of[name]: params[network_of[name]] for name in names if name in network_of}
    made = networks.compare(taken, one, other)
    return made | {name: metrics.METRICS[name](one, other) for name in names if name not in network_of}


def _bootstrap(values: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the mean (Efron 1979)."""
    draw = np.random.default_rng(seed)
    means = [float(np.mean(values[draw.integers(len(values), size=len(values))])) for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _add_distances(
    features: feature_sets.Statistics,
    wanted: feature_sets.Statistics,
    means: dict[str, float],
    intervals: dict[str, tuple[float, float]],
    against: dict[str, str],
) -> None:
    kid = sets.kid(features.rows, wanted.rows)
    means["kid"] = kid.value
    if np.isfinite(kid.error):
        intervals["kid"] = (kid.value - 2.0 * kid.error, kid.value + 2.0 * kid.error)
    means["frechet"] = sets.frechet(features.moments, wanted.moments)
    against |= {"kid": "style", "frechet": "style"}
    if against.get("lpips") == "sources":
        means["art_fid"] = sets.art_fid(means["lpips"], means["frechet"])
        against["art_fid"] = "style"
