"""Endless training batches, and the fixed pictures of the rounds."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import grain
import numpy as np
from jaxtyping import Float, Int

from gqst import config, types
from gqst.data import loading, sources, transforms
from gqst.data.sources import base
from gqst.pictures import decode

CACHE_BYTES = 2**30
"""Default size of the cache of decoded and resized pictures, so that a small set is decoded once."""

_MOST_THREADS = 4
_EPOCHS_REMEMBERED = 4
# Endless for any run. grain divides lengths as floats: sys.maxsize would overflow.
_POSITIONS = 2**48


class BatchIterator:
    """Endless batches, a pure function of the config's seed and the position.

    The position counts steps, not dispatches, so that a run may be resumed with another `stack`, and it
    is the same on every process.
    """

    def __init__(self, batches: grain.MapDataset, sizes: tuple[int, int], stack: int, threads: int):
        """Starts at step 0; see `make_iterator`."""
        # Each thread makes whole batches, one ahead.
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        self._batches = iter(batches.to_iter_dataset(options))
        self._sizes = sizes
        self._stack = stack

    def __iter__(self) -> Iterator[types.Batch]:
        """Returns itself."""
        return self

    def __next__(self) -> types.Batch:
        """Returns the next batch, f32[b h w c], or f32[stack b h w c] if batches are stacked."""
        return next(self._batches)

    def get_state(self) -> dict[str, Any]:
        """Returns the position in a form that JSON can hold: steps taken, and sizes of the domains."""
        steps = self._batches.get_state()["next_index"] * self._stack
        return {"step": steps, "pictures": list(self._sizes)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Moves to a position that `get_state` returned.

        Raises:
          InputError: The step is not a multiple of `stack`.
        """
        if state["step"] % self._stack:
            raise types.InputError(
                f"the run stands at step {state['step']}, which is not a multiple of steps_per_dispatch={self._stack}"
            )
        if list(state["pictures"]) != list(self._sizes):
            base.LOGGER.warning(
                "the training data changed: %s source and %s target pictures, now %s and %s; "
                "the run goes on with other pictures than it would have had",
                *state["pictures"],
                *self._sizes,
            )
        self._batches.set_state({"next_index": state["step"] // self._stack})

    def close(self) -> None:
        """Ends the prefetching threads."""
        self._batches.close()


class Shuffled:
    """Endless indices: every epoch goes through all of them once, in an order of its own.

    Replaces grain's shuffle, which takes 3 to 5 ms an index for about ten of them (grain 0.2.18).
    """

    def __init__(self, length: int, seed: np.random.SeedSequence):
        """Shuffles the indices below `length`."""
        self._length = length
        self._seed = seed
        # A batch may span two epochs, and threads work on several batches.
        self._order = functools.lru_cache(_EPOCHS_REMEMBERED)(self._permutation)

    def __getitem__(self, position: int) -> int:
        """Returns the index at a position, a pure function of position and seed."""
        epoch, place = divmod(position, self._length)
        return int(self._order(epoch)[place])

    def _permutation(self, epoch: int) -> Int[np.ndarray, "n"]:
        seed = np.random.SeedSequence(self._seed.entropy, spawn_key=(*self._seed.spawn_key, epoch))
        return np.random.default_rng(seed).permutation(self._length)


def make_iterator(
    dataset: sources.Dataset,
    cfg: config.Config,
    *,
    batch_size: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
    stack: int = 1,
    threads: int | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> BatchIterator:
    """Returns endless training batches: every domain shuffled by itself, and anew every epoch.

    Whatever the number of processes, batch k of all of them together holds the same crops of the
    same pictures in the same order: it depends on seed and position, not on threads or cache.

    Args:
      dataset: A dataset from `sources.build`.
      cfg: The experiment, for seed, image_size and preprocess.
      batch_size: Number of pictures of each domain in a batch of this process; None is its share of the config's.
      process_index: Index of this process.
      process_count: Number of processes.
      stack: Number of batches stacked along a new first axis, for steps that run in one dispatch.
      threads: Number of threads that make batches ahead; 0 makes them on demand, None depends on the CPU.
      cache_bytes: Size of the cache of prepared pictures.
    """
    transforms.check(cfg.preprocess)
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index is {process_index} of {process_count} processes")
    if batch_size is None:
        batch_size = cfg.batch_size // process_count
    split = dataset.train
    loaders = _loaders(split, cfg, scale=cfg.preprocess.random_scale[1], cache=loading.Cache(cache_bytes))
    *orders, crops = np.random.SeedSequence(cfg.seed).spawn(len(loaders) + 1)
    shuffled = [Shuffled(len(loader), seed) for loader, seed in zip(loaders, orders, strict=True)]

    def example(position: int, rng: np.random.Generator) -> types.Batch:
        prepared = [loader.nearest(order[position]) for loader, order in zip(loaders, shuffled, strict=True)]
        return _crops(prepared, cfg, split.degrade, rng)

    # Batch first, then slice by process: the batches of one step are adjacent.
    examples = grain.MapDataset.range(_POSITIONS).random_map(example, seed=int(crops.generate_state(1)[0]))
    batches = examples.batch(batch_size)[process_index::process_count]
    if stack > 1:
        batches = batches.batch(stack)
    if threads is None:
        threads = min(_MOST_THREADS, os.cpu_count() or 1)
    return BatchIterator(batches, split.sizes, stack, threads)


def held_out(
    split: sources.Split, cfg: config.Config, count: int
) -> tuple[dict[str, Float[np.ndarray, "n h w 3"]], dict[str, list[str]]]:
    """Returns centre crops in [0, 1] of up to `count` pictures of each domain, and their names.

    The pictures are evenly spaced in the domain, always the same ones. In an unpaired split the two domains may give
    different numbers; in a paired one they belong together.

    Args:
      split: A split of a dataset from `sources.build`.
      cfg: The experiment, for seed, image_size and preprocess.
      count: Number of pictures of each domain, if it has as many.

    Returns:
      Arrays and names, both with the keys `source` and `target`.

    Raises:
      InputError: No picture of a domain can be read.
    """
    if count < 1:
        raise ValueError(f"count is {count}: there is nothing to hold out")
    cfg = _viewed(cfg)
    loaded = [loader.spread(count) for loader in _loaders(split, cfg)]
    columns = [column for pictures in loaded for column in zip(*pictures.values(), strict=True)]
    names = [list(pictures) for pictures in loaded]
    source, target = (np.stack([transforms.crop(pixels, cfg.image_size) for pixels in column]) for column in columns)
    if split.degrade is not None:
        # The same damage in every round, so that rounds compare.
        source = np.stack([split.degrade(x, np.random.default_rng((cfg.seed, i))) for i, x in enumerate(source)])
    return {"source": source, "target": target}, {"source": names[0], "target": names[-1]}


def _viewed(cfg: config.Config) -> config.Config:
    """The config with crops as rounds and evaluations look at them: of the scale of training, but `round_size` wide."""
    if cfg.round_size is None:
        return cfg
    load_size = transforms.load_size(cfg.preprocess, cfg.image_size)
    preprocess = dataclasses.replace(cfg.preprocess, load_size=load_size)
    return dataclasses.replace(cfg, image_size=cfg.round_size, preprocess=preprocess)


def iterate_crops(
    split: sources.Split, cfg: config.Config, domain: Literal["source", "target"], share: slice = slice(None)
) -> Iterator[tuple[str, tuple[Float[np.ndarray, "h w 3"], ...]]]:
    """Yields name and centre crop of every readable picture of a domain, or of a share of it.

    The crops of a paired split are those of the pair, source first.

    Args:
      split: A split of a dataset from `sources.build`.
      cfg: The experiment, for seed, image_size and preprocess.
      domain: The domain.
      share: Slice of the pictures' indices.
    """
    cfg = _viewed(cfg)
    loader = _loaders(split, cfg)[0 if domain == "source" else -1]
    for index in range(len(loader))[share]:
        try:
            prepared = loader.load(index)
        except decode.UnreadableError:
            continue
        crops = tuple(transforms.crop(pixels, cfg.image_size) for pixels in prepared)
        if split.degrade is not None:
            crops = (split.degrade(crops[0], np.random.default_rng((cfg.seed, index))), *crops[1:])
        yield loader.domains[0].name(index), crops


def _loaders(
    split: sources.Split,
    cfg: config.Config,
    *,
    scale: float = 1.0,
    cache: loading.Cache | None = None,
) -> list[loading.Loader]:
    """Returns one loader of both domains if they are paired, else one of each."""
    groups = [(split.source, split.target)] if split.paired else [(split.source,), (split.target,)]
    return [loading.Loader(group, cfg.preprocess, cfg.image_size, scale=scale, cache=cache) for group in groups]


def _crops(
    prepared: Sequence[loading.Prepared],
    cfg: config.Config,
    degrade: base.Degradation | None,
    rng: np.random.Generator,
) -> types.Batch:
    """Returns one example: one draw for each group of pictures that belong together."""
    scale = cfg.preprocess.random_scale[1]
    crops = []
    for group in prepared:
        drawn = transforms.draw(rng, cfg.preprocess)
        crops += [transforms.crop(pixels, cfg.image_size, drawn, scale=scale) for pixels in group]
    source, target = crops
    if degrade is not None:
        source = degrade(source, rng)
    if len(prepared) > 1 and cfg.preprocess.recolor_target:
        target = transforms.recolored(target, rng, cfg.preprocess.recolor_target)
    return {"source": source, "target": target}
