"""Training batches without end, and the fixed pictures of the rounds."""

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
"""Decoded and resized pictures kept in memory, so that a small set is decoded once."""

_MOST_THREADS = 4
_EPOCHS_REMEMBERED = 4
# Without end, for any run. grain divides lengths as floats: sys.maxsize would overflow.
_POSITIONS = 2**48


class BatchIterator:
    """Batches without end; a pure function of the config's seed and the position.

    The position counts steps, not dispatches, so that a run may go on with another `stack`, and it
    is the same on every process.
    """

    def __init__(self, batches: grain.MapDataset, sizes: tuple[int, int], stack: int, threads: int):
        """Starts at step 0; see `make_iterator`."""
        # A thread makes whole batches: one for each thread are made ahead.
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        self._batches = iter(batches.to_iter_dataset(options))
        self._sizes = sizes
        self._stack = stack

    def __iter__(self) -> Iterator[types.Batch]:
        """Itself."""
        return self

    def __next__(self) -> types.Batch:
        """The next batch, f32[b h w c], or f32[stack b h w c] where batches are stacked."""
        return next(self._batches)

    def get_state(self) -> dict[str, Any]:
        """The position, as JSON can hold it: steps taken, and numbers of pictures drawn from."""
        steps = self._batches.get_state()["next_index"] * self._stack
        return {"step": steps, "pictures": list(self._sizes)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position that `get_state` returned.

        Raises:
          InputError: the step is not a multiple of `stack`.
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
    """Indices without end: every epoch goes through all of them once, in an order of its own.

    In place of grain's shuffle, which takes 3 to 5 ms an index where there are about ten (0.2.18).
    """

    def __init__(self, length: int, seed: np.random.SeedSequence):
        """Of the indices below `length`."""
        self._length = length
        self._seed = seed
        # A batch may reach over the end of an epoch, and threads work on several batches.
        self._order = functools.lru_cache(_EPOCHS_REMEMBERED)(self._permutation)

    def __getitem__(self, position: int) -> int:
        """The index at a position; a pure function of it and the seed."""
        epoch, place = divmod(position, self._length)
        return int(self._order(epoch)[place])

    def _permutation(self, epoch: int) -> Int[np.ndarray, "n"]:
        seed = np.random.SeedSequence(self._seed.entropy, spawn_key=(*self._seed.spawn_key, epoch))
        return np.random.default_rng(seed).permutation(self._length)


def make_iterator(
    dataset: sources.Dataset,
    cfg: config.Config,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    stack: int = 1,
    threads: int | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> BatchIterator:
    """Training batches without end: every domain shuffled by itself, and anew every epoch.

    Whatever the number of processes, batch k of all of them together holds the same crops of the
    same pictures in the same order: only seed and position decide, neither threads nor cache.

    Args:
      dataset: what `sources.build` made.
      cfg: gives seed, image_size and preprocess.
      batch_size: pictures of each domain in a batch of this process.
      process_index: which process this is.
      process_count: how many there are.
      stack: batches put together along a new first axis, for steps that run in one dispatch.
      threads: threads that make batches ahead; 0 makes them when asked for, None goes by the CPU.
      cache_bytes: pixels of prepared pictures to keep in memory.
    """
    transforms.check(cfg.preprocess)
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index is {process_index} of {process_count} processes")
    split = dataset.train
    loaders = _loaders(split, cfg, scale=cfg.preprocess.random_scale[1], cache=loading.Cache(cache_bytes))
    *orders, crops = np.random.SeedSequence(cfg.seed).spawn(len(loaders) + 1)
    shuffled = [Shuffled(len(loader), seed) for loader, seed in zip(loaders, orders, strict=True)]

    def example(position: int, rng: np.random.Generator) -> types.Batch:
        prepared = [loader.nearest(order[position]) for loader, order in zip(loaders, shuffled, strict=True)]
        return _crops(prepared, cfg, split.degrade, rng)

    # Batches first, then every process its own: the batches of one step lie side by side.
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
    """Deterministic centre crops in [0, 1] of up to `count` pictures of each domain, and names.

    The pictures lie evenly spaced in the domain. In an unpaired split the two domains may give
    different numbers; in a paired one they belong together.

    Args:
      split: of a dataset that `sources.build` made.
      cfg: gives image_size and preprocess.
      count: how many, where there are as many.

    Returns:
      arrays and names, both with the keys `source` and `target`.

    Raises:
      InputError: no picture of a domain can be read.
    """
    if count < 1:
        raise ValueError(f"count is {count}: there is nothing to hold out")
    found = [loader.spread(count) for loader in _loaders(split, cfg)]
    columns = [column for domain in found for column in zip(*domain.values(), strict=True)]
    names = [list(domain) for domain in found]
    source, target = (np.stack([transforms.crop(pixels, cfg.image_size) for pixels in column]) for column in columns)
    if split.degrade is not None:
        # Damaged once and for all, so that rounds compare.
        source = np.stack([split.degrade(x, np.random.default_rng((cfg.seed, i))) for i, x in enumerate(source)])
    return {"source": source, "target": target}, {"source": names[0], "target": names[-1]}


def each(
    split: sources.Split, cfg: config.Config, domain: Literal["source", "target"], share: slice = slice(None)
) -> Iterator[tuple[str, tuple[Float[np.ndarray, "h w 3"], ...]]]:
    """Name and deterministic centre crop of every picture of a domain, or of a share, one after the other.

    Of a paired split it is the pair, source first. What cannot be read is left out.
    """
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
    """One loader of both domains where they are paired, else one of each."""
    groups = [(split.source, split.target)] if split.paired else [(split.source,), (split.target,)]
    return [loading.Loader(group, cfg.preprocess, cfg.image_size, scale=scale, cache=cache) for group in groups]


def _crops(
    prepared: Sequence[loading.Prepared],
    cfg: config.Config,
    degrade: base.Degradation | None,
    rng: np.random.Generator,
) -> types.Batch:
    """One example: a draw for each group of pictures that belong together."""
    scale = cfg.preprocess.random_scale[1]
    cut = []
    for group in prepared:
        drawn = transforms.draw(rng, cfg.preprocess)
        cut += [transforms.crop(pixels, cfg.image_size, drawn, scale=scale) for pixels in group]
    source, target = cut
    if degrade is not None:
        source = degrade(source, rng)
    return {"source": source, "target": target}
