"""Data sources: where pictures come from. A new one is a new file here that registers itself."""

import dataclasses
import math
from collections.abc import Callable

from gqst import config, registry, types
from gqst.data.sources import base
from gqst.data.sources.base import SOURCES, Dataset, Pictures, Split
from gqst.pictures.decode import UnreadableError

__all__ = ["SOURCES", "Dataset", "Pictures", "Split", "UnreadableError", "build", "check"]

_LARGEST_FRACTION = 64
_SMALLEST_DECODE = 32


def build(choice: config.Choice, *, validation: int | float = 0) -> Dataset:
    """The dataset that a config names, with validation pictures held off its training split.

    Pictures that cannot be read are found when they are first loaded; each is then logged once and
    counted in `Dataset.skipped`.

    Args:
      choice: a data source and its options.
      validation: pictures of each domain to hold off: a count, or a fraction below 1, which stands
        for at least one picture and at most 64. They lie evenly spaced in the domain, the same ones
        in every run, and at least one picture always stays. A domain of a single picture has it in
        both splits. 0 means no validation split; otherwise a source that brings one keeps it.

    Raises:
      InputError: an unknown source or option, a missing folder, an empty domain.
    """
    made: Dataset = SOURCES.build(choice)
    watched = {name: _watch(split, made.unreadable) for name, split in made.splits.items()}
    train, held = watched["train"], watched.get("validation")
    if validation and held is None:
        train, held = _hold_off(train, validation)
    return dataclasses.replace(made, train=train, validation=held if validation else None, test=watched.get("test"))


def check(dataset: Dataset, progress: Callable[[int, int], None] | None = None) -> dict[str, tuple[int, int]]:
    """Loads every picture; how many can and cannot be read, by domain, as in `train/source`.

    Args:
      dataset: what `build` made.
      progress: called after each picture with how many are done and how many there are.

    Raises:
      InputError: a domain has no picture that can be read.
    """
    domains = {
        f"{name}/{role}": pictures
        for name, split in dataset.splits.items()
        for role, pictures in (("source", split.source), ("target", split.target))
    }
    total = sum(map(len, domains.values()))
    done = 0
    counts = {}
    for key, pictures in domains.items():
        readable = 0
        for index in range(len(pictures)):
            readable += _is_readable(pictures, index)
            done += 1
            if progress is not None:
                progress(done, total)
        if not readable:
            raise base.none_left(pictures)
        counts[key] = readable, len(pictures) - readable
    return counts


def _is_readable(pictures: Pictures, index: int) -> bool:
    try:
        pictures.load(index, shorter=_SMALLEST_DECODE)
    except UnreadableError:
        return False
    return True


def _watch(split: Split, unreadable: base.Unreadable) -> Split:
    return dataclasses.replace(
        split,
        source=base.Watched(split.source, unreadable),
        target=base.Watched(split.target, unreadable),
    )


def _hold_off(split: Split, validation: int | float) -> tuple[Split, Split]:
    """The split without its validation pictures, and those."""
    parts = [_parts(pictures, validation) for pictures in (split.source, split.target)]
    (source, held_source), (target, held_target) = parts
    return (
        dataclasses.replace(split, source=source, target=target),
        dataclasses.replace(split, source=held_source, target=held_target),
    )


def _parts(pictures: Pictures, validation: int | float) -> tuple[Pictures, Pictures]:
    total = len(pictures)
    if total == 1:
        return pictures, pictures
    held = base.evenly_spaced(total, min(_held_count(total, validation), total - 1))
    kept = sorted(set(range(total)) - set(held))
    return base.Subset(pictures, kept), base.Subset(pictures, held)


def _held_count(total: int, validation: int | float) -> int:
    if isinstance(validation, int):
        return validation
    if not 0.0 <= validation < 1.0:
        raise types.InputError(f"validation is {validation}: give a count, or a fraction below 1")
    return min(_LARGEST_FRACTION, math.ceil(validation * total))


registry.import_members(__name__, __path__)
