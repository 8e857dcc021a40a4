"""Translation of many picture files: decoded and encoded in threads while the devices compute."""

import collections
import contextlib
import dataclasses
import errno
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Literal

import jax

from gqst import types
from gqst.inference import inputs
from gqst.inference import report as reports
from gqst.inference.generator import Generator, Styled
from gqst.inference.inputs import Job
from gqst.pictures import decode, files

_log = logging.getLogger("gqst")

# Bytes of pictures between decoding and writing; one picture may exceed it.
_IN_FLIGHT = 2**28
# Pixels of source, result and their copies in decoders and encoders.
_BYTES_PER_PIXEL = 12
_MOST_BATCHES = 32
_MOST_THREADS = 8
# After these no other picture can be written either.
_FATAL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EIO})

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Options:
    """How pictures are read, styled and written.

    Attributes:
      strength: Strength of the style, from 0 to 1.
      min_structure: Least contrast_structure of every picture to its source; None sets no floor.
      max_size: Longer side in pixels to which larger pictures are scaled down first; None keeps their size.
      depth: Bits per channel.
      quality: Quality of formats with loss, 1 to 100; None takes each format's default.
      skip_existing: Whether existing results are left alone.
    """

    strength: float = 1.0
    min_structure: float | None = None
    max_size: int | None = None
    depth: Literal[8, 16] = 8
    quality: int | None = None
    skip_existing: bool = False


class Stopped(types.InputError):
    """Raised where no further result can be written.

    Attributes:
      report: What became of the pictures so far.
    """

    def __init__(self, sentence: str, report: reports.Report):
        """Makes an error with this message."""
        super().__init__(sentence)
        self.report = report


def stylize(
    generator: Generator,
    found: inputs.Inputs,
    options: Options = Options(),
    *,
    progress: Callable[[int, int], None] | None = None,
    on_end: Callable[[reports.Report], None] | None = None,
) -> reports.Report:
    """Stylises pictures on all devices of this process and returns what became of each.

    A picture that cannot be read, translated or written is named in a warning and left out.

    Args:
      generator: Trained generator.
      found: Files to read and write.
      options: How they are read, styled and written.
      progress: Callback after each picture, with the number of pictures done and that of all.
      on_end: Callback with the report at the end, also at an early one: a full disk, Ctrl-C.

    Raises:
      InputError: A result cannot be written, and no other could.
    """
    started = time.monotonic()
    ended: dict[int, reports.Entry] = {}
    todo: list[int] = []
    for index, job in enumerate(found.jobs):
        if options.skip_existing and job.output.exists():
            ended[index] = reports.Entry(job.source, job.output, "skipped")
        else:
            todo.append(index)
    replicas: list[Generator] = []

    def report() -> reports.Report:
        entries = [entry for _, entry in sorted(ended.items())]
        compiled = sum(replica.compiled for replica in replicas)
        return reports.Report(entries, found.left_out, time.monotonic() - started, compiled)

    pool = futures.ThreadPoolExecutor(min(_MOST_THREADS, (os.cpu_count() or 1) + 2), thread_name_prefix="pictures")
    devices = futures.ThreadPoolExecutor(len(jax.local_devices()), thread_name_prefix="device")
    try:
        sizes = dict(zip(todo, pool.map(lambda i: _size(found.jobs[i], options.max_size), todo), strict=True))
        generator.prepare(size for size in sizes.values() if size is not None)
        replicas += [generator.on(device) for device in jax.local_devices()]
        batches = _batches(generator, todo, sizes)
        pipeline = _Pipeline(found.jobs, options, pool, devices, list(replicas))
        if progress is not None:
            progress(len(ended), len(found.jobs))
        for index, entry in pipeline.run(batches, sizes):
            ended[index] = entry
            if entry.reason is not None:
                _log.warning("left out: %s: %s", entry.source, entry.reason)
            if progress is not None:
                progress(len(ended), len(found.jobs))
    except _FatalError as error:
        raise Stopped(str(error), report()) from error
    finally:
        # A result that cannot be written, or Ctrl-C, cancels the remaining pictures.
        devices.shutdown(cancel_futures=True)
        pool.shutdown(cancel_futures=True)
        if on_end is not None:
            on_end(report())
    return report()


class _FatalError(Exception):
    """Raised for a result that could not be written, where no other could."""


class _PictureError(Exception):
    """Raised for a picture that fails, with the reason."""


@dataclasses.dataclass(frozen=True)
class _Pipeline:
    """The stages that pictures pass: threads that decode, devices, threads that encode."""

    jobs: Sequence[Job]
    options: Options
    pool: futures.Executor
    devices: futures.Executor
    idle: list[Generator]

    def run(
        self, batches: Sequence[Sequence[int]], sizes: Mapping[int, Size | None]
    ) -> Iterator[tuple[int, reports.Entry]]:
        """Yields the number of each picture and what became of it."""
        waiting: collections.deque[tuple[futures.Future[list[_Written]], int]] = collections.deque()
        in_flight = 0
        remaining = collections.deque(batches)
        while remaining or waiting:
            while remaining:
                batch = remaining[0]
                cost = sum(_BYTES_PER_PIXEL * (size[0] * size[1]) for i in batch if (size := sizes[i]))
                if waiting and (in_flight + cost > _IN_FLIGHT or len(waiting) >= _MOST_BATCHES):
                    break
                remaining.popleft()
                decoded = [self.pool.submit(self._read, self.jobs[index]) for index in batch]
                waiting.append((self.devices.submit(self._translate, batch, decoded), cost))
                in_flight += cost
            done, cost = waiting.popleft()
            for index, written in done.result():
                yield index, written.result() if isinstance(written, futures.Future) else written
            in_flight -= cost

    def _read(self, job: Job) -> files.Picture:
        return files.read(job.source, max_size=self.options.max_size, depth=self.options.depth)

    def _translate(self, batch: Sequence[int], decoded: Sequence[futures.Future[files.Picture]]) -> "list[_Written]":
        """Translates a batch on an idle device and hands the results to the threads that encode."""
        outcomes: list[_Written] = []
        pictures: dict[int, files.Picture] = {}
        for index, future in zip(batch, decoded, strict=True):
            try:
                pictures[index] = future.result()
            except decode.UnreadableError as error:
                outcomes.append((index, self._failed(index, error.reason)))
        # There are as many threads as devices, so one is always idle.
        generator = self.idle.pop()
        try:
            for index, styled in self._styled(generator, pictures).items():
                if isinstance(styled, _PictureError):
                    outcomes.append((index, self._failed(index, str(styled), pictures[index])))
                else:
                    outcomes.append((index, self.pool.submit(self._write, index, pictures[index], styled)))
        finally:
            self.idle.append(generator)
        return outcomes

    def _styled(
        self, generator: Generator, pictures: Mapping[int, files.Picture]
    ) -> dict[int, "Styled | _PictureError"]:
        if not pictures:
            return {}
        arrays = [picture.pixels for picture in pictures.values()]
        try:
            styled = generator.translate(
                arrays, strength=self.options.strength, min_structure=self.options.min_structure
            )
            return dict(zip(pictures, styled, strict=True))
        except (ValueError, ArithmeticError, MemoryError, OSError, jax.errors.JaxRuntimeError) as error:
            if len(pictures) == 1:
                return dict.fromkeys(pictures, _PictureError(_reason(error)))
        # One of them fails; the others need not.
        return {
            i: styled for index in pictures for i, styled in self._styled(generator, {index: pictures[index]}).items()
        }

    def _write(self, index: int, picture: files.Picture, styled: Styled) -> reports.Entry:
        job = self.jobs[index]
        try:
            files.write(job.output, dataclasses.replace(picture, pixels=styled.pixels), quality=self.options.quality)
        except files.UnwritableError as error:
            return self._failed(index, error.reason, picture)
        except MemoryError as error:
            return self._failed(index, _reason(error), picture)
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno in _FATAL:
                raise _FatalError(
                    f"cannot write {job.output}: {reason}; free space or choose another --output"
                ) from error
            return self._failed(index, f"{job.output} cannot be written: {reason}", picture)
        return reports.Entry(
            job.source,
            job.output,
            "written",
            size=_width_and_height(picture),
            strength=styled.strength,
            structure=styled.structure,
            notes=picture.notes,
        )

    def _failed(self, index: int, reason: str, picture: files.Picture | None = None) -> reports.Entry:
        job = self.jobs[index]
        size = None if picture is None else _width_and_height(picture)
        return reports.Entry(job.source, job.output, "failed", reason=reason, size=size)


_Written = tuple[int, "futures.Future[reports.Entry] | reports.Entry"]


def _batches(generator: Generator, todo: Sequence[int], sizes: Mapping[int, Size | None]) -> list[list[int]]:
    """Returns the pictures that are translated together, in one call to a device each."""
    groups: dict[object, list[int]] = {}
    for index in todo:
        size = sizes[index]
        key: object = None
        # One that does not fit into the memory fails when its turn comes.
        with contextlib.suppress(MemoryError):
            key = None if size is None else generator.group(*size)
        groups.setdefault(key, []).append(index)
    batches = []
    for key, indices in groups.items():
        size = sizes[indices[0]]
        count = 1 if key is None or size is None else generator.batch_size(*size)
        batches += [indices[first : first + count] for first in range(0, len(indices), count)]
    return batches


def _size(job: Job, max_size: int | None) -> Size | None:
    """Height and width that a picture will have, from its file's head; None if that cannot be read."""
    try:
        width, height = decode.size(job.source)
    except decode.UnreadableError:
        return None
    if max_size is not None:
        width, height = files.scaled_size((width, height), max_size)
    return height, width


def _width_and_height(picture: files.Picture) -> tuple[int, int]:
    return picture.pixels.shape[1], picture.pixels.shape[0]


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError) and not str(error):
        return "there is not enough memory for it"
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
        return "the device's memory does not suffice: give a lower --memory"
    return (str(error) or type(error).__name__).splitlines()[0]
