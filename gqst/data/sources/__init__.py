"""Data sources. A new one is a new file in this package that registers itself."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from gqst import config, registry, types
from gqst.data.sources import base
from gqst.data.sources.base import SOURCES, Dataset, Pictures, Split
from gqst.pictures.decode import UnreadableError
from gqst.pictures.folders import hash_of_names

__all__ = [
    "SOURCES",
    "Dataset",
    "Pictures",
    "Split",
    "UnreadableError",
    "build",
    "check",
    "fingerprint",
    "is_paired",
    "load",
]

_MOST_VALIDATION = 64  # if it is given as a fraction
_SMALLEST_DECODE = 32


def load(cfg: config.Config) -> Dataset:
    """Returns the dataset of a config, with its validation pictures held out of the training split.

    Raises:
      InputError: An unknown source or option, a missing folder, or an empty domain.
    """
    return build(cfg.data, validation=cfg.validation)


def build(choice: config.Choice, *, validation: int | float = 0) -> Dataset:
    """Returns the dataset that a config names, with validation pictures held out of its training split.

    Unreadable pictures are discovered when they are first loaded; each is then logged once and counted in
    `Dataset.unreadable`.

    Args:
      choice: A data source and its options.
      validation: Number of pictures of each domain to hold out, or a fraction below 1, which stands for at least one
        picture and at most 64. They are evenly spaced in the domain, the same ones in every run, and at least
        one picture always stays. The only picture of a domain is in both splits. 0 means no validation split;
        otherwise a source that brings one keeps it.

    Raises:
      InputError: An unknown source or option, a missing folder, an empty domain, or a source whose pictures are not
        as it declares, paired or unpaired.
    """
    dataset: Dataset = SOURCES.build(choice)
    _check_declaration(choice, dataset)
    watched = {name: _watch(split, dataset.unreadable) for name, split in dataset.splits.items()}
    train, held_out = watched["train"], watched.get("validation")
    if validation and held_out is None:
        train, held_out = _hold_out(train, validation)
    return dataclasses.replace(
        dataset, train=train, validation=held_out if validation else None, test=watched.get("test")
    )


def is_paired(choice: config.Choice) -> bool:
    """Returns whether a data source declares its pictures paired under these options; opens no file.

    A source declares it when it registers, as in `@SOURCES.register("pairs", paired=True)`, or by a function of its
    options. One that declares nothing is unpaired.

    Raises:
      InputError: An unknown source or option.
    """
    SOURCES.check(choice)
    return bool(SOURCES.declared(choice, "paired", default=False))


def fingerprint(dataset: Dataset) -> dict[str, list[Any]]:
    """Returns the number of pictures and a hash of their names by domain, as in `train/source`; opens no picture.

    Names are relative to a domain's folder: data that is moved as a whole keeps its fingerprint.
    """
    prints: dict[str, list[Any]] = {}
    for name, split in dataset.splits.items():
        for role, pictures in (("source", split.source), ("target", split.target)):
            names = (pictures.name(index) for index in range(len(pictures)))
            prints[f"{name}/{role}"] = [len(pictures), hash_of_names(names)]
    return prints


def check(dataset: Dataset, progress: Callable[[int, int], None] | None = None) -> dict[str, tuple[int, int]]:
    """Returns the numbers of readable and unreadable pictures by domain, as in `train/source`; loads every picture.

    Args:
      dataset: A dataset from `build`.
      progress: Callback after each picture with the numbers of pictures checked and in all.

    Raises:
      InputError: No picture of a domain is readable.
    """
    domains = {
        f"{name}/{role}": pictures
        for name, split in dataset.splits.items()
        for role, pictures in (("source", split.source), ("target", split.target))
    }
    total = sum(map(len, domains.values()))
    checked = 0
    counts = {}
    for key, pictures in domains.items():
        readable = 0
        for index in range(len(pictures)):
            readable += _is_readable(pictures, index)
            checked += 1
            if progress is not None:
                progress(checked, total)
        if not readable:
            raise base.none_readable(pictures)
        counts[key] = readable, len(pictures) - readable
    return counts


def _is_readable(pictures: Pictures, index: int) -> bool:
    try:
        pictures.load(index, shorter=_SMALLEST_DECODE)
    except UnreadableError:
        return False
    return True


def _check_declaration(choice: config.Choice, dataset: Dataset) -> None:
    declared = is_paired(choice)
    for name, split in dataset.splits.items():
        if split.paired != declared:
            raise types.InputError(
                f"data source {choice.name!r} declares paired={declared}, but its {name} split has "
                f"paired={split.paired}: register it with paired={split.paired}"
            )


def _watch(split: Split, unreadable: base.Unreadable) -> Split:
    return dataclasses.replace(
        split,
        source=base.Watched(split.source, unreadable),
        target=base.Watched(split.target, unreadable),
    )


def _hold_out(split: Split, validation: int | float) -> tuple[Split, Split]:
    """Returns the split without its validation pictures, and the split of these."""
    source, held_out_source = _divide(split.source, validation)
    target, held_out_target = _divide(split.target, validation)
    return (
        dataclasses.replace(split, source=source, target=target),
        dataclasses.replace(split, source=held_out_source, target=held_out_target),
    )


def _divide(pictures: Pictures, validation: int | float) -> tuple[Pictures, Pictures]:
    """Returns the training and the validation pictures of a domain."""
    total = len(pictures)
    if total == 1:
        return pictures, pictures
    held_out = base.evenly_spaced(total, min(_validation_count(total, validation), total - 1))
    kept = sorted(set(range(total)) - set(held_out))
    return base.Subset(pictures, kept), base.Subset(pictures, held_out)


def _validation_count(total: int, validation: int | float) -> int:
    if isinstance(validation, int):
        return validation
    if not 0.0 <= validation < 1.0:
        raise types.InputError(f"validation is {validation}: give a count, or a fraction below 1")
    return min(_MOST_VALIDATION, math.ceil(validation * total))


registry.import_members(__name__, __path__)
