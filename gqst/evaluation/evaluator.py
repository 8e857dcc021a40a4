"""Evaluation of pictures against their sources, their truths and a style, batch by batch: sets may be of any size."""

import functools
import itertools
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
import scipy.stats  # type: ignore[import-untyped]
from jaxtyping import Float

from gqst import metrics, types
from gqst.evaluation import comparisons, networks, results
from gqst.evaluation.feature_sets import FeatureSet
from gqst.models.features import base as features_base
from gqst.runtime import devices, processes
from gqst.runtime import progress as runtime_progress

FEWEST = 10
"""Fewest pictures of a set for metrics of sets; estimates from fewer say nothing."""

_RESAMPLES = 1_000
_AGAINST = {"truth": "truths", "source": "sources", "style": "style"}

_T = TypeVar("_T")


class Evaluator:
    """Measures sets of pictures of one size, on all local devices; everything is compiled once.

    Each of several processes measures its own share (`processes.process_slice`) and returns the result of all.
    """

    def __init__(self, network: str = "efficientnet_lite0", weights: str | None = None) -> None:
        """Loads the networks.

        Args:
          network: Feature network of the metrics of sets, in `networks.EMBEDDERS`.
          weights: File of its weights; None takes the bundled ones.

        Raises:
          InputError: The weights cannot be used.
        """
        self._metrics = [metric for metric in metrics.METRICS.values() if metric.output == "fake"]
        of_pictures = [metric for metric in self._metrics if not metric.of_sets]
        self._mesh = devices.DeviceMesh()
        self._batch_size = self._mesh.padded(comparisons.BATCH)
        self._params = self._mesh.replicate(networks.load(of_pictures))
        self._embed = networks.Embedder(features_base.load(network, weights), network)
        self._measure = jax.jit(
            networks.measure, static_argnums=0, compiler_options=devices.compile_options(1, self._mesh.devices)
        )
        self._statistics = networks.Batched(functools.partial(networks.style_statistics, of_pictures), self._params)
        self._styles: dict[comparisons.Pictures, tuple[FeatureSet, networks.Styles]] = {}

    def __call__(
        self,
        items: Iterable[comparisons.Item],
        style: comparisons.Pictures | FeatureSet | None = None,
        *,
        progress: Callable[[int], None] = lambda done: None,
    ) -> results.Result:
        """Measures the outputs of items.

        Args:
          items: This process's share of the items, read once, one after the other; all have the same parts.
          style: This process's share of the pictures that the outputs as a set should look like, or the features of
            all of them.
          progress: Function called with the number of pictures measured so far.

        Returns:
          The result; without metrics of sets, and with the reason, if a set has fewer than `FEWEST` pictures or both
          are the same.

        Raises:
          InputError: There are no items.
        """
        features = FeatureSet()
        # Stored features have no statistics of layers.
        reference, statistics = (style, None) if isinstance(style, FeatureSet | None) else self._style_of(style)
        values: dict[str, dict[str, float]] = {}
        against: dict[str, str] = {}
        for batch in processes.lockstep(_batched(items, self._batch_size)):
            columns, compared = self._one_batch(batch, statistics)
            against |= compared
            rows = [{name: float(column[i]) for name, column in columns.items()} for i in range(len(batch))]
            values |= processes.gather_in_order([(item.name, row) for item, row in zip(batch, rows, strict=True)])
            if style is not None:
                features.add(self._features([item.output for item in batch]))
            progress(len(values))
        if not values:
            raise types.InputError("there are no pictures to measure")
        # A process without pictures of its own has compared nothing.
        for compared in processes.all_gather(against):
            against |= compared
        by_metric = {name: np.asarray([row[name] for row in values.values()]) for name in against}
        means = {name: float(np.mean(column)) for name, column in by_metric.items()}
        known = {name: _interval(column) for name, column in by_metric.items()}
        intervals = {name: ends for name, ends in known.items() if ends is not None}
        notes = {
            name: f"infinite, since {infinite} of {len(column)} pictures equal what they are compared with"
            for name, column in by_metric.items()
            if (infinite := int(np.isinf(column).sum()))
        }
        style_count = 0
        if reference is not None:
            style_count = reference.moments.count
            reason = _no_sets(features, reference)
            if reason is None:
                self._add_sets(features, reference, means, intervals, against)
            else:
                notes |= {m.name: reason for m in self._metrics if m.of_sets and m.network is not None}
        return results.Result(means, intervals, against, len(values), values, style_count, notes)

    def _one_batch(
        self, batch: list[comparisons.Item], styles: networks.Styles | None
    ) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Values of a batch by metric, and the kind of picture that each metric compares with."""
        values: dict[str, np.ndarray] = {}
        against: dict[str, str] = {}
        if not batch:
            return values, against
        # Its last picture fills up the last batch, so that only one shape is compiled.
        filled = batch + [batch[-1]] * (self._batch_size - len(batch))
        outputs = np.stack([item.output for item in filled])
        truths = [item.truth for item in filled if item.truth is not None]
        sources = [item.source for item in filled if item.source is not None]
        wanted = [m for m in self._metrics if not m.of_sets and m.smallest <= min(outputs.shape[1:3])]
        with_truths = tuple(m for m in wanted if m.reference == "truth" or m.truth_if_known) if truths else ()
        with_sources = tuple(m for m in wanted if m.reference == "source" and m not in with_truths)
        for kind, chosen, references in (("truth", with_truths, truths), ("source", with_sources, sources)):
            if references and chosen:
                pair = self._mesh.shard((outputs, np.stack(references)))
                columns = jax.device_get(self._measure(chosen, self._params, *pair, styles))
                values |= {name: column[: len(batch)] for name, column in columns.items()}
                against |= dict.fromkeys(columns, _AGAINST[kind])
        return values, against

    def _add_sets(
        self,
        output: FeatureSet,
        reference: FeatureSet,
        means: dict[str, float],
        intervals: dict[str, tuple[float, float]],
        against: dict[str, str],
    ) -> None:
        """Adds the metrics of sets of features, and those that combine others."""
        for metric in sorted(self._metrics, key=lambda m: bool(m.combines)):
            if metric.combines:
                # Each part has to compare with what its own record says: LPIPS to truths makes no ArtFID.
                parts = [metrics.METRICS[name] for name in metric.combines]
                if any(against.get(part.name) != _AGAINST[part.reference] for part in parts):
                    continue
                estimate = metric.estimate(*(means[part.name] for part in parts))
            elif metric.of_sets and metric.network is not None:
                pair = [x.moments if metric.moments else x.rows for x in (output, reference)]
                estimate = metric.estimate(*pair)
            else:
                continue
            means[metric.name] = estimate.value
            against[metric.name] = _AGAINST[metric.reference]
            if math.isfinite(estimate.error):
                intervals[metric.name] = (
                    estimate.value - 2.0 * estimate.error,
                    estimate.value + 2.0 * estimate.error,
                )

    def features_of(self, pictures: comparisons.Pictures) -> FeatureSet:
        """Returns the features of a style set, of all processes' shares; its pictures are read once for all calls."""
        return self._style_of(pictures)[0]

    def _style_of(self, pictures: comparisons.Pictures) -> tuple[FeatureSet, networks.Styles]:
        """Features of a style set, and the mean statistics of its pictures; none of these if it has no pictures."""
        if pictures not in self._styles:
            features = FeatureSet()
            rows: list[Any] = []
            for batch in processes.lockstep(_batched(pictures(), self._batch_size)):
                features.add(self._features(batch))
                if batch:
                    rows.append(self._statistics(np.stack(batch)))
            own = [len(jax.tree.leaves(part)[0]) for part in rows], [jax.tree.map(_mean, part) for part in rows]
            shares = processes.all_gather(own)
            counts = [count for share in shares for count in share[0]]
            means = [mean for share in shares for mean in share[1]]
            statistics = {
                name: [
                    np.average(np.asarray([mean[name][layer] for mean in means], np.float32), axis=0, weights=counts)
                    for layer in range(len(layers))
                ]
                for name, layers in (means[0] if means else {}).items()
            }
            self._styles[pictures] = features, statistics
        return self._styles[pictures]

    def _features(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Features of these pictures and of those of the other processes, in the order of the whole."""
        own = self._embed(np.stack(pictures)) if pictures else np.zeros((0, 0), np.float32)
        return processes.gather_rows_in_order(own)


def evaluate(
    comparison: comparisons.Comparison,
    *,
    network: str = "efficientnet_lite0",
    weights: str | None = None,
    with_baselines: bool = True,
    save: pathlib.Path | None = None,
) -> dict[str, results.Result]:
    """Measures the outputs of a comparison, and baselines beside them.

    Args:
      comparison: Pictures, and what they are compared with.
      network: Feature network of the metrics of sets.
      weights: File of its weights; None takes the bundled ones.
      with_baselines: Whether to measure baselines.
      save: File for the features of the style, so that they need not be computed again.

    Returns:
      Results by title: "outputs", then the baselines.

    Raises:
      InputError: None of the pictures can be measured, the weights or stored features cannot be used, or there is no
        style whose features to save.
    """
    if save is not None and comparison.style is None:
        raise types.InputError("there are no pictures of a style whose statistics could be saved")
    about = {"network": network, "size": str(comparison.about["size"])}
    file = comparison.style_file
    stored = None if file is None else processes.run_on_all(lambda: FeatureSet.load(file, about))
    evaluator = processes.run_on_all(lambda: Evaluator(network, weights))

    def measure(title: str, items: Iterable[comparisons.Item]) -> results.Result:
        with runtime_progress.Counter(f"measuring {title}", quiet=not processes.is_first()) as counter:
            return evaluator(items, stored or comparison.style, progress=lambda n: counter(n, max(comparison.total, n)))

    measured = {"outputs": measure("outputs", comparison.items())}
    if save is not None and comparison.style is not None:
        features = evaluator.features_of(comparison.style)
        processes.run_on_first(lambda: features.save(save, about))
    if not with_baselines:
        return measured
    if comparison.untouched is not None:
        measured["untouched sources"] = measure("sources", comparison.untouched())
        if comparison.palette is not None:
            recolored = comparisons.recolored(comparison.untouched, comparison.palette)
            measured["colour transfer"] = measure("colour transfer", recolored)
    if comparison.real is not None:
        measured["real style pictures"] = measure("real", comparison.real())
    return measured


def _mean(rows: np.ndarray) -> list[Any]:
    return np.mean(rows, axis=0).tolist()


def _batched(items: Iterable[_T], count: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, count)):
        yield batch


def _no_sets(output: FeatureSet, reference: FeatureSet) -> str | None:
    """Returns why two sets have no distance; None if they have one."""
    smaller = min(output.moments.count, reference.moments.count)
    if smaller < FEWEST:
        return f"not reported, {smaller} pictures of a set are fewer than {FEWEST}"
    if len(output.rows) == len(reference.rows) and {row.tobytes() for row in output.rows} == {
        row.tobytes() for row in reference.rows
    }:
        return "not reported, both sets are the same pictures"
    return None


def _interval(values: Float[np.ndarray, "n"]) -> tuple[float, float] | None:
    """95 % percentile interval of the mean (Efron 1979); None for a single picture and for infinite means."""
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    interval = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=_RESAMPLES, batch=100, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(interval.low), float(interval.high)
