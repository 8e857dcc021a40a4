"""What is evaluated: a generator on a split of its data or folders of pictures, beside what they are compared with."""

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
from gqst.data.sources import paths
from gqst.evaluation import baselines, feature_sets
from gqst.pictures import decode
from gqst.runtime import processes

_log = logging.getLogger("gqst")

BATCH = 16
"""Pictures that are translated and measured at once."""


class Item(NamedTuple):
    """A picture to be measured; all are f32[h w 3] in [0, 1], of one size.

    Attributes:
      name: of the picture.
      output: the picture.
      source: what it was made from, if that is known.
      truth: what it should have become, if that is known.
    """

    name: str
    output: np.ndarray
    source: np.ndarray | None = None
    truth: np.ndarray | None = None


Items = Callable[[], Iterable[Item]]
Pictures = Callable[[], Iterable[np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Pictures to be measured, and what to measure them against: of several processes, the share of this one.

    Attributes:
      about: what it is, by key, for the report.
      items: the outputs with their sources and truths, as far as these are known.
      untouched: the same with the sources as outputs; None if they are not known.
      total: how many outputs there are, readable or not.
      style: the set that the outputs should look like; None without one.
      known: a file of its statistics, in place of `style`.
      real: real pictures of the style that are not in `style`, for the scale; None without.
      palette: all pictures that the baseline takes colours from, no share; None without.
    """

    about: Mapping[str, str | int]
    items: Items
    untouched: Items | None
    total: int
    style: Pictures | None
    known: pathlib.Path | None = None
    real: Items | None = None
    palette: Pictures | None = None


def from_generator(
    generator: Callable[[np.ndarray], np.ndarray],
    cfg: config.Config,
    *,
    about: Mapping[str, str | int],
    split: str | None = None,
) -> Comparison:
    """A generator on a split of the data that its config names, at the config's size.

    Args:
      generator: a function of pictures f32[b h w 3] in [0, 1].
      cfg: the experiment that it was trained by.
      about: what it is, by key, for the report.
      split: train, validation or test; None is test, or validation where there is no test split.

    Raises:
      InputError: there is no such data or split.
    """
    dataset = sources.build(cfg.data, validation=cfg.validation)
    there = dataset.splits
    name = split or ("test" if "test" in there else "validation" if "validation" in there else "train")
    if name not in there:
        raise types.InputError(f"the data has no split {name!r}; it has: {', '.join(there)}")
    chosen = there[name]

    def untouched() -> Iterator[Item]:
        for name, crops in pipeline.iterate_crops(chosen, cfg, "source", processes.own()):
            yield Item(name, crops[0], crops[0], crops[1] if chosen.paired else None)

    def items() -> Iterator[Item]:
        came = untouched()
        while batch := list(itertools.islice(came, BATCH)):
            # One shape is compiled: the last batch is filled up.
            inputs = [item.output for item in batch] + [batch[-1].output] * (BATCH - len(batch))
            for item, output in zip(batch, generator(np.stack(inputs)), strict=False):
                yield item._replace(output=output)

    def targets(key: str, share: slice) -> Pictures:
        return functools.partial(_targets, there[key], cfg, share)

    style = None if chosen.paired else targets(name, processes.own())
    seen = None if chosen.paired or name == "train" else targets("train", processes.own())
    return Comparison(
        about={**about, "split": name, "size": f"{cfg.image_size}x{cfg.image_size}"},
        items=items,
        untouched=untouched,
        total=len(chosen.source),
        style=style,
        real=None if seen is None else functools.partial(_as_items, seen),
        palette=None if chosen.paired else targets("train", slice(None)),
    )


def from_folders(
    outputs: str, references: str | None, originals: str | None, *, size: Sequence[int] | None = None
) -> Comparison:
    """Pictures of a folder, whatever made them.

    Args:
      outputs: folder of the pictures to be measured.
      references: folder of truths (named as the outputs) or of pictures of the style, or a file of statistics.
      originals: folder of the sources, named as the outputs.
      size: height and width, or one for both, to which all are scaled and cropped; None is the first output's.

    Raises:
      InputError: a folder is missing or empty, no picture can be read, or the sources are named otherwise.
    """
    made = paths.listing(outputs, option="--outputs")
    known = references is not None and references.endswith(feature_sets.SUFFIX)
    wanted = paths.listing(references, option="--references") if references and not known else None
    given = paths.listing(originals, option="--sources") if originals else None
    height, width = _size(made) if size is None else (size[0], size[-1])
    truths = _by_name(wanted)
    froms = _by_name(given)
    names = [_stem(made.name(i)) for i in range(len(made))]
    # Truths and sources count where every output has one: all figures are then of the same pictures.
    if given is not None and not any(name in froms for name in names):
        raise types.InputError(f"no picture in {originals} is named as one in {outputs}: --sources are matched by name")
    matched = sum(name in truths for name in names)
    paired = 2 * matched > len(names)

    def items(*, untouched: bool = False) -> Iterator[Item]:
        for index, name in list(enumerate(names))[processes.own()]:
            source = truth = None
            if given is not None:
                source = _fitted(given, froms.get(name), height, width)
            if paired:
                assert wanted is not None
                truth = _fitted(wanted, truths.get(name), height, width)
            output = source if untouched else _fitted(made, index, height, width)
            if output is None or (given is not None and source is None) or (paired and truth is None):
                continue
            yield Item(made.name(index), output, source, truth)

    style = palette = None
    if wanted is not None:
        style = functools.partial(_pictures, wanted, height, width, processes.own())
        palette = functools.partial(_pictures, wanted, height, width, slice(None))
    about: dict[str, str | int] = {"outputs": outputs, "size": f"{width}x{height}"}
    if references:
        kind = "statistics" if known else "matched by name" if paired else "a set"
        about["references"] = f"{references} ({kind})"
    if originals:
        about["sources"] = originals
    untouched = functools.partial(items, untouched=True) if given is not None else None
    return Comparison(
        about=about,
        items=items,
        untouched=untouched,
        total=len(made),
        style=style,
        known=pathlib.Path(references) if known and references else None,
        palette=palette,
    )


def recolored(items: Items, style: Pictures, *, seed: int = 0, most: int = 256) -> Iterator[Item]:
    """The outputs with the colours of random pictures of the style; see `baselines.color_transfer`.

    Args:
      items: this process's share of what is to be recoloured.
      style: pictures that colours are taken from, the same on all processes.
      seed: of the choice.
      most: the first so many of them are chosen from.
    """
    choice = list(itertools.islice(style(), most))
    draw = np.random.default_rng(seed)
    for item in items():
        # One for each process, so that their shares together have the colours that one process would give.
        drawn = [draw.integers(len(choice)) for _ in range(jax.process_count())][jax.process_index()]
        yield item._replace(output=baselines.color_transfer(item.output, choice[drawn]))


def _targets(split: sources.Split, cfg: config.Config, share: slice) -> Iterator[np.ndarray]:
    for _, crops in pipeline.iterate_crops(split, cfg, "target", share):
        yield crops[-1]


def _as_items(pictures: Pictures) -> Iterator[Item]:
    own = processes.own()
    for index, picture in zip(itertools.count(own.start, own.step), pictures(), strict=False):
        yield Item(str(index), picture)


def _pictures(of: paths.Files, height: int, width: int, share: slice) -> Iterator[np.ndarray]:
    for index in range(len(of))[share]:
        picture = _fitted(of, index, height, width)
        if picture is not None:
            yield picture


def _fitted(of: paths.Files, index: int | None, height: int, width: int) -> np.ndarray | None:
    """A picture scaled and cropped to a size, f32 in [0, 1]; None, and a line in the log, if it cannot be read."""
    if index is None:
        return None
    try:
        image = of.load(index)
    except decode.UnreadableError as error:
        _log.warning("left out: %s", error)
        return None
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    return np.asarray(image, np.float32) / np.float32(255)


def _size(of: paths.Files) -> tuple[int, int]:
    """Height and width of the first picture that can be read."""
    for index in range(len(of)):
        try:
            image = of.load(index)
        except decode.UnreadableError:
            continue
        return image.height, image.width
    raise types.InputError(f"none of the {len(of)} pictures in {of.origin} can be read")


def _by_name(of: paths.Files | None) -> dict[str, int]:
    return {} if of is None else {_stem(of.name(i)): i for i in range(len(of))}


def _stem(name: str) -> str:
    return pathlib.PurePosixPath(name).with_suffix("").as_posix()
