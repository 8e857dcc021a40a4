"""The pictures of a data set, each read once: its size, hash, thumbnail and features."""

import concurrent.futures
import dataclasses
import hashlib
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image

from gqst.evaluation import networks
from gqst.models.features import base as features
from gqst.pictures import decode, folders

THUMBNAIL = 32
"""Side in pixels of the thumbnails that are compared."""

NETWORK = "efficientnet_lite0"
"""Network of the features, which no loss uses."""

_SIDE = 224
_TOGETHER = 64


@dataclasses.dataclass(frozen=True)
class Look:
    """What is kept of one picture.

    Attributes:
      width: Width in pixels.
      height: Height in pixels.
      hash: Hash of its pixels.
      thumbnail: Brightness in [0, 1], `THUMBNAIL` px a side, whatever its proportions.
      deviation: Standard deviation of its brightness.
      features: Pooled features.
    """

    width: int
    height: int
    hash: str
    thumbnail: Float[np.ndarray, "t t"]
    deviation: float
    features: Float[np.ndarray, "d"]


@dataclasses.dataclass(frozen=True)
class PictureSet:
    """The pictures of one domain in one split.

    Attributes:
      name: Name, as people call the folder.
      split: "train", "test" or "validation"; "train" for a folder whose name tells none.
      domain: Name of the domain: the same for all splits of it.
      files: Its files.
      looks: What was seen of each readable picture, by its number in `files`.
      unreadable: Reasons by number.
    """

    name: str
    split: str
    domain: str
    files: folders.Files
    looks: dict[int, Look] = dataclasses.field(default_factory=dict)
    unreadable: dict[int, str] = dataclasses.field(default_factory=dict)

    def picture(self, index: int) -> str:
        """Returns the name of a picture within the data set."""
        return f"{self.name}/{self.files.name(index)}"


def find(data: Sequence[str]) -> list[PictureSet]:
    """Returns the sets of pictures in folders: those within that are named trainA, testB, train and so on, or itself.

    Raises:
      InputError: A folder is missing or holds no pictures.
    """
    sets = []
    for given in data:
        root = folders.resolve(given)
        inside = folders.inside(given)
        for path in inside:
            named = folders.OF_A_SET.fullmatch(path.name)
            assert named is not None
            split = "validation" if named[1].lower().startswith("val") else named[1].lower()
            domain = f"{given}:{named[2].upper()}" if named[2] else str(given)
            name = path.name if len(data) == 1 else f"{root.name}/{path.name}"
            sets.append(PictureSet(name, split, domain, folders.listing(path, option=path.name, tell=False)))
        if not inside:
            sets.append(
                PictureSet(root.name, "train", str(given), folders.listing(given, option=str(given), tell=False))
            )
    return sets


def look(sets: Sequence[PictureSet], count: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Reads all pictures and fills in what is seen of them; `count` is told the numbers of those done and of all."""
    done, total = 0, sum(len(chosen.files) for chosen in sets)
    embed = networks.Embedder(features.load(NETWORK), NETWORK)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for chosen in sets:
            for numbers in _batched(range(len(chosen.files)), _TOGETHER):
                seen = {}
                paths = [chosen.files.paths[number] for number in numbers]
                for number, result in zip(numbers, pool.map(_read, paths), strict=True):
                    count(done := done + 1, total)
                    if isinstance(result, str):
                        chosen.unreadable[number] = result
                    else:
                        seen[number] = result
                if seen:
                    rows = embed(np.stack([square for _, square in seen.values()]))
                    for (number, (part, _)), row in zip(seen.items(), rows, strict=True):
                        chosen.looks[number] = dataclasses.replace(part, features=row)


def _read(path: pathlib.Path) -> tuple[Look, Float[np.ndarray, "s s 3"]] | str:
    """A picture without its features, and the square of which these are; or why it cannot be read."""
    try:
        image = decode.decode(path)
    except decode.UnreadableError as error:
        return error.reason
    light = image.convert("L")
    small = np.asarray(light.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), np.float32) / 255
    square = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), np.float32) / 255
    seen = Look(
        width=image.width,
        height=image.height,
        hash=hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest(),
        thumbnail=small,
        deviation=float(np.asarray(light, np.float32).std() / 255),
        features=np.zeros(0, np.float32),
    )
    return seen, square


def _batched(numbers: Sequence[int], size: int) -> Iterator[list[int]]:
    iterator = iter(numbers)
    while part := list(itertools.islice(iterator, size)):
        yield part
