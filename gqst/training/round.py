"""A round: the running-average generator on fixed held-out pictures, measured and shown."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gqst.losses import base as losses
from gqst.quality import distribution, metrics, selection
from gqst.training import colors, parallel, perception, recipes

FEWEST = 10
"""Pictures of each domain below which a kernel distance says nothing, and targets are not the style."""


class Round:
    """The held-out pictures, and one compiled function that translates and measures a batch of them."""

    def __init__(
        self,
        recipe: recipes.Recipe,
        held_out: Mapping[str, np.ndarray],
        *,
        paired: bool,
        batch_size: int,
        samples: int,
        frozen: Mapping[str, Any] | None = None,
    ):
        """Makes a round.

        Args:
          recipe: of the run.
          held_out: source and target, f32[n h w 3] in [0, 1]; n of each may differ unless paired.
          paired: whether target i is the truth of source i.
          batch_size: pictures in one call.
          samples: pictures in the grid.
          frozen: parameters of the feature networks that metrics need, from `perception.load`.
        """
        self._recipe = recipe
        self._held_out = held_out
        self._paired = paired
        self._batch_size = min(batch_size, len(held_out["source"]))
        self._samples = samples
        self._frozen = dict(frozen or {})
        self._embed: perception.Embedder | None = None
        self._style: np.ndarray | None = None
        embedder = self._frozen.pop("efficientnet_lite0", None)
        if embedder is not None and min(map(len, held_out.values())) >= FEWEST:
            self._embed = perception.Embedder(embedder)
        self._floors = _floors(recipe.objective)
        self.traces = 0
        self._translate = jax.jit(self._one_batch, compiler_options=parallel.compile_level(1, jax.local_devices()))

    def __call__(self, ema: Any, at: int) -> tuple[dict[str, Any], selection.Standing, dict[str, np.ndarray]]:
        """Metrics as `eval/<name>`, the standing, and the columns of a sample grid."""
        pictures, values = self._all_batches(ema)
        result: dict[str, Any] = {f"eval/{name}": float(np.mean(v)) for name, v in values.items()}
        target = self._held_out["target"]
        fake, style = pictures["fake"], target
        if self._recipe.keep_colors:
            # Colours are no part of the style then.
            fake, style = (np.asarray(colors.grey(jnp.asarray(x))) for x in (fake, target))
        result["eval/palette_distance"] = distribution.palette_distance(fake, style)
        result["eval/pictures"] = len(pictures["fake"])
        if self._embed is not None:
            if self._style is None:
                self._style = self._embed(style)
            kid = distribution.kid(self._embed(fake), self._style)
            result["eval/kid"] = kid.value
        if self._paired:
            distance = 1.0 - result["eval/ssim"]
        else:
            distance = result.get("eval/kid", result["eval/palette_distance"])
        measured = result["eval/contrast_structure"]
        shortfall = sum(max(floor - measured, 0.0) for floor in self._floors)
        standing = selection.Standing(step=at, style_distance=distance, shortfall=shortfall)
        # The fakes beside their sources: jax.tree has sorted the names.
        columns = {"source": self._held_out["source"], "fake": pictures["fake"], **pictures}
        if self._paired:
            columns["target"] = target
        return result, standing, {name: c[: self._samples] for name, c in columns.items()}

    def _all_batches(self, ema: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        count = len(self._held_out["source"])
        made: list[Any] = []
        for first in range(0, count, self._batch_size):
            # The last batch is filled up by going round, so that one shape is compiled.
            rows = np.arange(first, first + self._batch_size) % count
            batch = {"source": self._held_out["source"][rows]}
            if self._paired:
                batch["target"] = self._held_out["target"][rows]
            made.append(jax.device_get(self._translate(ema, self._frozen, jax.device_put(batch))))
        pictures, values = jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *made)
        return pictures, values

    def _one_batch(
        self, ema: Any, frozen: Mapping[str, Any], batch: Mapping[str, jax.Array]
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        self.traces += 1
        source = batch["source"]
        keep = self._recipe.keep_colors
        fake = colors.translate(self._recipe.generator, ema[recipes.FORWARD], source, keep_colors=keep)
        pictures = {"fake": fake}
        values = {"contrast_structure": metrics.contrast_structure(fake, source)}
        values |= perception.compare(frozen, fake, source)
        if self._recipe.cycled:
            cycled = colors.translate(self._recipe.generator, ema[recipes.BACKWARD], fake, keep_colors=keep)
            pictures["cycled"] = cycled
            values["ssim_cycled"] = metrics.ssim(cycled, source)
        if self._paired:
            for name, measure in (("ssim", metrics.ssim), ("psnr", metrics.psnr)):
                values[name] = measure(fake, batch["target"])
                # What there was to gain: the sources as they came.
                values[f"{name}_source"] = measure(source, batch["target"])
        return pictures, values


def _floors(objective: losses.Objective) -> list[float]:
    """The floors that the objective asks of contrast_structure on (fake, source)."""
    options = [entry.options for entry in objective if entry.steered]
    return [float(o["floor"]) for o in options if o.get("pair") == "fake_source" and o.get("floor") is not None]
