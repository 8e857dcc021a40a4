"""Pictures to be evaluated, from a generator or from folders, with their references."""

import dataclasses
import functools
import itertools
import logging
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image, ImageOps

from gqst import config, types
from gqst.data import pipeline, sources
from gqst.evaluation import baselines, feature_sets
from gqst.pictures import decode, folders
from gqst.runtime import processes

_log = logging.getLogger("gqst")

BATCH = 16
"""Pictures that are translated and measured at once."""

_SHOWN = 3


class Item(NamedTuple):
    """A picture to be measured; all are f32[h w 3] in [0, 1], of one size.

    Attributes:
      name: Name of the picture.
      output: The picture.
      source: Picture that it is a translation of; None if unknown.
      truth: Ground truth; None if unknown.
    """

    name: str
    output: np.ndarray
    source: np.ndarray | None = None
    truth: np.ndarray | None = None


Items = Callable[[], Iterable[Item]]
Pictures = Callable[[], Iterable[np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Pictures to be measured, with their references: of several processes, the share of this one.

    Attributes:
      about: Lines for the report by key.
      items: Outputs with their sources and truths, if known.
      untouched: Items with the sources as outputs; None if they are unknown.
      total: Number of outputs, readable or not.
      style: Pictures of the style that the outputs should have; None without any.
      style_file: File of the features of that set, in place of `style`.
      real: Real pictures of the style that are not in `style`, as an upper baseline; None without any.
      palette: All pictures that the colour-transfer baseline takes colours from, not only a share; None without any.
    """

    about: Mapping[str, str | int]
    items: Items
    untouched: Items | None
    total: int
    style: Pictures | None
    style_file: pathlib.Path | None = None
    real: Items | None = None
    palette: Pictures | None = None


def from_generator(
    generator: Callable[[np.ndarray], np.ndarray],
    cfg: config.Config,
    *,
    about: Mapping[str, str | int],
    split: str | None = None,
) -> Comparison:
    """Returns the comparison of a generator on a split of the data that its config names, at the config's size.

    Args:
      generator: Function of pictures f32[b h w 3] in [0, 1].
      cfg: Config of the run that trained it.
      about: Lines for the report by key.
      split: `train`, `validation` or `test`; None is `test`, or `validation` if there is no test split.

    Raises:
      InputError: The data or the split does not exist.
    """
    splits = sources.load(cfg).splits
    name = split or ("test" if "test" in splits else "validation" if "validation" in splits else "train")
    if name not in splits:
        raise types.InputError(f"the data has no split {name!r}; it has: {', '.join(splits)}")
    chosen = splits[name]

    def untouched() -> Iterator[Item]:
        for name, crops in pipeline.iterate_crops(chosen, cfg, "source", processes.process_slice()):
            yield Item(name, crops[0], crops[0], crops[1] if chosen.paired else None)

    def items() -> Iterator[Item]:
        remaining = untouched()
        while batch := list(itertools.islice(remaining, BATCH)):
            # Its last picture fills up the last batch, so that only one shape is compiled.
            inputs = [item.output for item in batch] + [batch[-1].output] * (BATCH - len(batch))
            for item, output in zip(batch, generator(np.stack(inputs)), strict=False):
                yield item._replace(output=output)

    def targets(key: str, share: slice) -> Pictures:
        return functools.partial(_targets, splits[key], cfg, share)

    style = None if chosen.paired else targets(name, processes.process_slice())
    trained_on = None if chosen.paired or name == "train" else targets("train", processes.process_slice())
    return Comparison(
        about={**about, "split": name, "size": f"{cfg.image_size}x{cfg.image_size}"},
        items=items,
        untouched=untouched,
        total=len(chosen.source),
        style=style,
        real=None if trained_on is None else functools.partial(_as_items, trained_on),
        palette=None if chosen.paired else targets("train", slice(None)),
    )


def from_folders(
    outputs: str,
    references: str | None,
    originals: str | None,
    *,
    size: Sequence[int] | None = None,
    paired: bool | None = None,
) -> Comparison:
    """Returns the comparison of the pictures in a folder, which may come from anywhere.

    Args:
      outputs: Folder of the pictures to be measured.
      references: Folder of truths (named like the outputs) or of pictures of the style, or a file of its features.
      originals: Folder of the sources, named like the outputs.
      size: Height and width, or one number for both, to which all are scaled and cropped; None is the first output's.
      paired: Whether references are truths, matched with the outputs by name, or a set of pictures of the style,
        whatever their names; None takes them as truths if more than half of the outputs have one of their name.

    Raises:
      InputError: A folder is missing or empty, no picture can be read, no source or truth has the name of an output, or
        two of them have the same name but for their suffix.
    """
    output_files = folders.listing(outputs, option="--outputs")
    stored = references is not None and references.endswith(feature_sets.SUFFIX)
    reference_files = folders.listing(references, option="--references") if references and not stored else None
    source_files = folders.listing(originals, option="--sources") if originals else None
    height, width = _size(output_files) if size is None else (size[0], size[-1])
    names = [_stem(output_files.name(i)) for i in range(len(output_files))]
    about: dict[str, str | int] = {"outputs": outputs, "size": f"{width}x{height}"}
    if scaled := _count_other_sizes(output_files, height, width):
        about["scaled"] = f"{scaled} of {len(names)} outputs had another size and were scaled and cropped to it"
    matched = len(set(names) & _stems(reference_files))
    if paired and not matched:
        raise types.InputError(f"no picture in {references} is named as one in {outputs}: --paired matches by name")
    is_paired = 2 * matched > len(names) if paired is None else paired
    if references:
        about["references"] = f"{references} ({_kind(stored, is_paired, paired is not None, matched, len(names))})"
    if originals:
        about["sources"] = originals
    truth_index = _by_name(reference_files, "--references") if is_paired else {}
    source_index = _by_name(source_files, "--sources")
    # Only outputs with a truth and a source are measured, so that all metrics are of the same pictures.
    if source_files is not None and not any(name in source_index for name in names):
        raise types.InputError(f"no picture in {originals} is named as one in {outputs}: --sources are matched by name")
    for option, path, index in (("references", references, truth_index), ("sources", originals, source_index)):
        if index:
            about |= _unmatched(option, str(path), index, output_files, names)

    def items(*, untouched: bool = False) -> Iterator[Item]:
        for index, name in list(enumerate(names))[processes.process_slice()]:
            source = truth = None
            if source_files is not None:
                source = _fitted(source_files, source_index.get(name), height, width)
            if is_paired:
                assert reference_files is not None
                truth = _fitted(reference_files, truth_index.get(name), height, width)
            output = source if untouched else _fitted(output_files, index, height, width)
            if output is None or (source_files is not None and source is None) or (is_paired and truth is None):
                continue
            yield Item(output_files.name(index), output, source, truth)

    style = palette = None
    if reference_files is not None:
        style = functools.partial(_pictures, reference_files, height, width, processes.process_slice())
        palette = functools.partial(_pictures, reference_files, height, width, slice(None))
    untouched = functools.partial(items, untouched=True) if source_files is not None else None
    return Comparison(
        about=about,
        items=items,
        untouched=untouched,
        total=len(output_files),
        style=style,
        style_file=pathlib.Path(references) if stored and references else None,
        palette=palette,
    )


def recolored(items: Items, style: Pictures, *, seed: int = 0, most: int = 256) -> Iterator[Item]:
    """Yields the items with the colours of random pictures of the style; see `baselines.color_transfer`.

    Args:
      items: This process's share of the items.
      style: Pictures that colours are taken from, the same on all processes.
      seed: Seed of the choice.
      most: Number of style pictures to choose from, the first ones.
    """
    palettes = list(itertools.islice(style(), most))
    random = np.random.default_rng(seed)
    for item in items():
        # One draw for each process, so that several processes choose the colours that a single one would.
        index = [random.integers(len(palettes)) for _ in range(jax.process_count())][jax.process_index()]
        yield item._replace(output=baselines.color_transfer(item.output, palettes[index]))


def _targets(split: sources.Split, cfg: config.Config, share: slice) -> Iterator[np.ndarray]:
    for _, crops in pipeline.iterate_crops(split, cfg, "target", share):
        yield crops[-1]


def _as_items(pictures: Pictures) -> Iterator[Item]:
    own = processes.process_slice()
    for index, picture in zip(itertools.count(own.start, own.step), pictures(), strict=False):
        yield Item(str(index), picture)


def _pictures(listing: folders.Files, height: int, width: int, share: slice) -> Iterator[np.ndarray]:
    for index in range(len(listing))[share]:
        picture = _fitted(listing, index, height, width)
        if picture is not None:
            yield picture


def _fitted(listing: folders.Files, index: int | None, height: int, width: int) -> np.ndarray | None:
    """A picture scaled and cropped to a size, f32 in [0, 1]; None, and a line in the log, if it cannot be read."""
    if index is None:
        return None
    try:
        image = listing.load(index)
    except decode.UnreadableError as error:
        _log.warning("left out: %s", error)
        return None
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    return np.asarray(image, np.float32) / np.float32(255)


def _size(listing: folders.Files) -> tuple[int, int]:
    """Height and width of the first picture that can be read."""
    for index in range(len(listing)):
        try:
            image = listing.load(index)
        except decode.UnreadableError:
            continue
        return image.height, image.width
    raise types.InputError(f"none of the {len(listing)} pictures in {listing.origin} can be read")


def _count_other_sizes(listing: folders.Files, height: int, width: int) -> int:
    count = 0
    for path in listing.paths:
        try:
            count += decode.size(path) != (width, height)
        except decode.UnreadableError:
            continue  # named when it is measured
    return count


def _kind(stored: bool, paired: bool, asked: bool, matched: int, outputs: int) -> str:
    """What references are taken for, and how to have it otherwise."""
    if stored:
        return "statistics"
    if paired:
        hint = "" if asked else "; --unpaired takes them as a set of the style"
        return f"matched by name, truths of {matched} of {outputs} outputs{hint}"
    hint = "" if asked or not matched else f"; {matched} of {outputs} outputs have one of their name: --paired matches"
    return f"a set{hint}"


def _unmatched(
    option: str, path: str, index: Mapping[str, int], outputs: folders.Files, names: Sequence[str]
) -> dict[str, str]:
    """Lines for the report on pictures without a partner."""
    lines = {}
    alone = [outputs.name(i) for i, name in enumerate(names) if name not in index]
    if alone:
        shown = ", ".join(alone[:_SHOWN]) + (", ..." if len(alone) > _SHOWN else "")
        lines[f"without {option}"] = (
            f"{len(alone)} of {len(names)} outputs have no picture of their name in {path}, and are not measured: "
            f"{shown}"
        )
    unused = len(index.keys() - set(names))
    if unused:
        lines[f"unused {option}"] = f"{unused} of {len(index)} pictures in {path} have no output of their name"
    return lines


def _stems(listing: folders.Files | None) -> set[str]:
    return set() if listing is None else {_stem(listing.name(i)) for i in range(len(listing))}


def _by_name(listing: folders.Files | None, option: str) -> dict[str, int]:
    index: dict[str, int] = {}
    for i in range(0 if listing is None else len(listing)):
        assert listing is not None
        earlier = index.setdefault(_stem(listing.name(i)), i)
        if earlier != i:
            raise types.InputError(
                f"{listing.root} has two pictures for one name, {listing.name(earlier)} and {listing.name(i)} "
                f"({option}): remove one"
            )
    return index


def _stem(name: str) -> str:
    return pathlib.PurePosixPath(name).with_suffix("").as_posix()
