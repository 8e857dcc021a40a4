"""Translation of many picture files with a trained generator."""

import collections
import dataclasses
import logging
import pathlib
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Literal

import jax
import numpy as np

from gqst import types
from gqst.inference.generator import Generator
from gqst.pictures import decode, files, folders

_log = logging.getLogger("gqst")
_End = Literal["written", "skipped", "failed"]


@dataclasses.dataclass(frozen=True)
class Job:
    """A picture to stylise.

    Attributes:
      source: File to read.
      output: File to write.
    """

    source: pathlib.Path
    output: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Numbers of pictures by their outcome.

    Attributes:
      written: Number of results written.
      skipped: Number of results that already existed and were left alone.
      failed: Number of pictures that could not be read or stylised.
    """

    written: int
    skipped: int
    failed: int


def collect(inputs: Sequence[str], output: pathlib.Path, *, suffix: str | None = None) -> list[Job]:
    """Returns the files to stylise, with all pictures in and below the folders; results keep their subfolders.

    Args:
      inputs: Paths of files and folders; `demo:` stands for the folder of the bundled pictures.
      output: Folder for the results, made when the first one is written.
      suffix: File suffix of the results, such as ".png"; None keeps each file's own, or takes ".png" where that format
        cannot be written.

    Raises:
      InputError: A path does not exist, a folder has no pictures, a result would replace an input, or two results
        would have the same name.
    """
    jobs: list[Job] = []
    for text in inputs:
        path = folders.resolve(text)
        if path.is_dir():
            listing = folders.listing(path, option="--input")
            jobs += [_job(p, output / p.relative_to(path), suffix) for p in listing.paths]
        elif path.is_file():
            jobs.append(_job(path, output / path.name, suffix))
        else:
            raise types.InputError(f"there is no picture or folder {text} (--input)")
    sources = {job.source.resolve() for job in jobs}
    sources_by_output: dict[pathlib.Path, pathlib.Path] = {}
    for job in jobs:
        if job.output.resolve() in sources:
            raise types.InputError(f"{job.output} is one of the inputs and would be replaced: give another --output")
        if job.output in sources_by_output:
            raise types.InputError(
                f"{sources_by_output[job.output]} and {job.source} would both be written to {job.output}: "
                "stylise them into different folders"
            )
        sources_by_output[job.output] = job.source
    return jobs


def stylize(
    generator: Generator,
    jobs: Sequence[Job],
    *,
    max_size: int | None = None,
    skip_existing: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Stylises pictures on all devices of this process and returns how many were written, skipped and left out.

    A picture that cannot be read or stylised is named in a warning and left out.

    Args:
      generator: Trained generator.
      jobs: Files to read and write.
      max_size: Longer side in pixels to which larger pictures are scaled down first; None keeps their size.
      skip_existing: Whether existing results are left alone.
      progress: Callback after each picture, with the number of pictures done and that of all.

    Raises:
      InputError: A result cannot be written.
    """
    counts: collections.Counter[_End] = collections.Counter()
    idle = [generator.on(device) for device in jax.local_devices()]

    def process(job: Job) -> _End:
        if skip_existing and job.output.exists():
            return "skipped"
        # There are as many threads as devices, so one is always idle.
        replica = idle.pop()
        try:
            return "written" if _stylise(replica, job, max_size) else "failed"
        finally:
            idle.append(replica)

    with futures.ThreadPoolExecutor(len(idle)) as pool:
        try:
            for done, end in enumerate(pool.map(process, jobs), start=1):
                counts[end] += 1
                if progress is not None:
                    progress(done, len(jobs))
        finally:
            # A result that cannot be written, or Ctrl-C, cancels the remaining pictures.
            pool.shutdown(cancel_futures=True)
    return Outcome(written=counts["written"], skipped=counts["skipped"], failed=counts["failed"])


def _job(source: pathlib.Path, output: pathlib.Path, suffix: str | None) -> Job:
    own = source.suffix if source.suffix.lower() in files.FORMATS else ".png"
    return Job(source=source, output=output.with_suffix(suffix or own))


def _stylise(generator: Generator, job: Job, max_size: int | None) -> bool:
    try:
        picture = files.read(job.source, max_size=max_size)
        top = np.float32(np.iinfo(picture.pixels.dtype).max)
        fake = generator(picture.pixels / top)
    except decode.UnreadableError as error:
        _log.warning("left out: %s", error)
        return False
    except (ValueError, MemoryError, jax.errors.JaxRuntimeError) as error:
        # The picture is too small for the network or too large for the memory.
        _log.warning("left out: %s: %s", job.source, str(error).splitlines()[0])
        return False
    if not np.isfinite(fake).all():
        _log.warning("left out: %s: the generator's output is not finite", job.source)
        return False
    try:
        files.write(job.output, dataclasses.replace(picture, pixels=decode.to_bytes(fake)))
    except files.UnwritableError as error:
        _log.warning("left out: %s: %s", job.source, error.reason)
        return False
    except OSError as error:
        raise types.InputError(
            f"cannot write {job.output}: {error.strerror or error}; free space or choose another --output"
        ) from error
    return True
