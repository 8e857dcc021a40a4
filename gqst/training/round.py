"""A round: the running-average generator on fixed held-out pictures, measured and shown."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gqst import losses, metrics
from gqst.evaluation import networks
from gqst.metrics import sets
from gqst.models import translate
from gqst.ops import color
from gqst.quality import alarms, selection, targets
from gqst.runtime import devices
from gqst.training.recipe import BACKWARD, FORWARD, Recipe

FEWEST = 10
"""Pictures of each domain below which a kernel distance says nothing, and targets are not the style."""


TOLERANCE = 0.01
"""How far below a target, in units, still meets it."""


class Outcome(NamedTuple):
    """What a round found.

    Attributes:
      metrics: by name.
      standing: for the choice of the best round.
      columns: of a sample grid, f32[n h w 3] by title.
      alarms: what has gone wrong.
    """

    metrics: dict[str, Any]
    standing: selection.Standing
    columns: dict[str, np.ndarray]
    alarms: list[alarms.Alarm]


class Round:
    """The held-out pictures, and one compiled function that translates and measures a batch of them."""

    def __init__(
        self,
        recipe: Recipe,
        held_out: Mapping[str, np.ndarray],
        *,
        paired: bool,
        batch_size: int,
        samples: int,
        where: devices.Placement,
        settled_at: int = 0,
        frozen: Mapping[str, Any] | None = None,
    ):
        """Makes a round.

        Args:
          recipe: of the run.
          held_out: source and target, f32[n h w 3] in [0, 1]; n of each may differ unless paired.
          paired: whether target i is the truth of source i.
          batch_size: pictures in one call.
          samples: pictures in the grid.
          where: the devices that share the pictures.
          settled_at: step from which a generator that does nothing is an alarm.
          frozen: parameters of the feature networks that metrics need, from `networks.load`.
        """
        self._recipe = recipe
        self._held_out = held_out
        self._paired = paired
        self._where = where
        self._batch_size = self._where.rows(min(batch_size, len(held_out["source"])))
        self._samples = samples
        self._settled_at = settled_at
        params = dict(frozen or {})
        self._embed: networks.Embedder | None = None
        self._style: np.ndarray | None = None
        embedder = params.pop("efficientnet_lite0", None)
        if embedder is not None and min(map(len, held_out.values())) >= FEWEST:
            self._embed = networks.Embedder(embedder, where=self._where)
        self._frozen = self._where.copy(params)
        self._asked = _asked(recipe)
        self.traces = 0
        self._translate = jax.jit(
            self._one_batch,
            out_shardings=self._where.everywhere,
            compiler_options=devices.compile_options(1, self._where.devices),
        )

    def __call__(self, ema: Any, at: int) -> Outcome:
        """What the running average at a step is worth."""
        pictures, values = self._all_batches(self._where.copy(ema))
        result: dict[str, Any] = {name: float(np.mean(v)) for name, v in values.items()}
        source, target = self._held_out["source"], self._held_out["target"]
        fake, style = pictures["fake"], target
        if self._recipe.config.keep_colors:
            # Colours are no part of the style then.
            source, fake, style = (np.asarray(color.grey(jnp.asarray(x))) for x in (source, fake, style))
        result["palette_distance"] = sets.palette_distance(fake, style)
        result["pictures"] = len(pictures["fake"])
        if self._embed is not None:
            if self._style is None:
                self._style = self._embed(style)
            kid = sets.kid(self._embed(fake), self._style)
            result["kid"] = kid.value
        distance = 1.0 - result["ssim"] if self._paired else result.get("kid", result["palette_distance"])
        shortfall = sum(_shortfall(name, asked, result[name]) for name, asked in self._asked)
        standing = selection.Standing(step=at, style_distance=distance, shortfall=shortfall)
        found = alarms.of_pictures(source, fake, settled=at >= self._settled_at)
        # The fakes beside their sources: jax.tree has sorted the names.
        columns = {"source": self._held_out["source"], "fake": pictures["fake"], **pictures}
        if self._paired:
            columns["target"] = target
        return Outcome(result, standing, {name: c[: self._samples] for name, c in columns.items()}, found)

    def _all_batches(self, ema: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        count = len(self._held_out["source"])
        made: list[Any] = []
        for first in range(0, count, self._batch_size):
            # The last batch is filled up by going round, so that one shape is compiled.
            rows = np.arange(first, first + self._batch_size) % count
            batch = {"source": self._held_out["source"][rows]}
            if self._paired:
                batch["target"] = self._held_out["target"][rows]
            made.append(jax.device_get(self._translate(ema, self._frozen, self._where.share(batch))))
        pictures, values = jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *made)
        return pictures, values

    def _one_batch(
        self, ema: Any, frozen: Mapping[str, Any], batch: Mapping[str, jax.Array]
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        self.traces += 1
        source = batch["source"]
        keep = self._recipe.config.keep_colors
        fake = translate.translate(self._recipe.generator, ema[FORWARD], source, keep_colors=keep)
        pictures = {"fake": fake}
        values = {"contrast_structure": metrics.contrast_structure(fake, source)}
        values |= networks.compare(frozen, fake, source)
        if self._recipe.cycled:
            cycled = translate.translate(self._recipe.generator, ema[BACKWARD], fake, keep_colors=keep)
            pictures["cycled"] = cycled
            values["ssim_cycled"] = metrics.ssim(cycled, source)
        if self._paired:
            for name, measure in (("ssim", metrics.ssim), ("psnr", metrics.psnr)):
                values[name] = measure(fake, batch["target"])
                # What there was to gain: the sources as they came.
                values[f"{name}_source"] = measure(source, batch["target"])
        return pictures, values


def _asked(recipe: Recipe) -> list[tuple[str, float]]:
    """The held-out metrics that the config asks for, with their values: its targets, and floors that are none."""
    asked = [(target.metric, target.value) for target in recipe.targets]
    aimed = {label for target in recipe.targets for label in target.labels}
    for entry in recipe.objective:
        term, free = entry.term, entry.label not in aimed
        if free and isinstance(term, losses.Quality) and term.floor is not None and term.pair == "fake_source":
            asked.append((term.metric, term.floor))
    return asked


def _shortfall(name: str, asked: float, measured: float) -> float:
    """How far a metric stays below what was asked, in units; what is within the tolerance meets it."""
    missing = (asked - measured) / targets.UNITS.get(name, 1.0)
    return missing if missing > TOLERANCE else 0.0
