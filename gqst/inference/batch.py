"""A trained style applied to many picture files."""

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
from gqst.data.sources import paths
from gqst.inference.generator import Generator
from gqst.pictures import decode, files

_log = logging.getLogger("gqst")
_End = Literal["written", "skipped", "failed"]


@dataclasses.dataclass(frozen=True)
class Job:
    """One file to read and one to write."""

    source: pathlib.Path
    output: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How many pictures were written, were there already, and could not be done."""

    written: int
    skipped: int
    failed: int


def plan(inputs: Sequence[str], output: pathlib.Path, *, suffix: str | None = None) -> list[Job]:
    """The files to stylise: folders with all pictures under them, in their own folders below `output`.

    Args:
      inputs: files and folders; `demo:` stands for the bundled pictures.
      output: folder of the results; made when the first is written.
      suffix: of the results, as in ".png"; None keeps each file's own where it can be written.

    Raises:
      InputError: a path is missing, a folder has no pictures, a result would replace an input, or two
        results would have one name.
    """
    jobs: list[Job] = []
    for given in inputs:
        path = paths.resolve(given)
        if path.is_dir():
            found = paths.listing(path, option="--input")
            jobs += [_job(p, output / p.relative_to(path), suffix) for p in found.paths]
        elif path.is_file():
            jobs.append(_job(path, output / path.name, suffix))
        else:
            raise types.InputError(f"there is no picture or folder {given} (--input)")
    sources = {job.source.resolve() for job in jobs}
    taken: dict[pathlib.Path, pathlib.Path] = {}
    for job in jobs:
        if job.output.resolve() in sources:
            raise types.InputError(f"{job.output} is one of the inputs and would be replaced: give another --output")
        if job.output in taken:
            raise types.InputError(
                f"{taken[job.output]} and {job.source} would both be written to {job.output}: "
                "stylise them into different folders"
            )
        taken[job.output] = job.source
    return jobs


def run(
    generator: Generator,
    jobs: Sequence[Job],
    *,
    max_size: int | None = None,
    skip_existing: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Stylises every file, on all devices of this process; one that cannot be done is told in a line and passed over.

    Args:
      generator: the trained generator.
      jobs: what to read and write.
      max_size: longer side in pixels to which larger pictures are scaled down first.
      skip_existing: whether results that are there already are left as they are.
      progress: called after each picture with how many are done and how many there are.

    Raises:
      InputError: a result cannot be written.
    """
    ended: collections.Counter[_End] = collections.Counter()
    free = [generator.on(device) for device in jax.local_devices()]

    def one(job: Job) -> _End:
        if skip_existing and job.output.exists():
            return "skipped"
        # There are as many threads as devices: one is free.
        mine = free.pop()
        try:
            return "written" if _stylise(mine, job, max_size) else "failed"
        finally:
            free.append(mine)

    with futures.ThreadPoolExecutor(len(free)) as pool:
        try:
            for done, end in enumerate(pool.map(one, jobs), start=1):
                ended[end] += 1
                if progress is not None:
                    progress(done, len(jobs))
        finally:
            # What failed to write, or Ctrl-C, ends the rest.
            pool.shutdown(cancel_futures=True)
    return Outcome(written=ended["written"], skipped=ended["skipped"], failed=ended["failed"])


def _job(source: pathlib.Path, output: pathlib.Path, suffix: str | None) -> Job:
    own = source.suffix if source.suffix.lower() in files.FORMATS else ".png"
    return Job(source=source, output=output.with_suffix(suffix or own))


def _stylise(generator: Generator, job: Job, max_size: int | None) -> bool:
    try:
        picture = files.read(job.source, max_size=max_size)
        fake = generator(picture.rgb)
    except decode.UnreadableError as error:
        _log.warning("left out: %s", error)
        return False
    except (ValueError, MemoryError, jax.errors.JaxRuntimeError) as error:
        # Too small for the network, or too large for the memory.
        _log.warning("left out: %s: %s", job.source, str(error).splitlines()[0])
        return False
    if not np.isfinite(fake).all():
        _log.warning("left out: %s: the generator's output is not finite", job.source)
        return False
    try:
        files.write(job.output, dataclasses.replace(picture, rgb=fake))
    except OSError as error:
        raise types.InputError(
            f"cannot write {job.output}: {error.strerror or error}; free space or choose another --output"
        ) from error
    return True
