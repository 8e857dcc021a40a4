"""Generators as they were restored the last time, so that a start need not read the whole checkpoint.

A file is found by the content of the checkpoint's metadata, which holds its time and checksums: it stays right when a
run is moved, and is never taken for another checkpoint. Whatever is odd about it counts as its absence.
"""

import hashlib
import json
import logging
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from gqst.pictures import files
from gqst.runtime import caches

_METADATA = "_CHECKPOINT_METADATA"
_FORMAT = "2"
_MOST_FILES = 32

_log = logging.getLogger("gqst")


class Kept(NamedTuple):
    """A restored generator.

    Attributes:
      variables: Variables of the network by collection.
      step: Step of the checkpoint.
      demands: What the network demands of tiles, as `Programs` found it.
    """

    variables: dict[str, Any]
    step: int
    demands: dict[str, float]


def read(checkpoints: pathlib.Path, which: Literal["best", "last"] | int, direction: str) -> Kept | None:
    """Returns a generator as it was restored before; None if it was not, or for any doubt.

    Args:
      checkpoints: The folder `<workdir>/checkpoints`.
      which: `best`, `last` or a step, as for `checkpoint.load_ema`.
      direction: `forward` or `backward`.
    """
    try:
        metadata = _metadata(checkpoints)
        step = max(metadata) if which == "last" else which
        if which == "best":
            best = json.loads(metadata[max(metadata)])["custom_metadata"]["note"]["best"]
            step = best["step"] if best else max(metadata)
        path = _path(metadata[int(step)], direction)
        if not path.is_file():
            return None
        with safetensors.safe_open(path, framework="numpy") as file:
            said = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        if said["checksum"] != _checksum(tensors):
            return None
        return Kept(traverse_util.unflatten_dict(tensors, sep="/"), int(step), json.loads(said["demands"]))
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError):
        return None


def write(checkpoints: pathlib.Path, direction: str, kept: Kept) -> None:
    """Keeps a generator for the next start, if that is possible."""
    try:
        path = _path(_metadata(checkpoints)[kept.step], direction)
        leaves = traverse_util.flatten_dict(kept.variables, sep="/")
        tensors = {name: np.asarray(value, order="C") for name, value in leaves.items()}
        said = {"checksum": _checksum(tensors), "demands": json.dumps(kept.demands)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic(path) as part:
            part.write_bytes(safetensors.numpy.save(tensors, said))
        newest_first = sorted(path.parent.glob("*.safetensors"), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in newest_first[_MOST_FILES:]:
            old.unlink(missing_ok=True)
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        _log.debug("the generator is not kept: %s", error)


def _metadata(checkpoints: pathlib.Path) -> dict[int, bytes]:
    """The metadata of every checkpoint by step."""
    return {
        int(path.parent.name): path.read_bytes()
        for path in checkpoints.glob(f"*/{_METADATA}")
        if path.parent.name.isdecimal()
    }


def _path(metadata: bytes, direction: str) -> pathlib.Path:
    key = hashlib.sha256(b"\0".join([_FORMAT.encode(), direction.encode(), metadata])).hexdigest()[:32]
    return caches.folder("generators") / f"{key}.safetensors"


def _checksum(tensors: Mapping[str, np.ndarray]) -> str:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].tobytes(), zlib.crc32(name.encode(), total))
    return str(total)
