"""Packing of folders of pictures into records, in parallel, and resumable shard by shard."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import pathlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from array_record.python import array_record_module
from PIL import Image

from gqst import storage, types
from gqst.data import records
from gqst.pictures import decode, files, folders

SHARD = 2048
"""Number of pictures of a shard."""

_CLAIM = "packing.json"


@dataclasses.dataclass(frozen=True)
class Packed:
    """What packing has written.

    Attributes:
      count: Number of pictures.
      bytes: Size of their records.
      left_out: Pictures that cannot be read, with the reason.
    """

    count: int
    bytes: int
    left_out: Mapping[str, str]


def pack(
    source: str | pathlib.Path,
    target: pathlib.Path,
    *,
    size: int | None = None,
    shard: int = SHARD,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Packed:
    """Packs a folder of pictures, nested ones too; a shard that an earlier call has finished is not written again.

    Pictures that cannot be read are left out. Records hold the files as they are, or JPEG at quality 95 where a picture
    was scaled down.

    Args:
      source: Folder of pictures.
      target: Folder to write to, on disk or in a bucket; created if absent.
      size: Length in pixels to which longer shorter sides are scaled down; None leaves all as they are.
      shard: Number of pictures of a shard.
      workers: Number of processes; None is the number of processors.
      progress: Callback with the numbers of pictures done and in all.

    Raises:
      InputError: The source holds no pictures, or the target records of others.
    """
    listed = folders.listing(source, option="FOLDER", tell=False)
    names = [listed.name(index) for index in range(len(listed))]
    claim = {"format": records.FORMAT, "names": folders.hash_of_names(names), "size": size, "shard": shard}
    written = _claim(target, claim)
    if records.INDEX in written:
        return _summary(target)
    parts = [slice(first, first + shard) for first in range(0, len(names), shard)]
    missing = {number: part for number, part in enumerate(parts) if _part(target, number).name not in written}
    if missing:
        done = len(names) - sum(len(names[part]) for part in missing.values())
        progress(done, len(names))
        # Not forked: the parent may have threads.
        context = multiprocessing.get_context("spawn")
        workers = min(workers or os.cpu_count() or 1, len(missing))
        with concurrent.futures.ProcessPoolExecutor(
            workers, mp_context=context, initializer=_end_with_the_parent
        ) as pool:
            counts = {
                pool.submit(_write_shard, listed.paths[part], names[part], target, number, size): len(names[part])
                for number, part in missing.items()
            }
            for future in concurrent.futures.as_completed(counts):
                future.result()
                done += counts[future]
                progress(done, len(names))
    _join(target, len(parts), claim)
    return _summary(target)


def _end_with_the_parent() -> None:
    """Lets a worker end once the process that started it is gone, however it ended; it would wait for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _claim(target: pathlib.Path, claim: Mapping[str, Any]) -> set[str]:
    """Takes the folder for these records, and returns the names of the files that it has already."""
    if storage.is_remote(target):
        written = set(storage.find(target))
    else:
        target.mkdir(parents=True, exist_ok=True)
        written = {path.name for path in target.iterdir()}
    path = target / _CLAIM
    if _CLAIM in written:
        if json.loads(path.read_text(encoding="utf-8")) != claim:
            raise types.InputError(
                f"{target} holds records of other pictures, or of other sizes: give another folder, or delete it"
            )
    elif written:
        raise types.InputError(f"{target} is not empty: give another folder")
    files.write_text(path, json.dumps(claim) + "\n")
    return written


def _write_shard(
    paths: Sequence[pathlib.Path], names: Sequence[str], target: pathlib.Path, number: int, size: int | None
) -> None:
    """Writes a shard, then what the index will say of it."""
    kept, sizes, hashes, total = [], [], [], 0
    left_out: dict[str, str] = {}
    with files.atomic(target / records.shard_name(number)) as part:
        # One picture a group, so that one is read at a time.
        writer = array_record_module.ArrayRecordWriter(str(part), "group_size:1")
        try:
            for path, name in zip(paths, names, strict=True):
                try:
                    content, pixels = _record(path, size)
                except decode.UnreadableError as error:
                    left_out[name] = error.reason
                    continue
                writer.write(content)
                kept.append(name)
                sizes.append(pixels)
                hashes.append(hashlib.sha256(content).digest())
                total += len(content)
        finally:
            writer.close()
    about = {"names": kept, "left_out": left_out, "bytes": total}
    with files.atomic(_part(target, number)) as part, part.open("wb") as file:
        np.savez(
            file,
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
            sizes=np.asarray(sizes, np.uint32).reshape(-1, 2),
            hashes=np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32),
        )


def _record(path: pathlib.Path, size: int | None) -> tuple[bytes, tuple[int, int]]:
    """The bytes of a record, and width and height of its picture."""
    # A bucket that does not answer ends packing, which then goes on: its pictures are not damaged.
    with contextlib.nullcontext() if storage.is_remote(path) else decode.explained(str(path)):
        content = path.read_bytes()
    image = decode.decode(io.BytesIO(content), name=str(path))
    shorter = min(image.size)
    if size is None or shorter <= size:
        return content, image.size
    scaled = [max(1, round(side * size / shorter)) for side in image.size]
    image = image.resize(scaled, Image.Resampling.LANCZOS)
    return files.encode(files.Picture(np.asarray(image)), "jpg"), image.size


def _join(target: pathlib.Path, count: int, claim: Mapping[str, Any]) -> None:
    """Makes one index of those of all shards; its JSON, written last, says that packing has ended."""
    names: list[bytes] = []
    sizes, hashes, counts, total = [], [], [], 0
    left_out: dict[str, str] = {}
    for number in range(count):
        with _part(target, number).open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            about = json.loads(stored["about"].tobytes())
            sizes.append(stored["sizes"])
            hashes.append(stored["hashes"])
        names += [name.encode("utf-8", "surrogateescape") for name in about["names"]]
        counts.append(len(about["names"]))
        left_out |= about["left_out"]
        total += about["bytes"]
    if not names:
        raise types.InputError(f"none of the pictures can be read: {next(iter(left_out.items()))}")
    arrays: dict[str, np.ndarray] = {
        records.NAMES: np.frombuffer(b"".join(names), np.uint8),
        records.ENDS: np.asarray(list(itertools.accumulate(map(len, names))), np.int64),
        records.SIZES: np.concatenate(sizes),
        records.HASHES: np.concatenate(hashes),
    }
    for name, array in arrays.items():
        with files.atomic(target / name) as part, part.open("wb") as file:
            np.save(file, array, allow_pickle=False)
    index = {**claim, "shards": counts, "bytes": total, "left_out": left_out}
    files.write_text(target / records.INDEX, json.dumps(index) + "\n")
    for number in range(count):
        _part(target, number).unlink(missing_ok=True)


def _summary(target: pathlib.Path) -> Packed:
    index = json.loads((target / records.INDEX).read_text(encoding="utf-8"))
    return Packed(sum(index["shards"]), index["bytes"], index["left_out"])


def _part(target: pathlib.Path, number: int) -> pathlib.Path:
    return target / f"{records.shard_name(number)}.npz"
