"""A round: the running-average generator on fixed held-out pictures, measured and shown."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gqst import metrics
from gqst.evaluation import networks
from gqst.models import conditions, translate
from gqst.ops import color
from gqst.quality import alarms, selection
from gqst.runtime import devices
from gqst.training.recipe import BACKWARD, FORWARD, Recipe

FEWEST = 10
"""Smallest number of pictures of a domain for which distances of features mean something."""

_STRUCTURES = 7
"""Number of structures over the range that a generator is asked for in a round."""


class Extremes(NamedTuple):
    """The held-out pictures that are worst and best by each metric.

    Attributes:
      labels: Metric, value and kind, "worst" or "best", of each picture.
      columns: Sources and fakes, f32[n h w 3].
    """

    labels: list[dict[str, Any]]
    columns: dict[str, np.ndarray]


class RoundResult(NamedTuple):
    """Result of a round.

    Attributes:
      metrics: Held-out metrics by name, and the number of `pictures`.
      standing: Measurements by which rounds are ranked.
      columns: Columns of a sample grid by title, f32[n h w 3].
      alarms: Alarms that the pictures raise.
      extremes: The worst and the best pictures.
    """

    metrics: dict[str, Any]
    standing: selection.Standing
    columns: dict[str, np.ndarray]
    alarms: list[alarms.Alarm]
    extremes: Extremes


class Round:
    """Held-out pictures, and one compiled function that translates and measures a batch of them.

    Attributes:
      traces: Number of times that the function was traced.
    """

    def __init__(self, recipe: Recipe, held_out: Mapping[str, np.ndarray], mesh: devices.DeviceMesh):
        """Loads the feature networks of the metrics.

        Args:
          recipe: Recipe of the run.
          held_out: Source and target, f32[n h w 3] in [0, 1]; n of each may differ unless they are paired.
          mesh: Devices that share the pictures.

        Raises:
          InputError: A metric does not exist, or cannot be measured on this data.
        """
        cfg = recipe.config
        self._recipe = recipe
        self._held_out = held_out
        self._mesh = mesh
        self._batch_size = mesh.padded(min(cfg.batch_size, len(held_out["source"])))
        # From here on a generator that does nothing raises an alarm.
        self._settled_at = max(cfg.steps // 4, 1)
        wanted = metrics.of_round(
            cfg.metrics,
            [target.metric for target in recipe.targets],
            side=min(held_out["source"].shape[1:3]),
            paired=recipe.paired,
            cycled=recipe.cycled,
        )
        self._of_pictures = [metric for metric in wanted if not metric.of_sets]
        self._of_sets = [metric for metric in wanted if metric.of_sets and not metric.combines]
        self._combined = [metric for metric in wanted if metric.combines]
        if min(map(len, held_out.values())) < FEWEST:
            self._of_sets = [metric for metric in self._of_sets if metric.network is None]
        params = networks.load(self._of_pictures)
        self._params = mesh.replicate(params)
        self._embedders = {
            name: networks.Embedder(params, name, mesh=mesh) for name, params in networks.load(self._of_sets).items()
        }
        # Features of the style by network, and its statistics, which the first round computes for all.
        self._style: dict[str, np.ndarray] = {}
        self._styles: networks.Styles | None = None
        self.traces = 0
        self._translate = jax.jit(
            self._one_batch,
            out_shardings=mesh.replicated,
            compiler_options=devices.compile_options(1, mesh.devices),
        )

    def __call__(self, ema: Any, step: int) -> RoundResult:
        """Measures the running average of the generator's variables at a step."""
        pictures, columns = self._all_batches(self._mesh.replicate(ema))
        values: dict[str, Any] = {name: float(np.mean(column)) for name, column in columns.items()}
        source, style, fake = self._held_out["source"], self._held_out["target"], pictures["fake"]
        if self._recipe.config.keep_colors:
            # The style is then one of brightness alone.
            source, fake, style = (np.asarray(color.grey(jnp.asarray(x))) for x in (source, fake, style))
        values |= self._measure_sets(fake, style)
        for metric in self._combined:
            if all(name in values for name in metric.combines):
                values[metric.name] = metric.estimate(*(values[name] for name in metric.combines)).value
        values["pictures"] = len(fake)
        standing = selection.Standing(
            step=step,
            style_distance=self._style_distance(values),
            shortfall=sum(target.shortfall(values[target.metric]) for target in self._recipe.targets),
        )
        settled = step >= self._settled_at
        repetition = (columns["repetition"], self._own_repetition) if "repetition" in columns else None
        raised = alarms.of_pictures(source, fake, settled=settled, repetition=repetition)
        # Fakes come right after their sources; jax.tree has sorted the names.
        grid = {"source": self._held_out["source"], "fake": pictures["fake"], **pictures}
        if self._recipe.structures is not None:
            grid["style"] = self._held_out["target"][self._style_of(np.arange(len(source)))]
        if self._recipe.paired:
            grid["target"] = self._held_out["target"]
        shown = {title: pictures[: self._recipe.config.samples] for title, pictures in grid.items()}
        return RoundResult(values, standing, shown, raised, self._extremes(pictures["fake"], columns))

    def _extremes(self, fakes: np.ndarray, columns: Mapping[str, np.ndarray]) -> Extremes:
        labels, rows = [], []
        for metric in self._of_pictures:
            values = columns[metric.name]
            if metric.better == "neither" or metric.output != "fake" or values.min() == values.max():
                continue
            lowest, highest = int(values.argmin()), int(values.argmax())
            worst, best = (lowest, highest) if metric.better == "higher" else (highest, lowest)
            for kind, row in (("worst", worst), ("best", best)):
                labels.append({"metric": metric.name, "value": float(values[row]), "kind": kind})
                rows.append(row)
        return Extremes(labels, {"source": self._held_out["source"][rows], "fake": fakes[rows]})

    def _style_distance(self, values: Mapping[str, float]) -> float:
        if self._recipe.paired:
            return 1.0 - values["ssim"]
        if "kid" in values:
            return values["kid"]
        # A few pictures of a style have no KID; their brushwork counts before their palette.
        return 1.0 - values["style_gain"] if "style_gain" in values else values["palette_distance"]

    def _measure_sets(self, fake: np.ndarray, style: np.ndarray) -> dict[str, float]:
        """Metrics of the fakes as a set, by name."""
        features: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for network, embed in self._embedders.items():
            if network not in self._style:
                self._style[network] = embed(style)
            features[network] = embed(fake), self._style[network]
        values = {}
        for metric in self._of_sets:
            pair: tuple[Any, Any] = (fake, style) if metric.network is None else features[metric.network]
            if metric.moments:
                pair = metrics.Moments.of(pair[0]), metrics.Moments.of(pair[1])
            values[metric.name] = metric.estimate(*pair).value
        return values

    def _all_batches(self, ema: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Translations of the sources, and the values of all pictures by metric."""
        count = len(self._held_out["source"])
        if self._styles is None:
            self._styles = self._style_statistics()
        parts: list[Any] = []
        for first in range(0, count, self._batch_size):
            # Wrapping around fills the last batch, so that only one shape is compiled.
            rows = np.arange(first, first + self._batch_size) % count
            batch = {"source": self._held_out["source"][rows]}
            if self._recipe.paired:
                batch["target"] = self._held_out["target"][rows]
            styles = self._styles
            if self._recipe.structures is not None:
                batch |= {
                    "style": self._held_out["target"][self._style_of(rows)],
                    "structure": self._structure_of(rows),
                }
                styles = self._mesh.shard(jax.tree.map(lambda x, rows=rows: x[self._style_of(rows)], styles))
            arguments = ema, self._params, styles, self._mesh.shard(batch)
            parts.append(jax.device_get(self._translate(*arguments)))
        pictures, values = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)
        return pictures, values

    def _style_statistics(self) -> networks.Styles:
        """Statistics of the held-out style pictures, for metrics that take them: their means, or those of each."""
        statistics = functools.partial(networks.style_statistics, self._of_pictures)
        rows = networks.Batched(statistics, self._params, mesh=self._mesh)(self._held_out["target"])
        if self._recipe.structures is not None:
            return rows
        return self._mesh.replicate(jax.tree.map(lambda x: x.mean(axis=0), rows))

    @functools.cached_property
    def _own_repetition(self) -> np.ndarray:
        """The repetition of each source itself."""
        measure = jax.jit(metrics.METRICS["repetition"], compiler_options=devices.compile_options(0))
        return np.concatenate([np.asarray(measure(x[None], x[None])) for x in self._held_out["source"]])

    def _style_of(self, rows: np.ndarray) -> np.ndarray:
        """Numbers of the style pictures that these sources are asked to look like, where generators are asked."""
        return rows % len(self._held_out["target"])

    def _structure_of(self, rows: np.ndarray) -> np.ndarray:
        """The structures that these sources are asked for, evenly over the range."""
        assert self._recipe.structures is not None
        return np.linspace(*self._recipe.structures, _STRUCTURES, dtype=np.float32)[rows % _STRUCTURES]

    def _one_batch(
        self, ema: Any, params: Mapping[str, Any], styles: networks.Styles, batch: Mapping[str, jax.Array]
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """Translations of a batch, and its values by metric."""
        self.traces += 1

        source, truth = batch["source"], batch.get("target")

        def apply(direction: str, pictures: jax.Array) -> jax.Array:
            variables = ema[direction]
            if self._recipe.structures is not None:
                style = conditions.style_of(
                    self._recipe.generator, variables, batch["style"] if direction == FORWARD else source
                )
                variables = conditions.conditioned(variables, conditions.Conditions(style, batch["structure"]))
            return translate.translate(
                self._recipe.generator, variables, pictures, keep_colors=self._recipe.config.keep_colors
            )

        outputs = {"fake": apply(FORWARD, source)}
        if self._recipe.cycled:
            outputs["cycled"] = apply(BACKWARD, outputs["fake"])
        values: dict[str, jax.Array] = {}
        if self._recipe.structures is not None:
            structure = metrics.METRICS["contrast_structure"](outputs["fake"], source)
            values["structure_error"] = jnp.abs(structure - batch["structure"])
        for name, output in outputs.items():
            for kind, reference in (("source", source), ("truth", truth)):
                chosen = [metric for metric in self._of_pictures if (metric.output, metric.reference) == (name, kind)]
                if not chosen or reference is None:
                    continue
                values |= networks.measure(chosen, params, output, reference, styles)
                if kind == "truth":
                    # The metrics of the untouched sources, as a baseline.
                    untouched = networks.measure(chosen, params, source, reference)
                    values |= {f"{metric}_source": value for metric, value in untouched.items()}
        return outputs, values
