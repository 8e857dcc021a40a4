"""Which pictures are to be stylised, and what their results are called."""

import dataclasses
import glob
import pathlib
from collections.abc import Mapping, Sequence

from gqst import storage, types
from gqst.inference import report
from gqst.pictures import decode, files, folders

LIST = "@"
"""Before the name of a text file with a path on every line."""

# What 16 bits a channel can be written as.
_DEEP = frozenset({".png", ".tif", ".tiff"})
_SHOWN = 3


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
class Inputs:
    """What was found.

    Attributes:
      jobs: Pictures in the order in which they were given, those of a folder by path.
      left_out: Files in folders that are not taken, by reason.
    """

    jobs: Sequence[Job]
    left_out: Mapping[str, Sequence[pathlib.Path]]


def collect(inputs: Sequence[str], output: pathlib.Path, *, suffix: str | None = None, depth: int = 8) -> Inputs:
    """Returns the pictures to stylise; results keep the subfolders that they have below a folder that was given.

    Two pictures of a folder that differ in their suffix alone have distinct results: the one that already has the
    suffix of its result keeps its name, and the other's result has both suffixes, as in "a.bmp.png".

    Args:
      inputs: Files, folders (with all pictures in and below them), patterns such as "in/**/*.jpg", and text files with
        a path on every line after "@"; `demo:` stands for the folder of the bundled pictures.
      output: Folder for the results, made when the first one is written; or the file of the only one, if it ends in the
        suffix of a picture.
      suffix: File suffix of the results, such as ".png"; None keeps each file's own, or takes ".png" where that format
        cannot be written.
      depth: Bits per channel of the results, 8 or 16, on which the formats depend.

    Raises:
      InputError: A path does not exist, a folder has no pictures, a result would replace an input, or two results
        would have the same name.
    """
    left_out: dict[str, list[pathlib.Path]] = {}
    named: dict[pathlib.Path, pathlib.PurePath] = {}  # source to its name below the output
    for text in _expanded(inputs):
        path = folders.resolve(text)
        if path.is_dir():
            for reason, paths in _add_folder(path, output, named).items():
                left_out.setdefault(reason, []).extend(paths)
        elif path.exists() or (not storage.is_remote(path) and path.is_symlink()):
            named.setdefault(path, pathlib.PurePath(path.name))
        else:
            raise types.InputError(f"there is no picture or folder {text} (--input)")
    if output.suffix.lower() in files.FORMATS and not output.is_dir() and len(named) == 1:
        jobs = [Job(next(iter(named)), output)]
    else:
        jobs = _named(named, output, suffix, depth)
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        if job.output.resolve() in sources:
            raise types.InputError(f"{job.output} is one of the inputs and would be replaced: give another --output")
    return Inputs(jobs, left_out)


def check_existing(jobs: Sequence[Job]) -> None:
    """Raises InputError if results exist already."""
    existing = [job.output for job in jobs if job.output.exists()]
    if existing:
        count = f"{len(existing):,} of the results exist" if len(existing) > 1 else "the result exists"
        shown = ", ".join(map(str, existing[:_SHOWN])) + (", ..." if len(existing) > _SHOWN else "")
        raise types.InputError(
            f"{count} already ({shown}): --overwrite replaces what exists, --skip-existing leaves it alone"
        )


def planned(found: Inputs, *, max_size: int | None = None, skip_existing: bool = False) -> report.Report:
    """Returns what would be done, from the heads of the files.

    Args:
      found: Pictures to stylise.
      max_size: Longer side in pixels to which larger pictures are scaled down; None keeps their size.
      skip_existing: Whether existing results are left alone.
    """
    entries = []
    for job in found.jobs:
        if skip_existing and job.output.exists():
            entries.append(report.Entry(job.source, job.output, "skipped"))
            continue
        try:
            size = files.scaled_size(decode.size(job.source), max_size)
        except decode.UnreadableError as error:
            entries.append(report.Entry(job.source, job.output, "failed", reason=error.reason))
            continue
        entries.append(report.Entry(job.source, job.output, "planned", size=size))
    return report.Report(entries, found.left_out)


def _expanded(inputs: Sequence[str]) -> list[str]:
    """The paths that lists and patterns stand for, and the others as they are."""
    expanded: list[str] = []
    for text in inputs:
        if text.startswith(LIST) and not pathlib.Path(text).exists():
            try:
                content = pathlib.Path(text.removeprefix(LIST)).read_bytes()
            except OSError as error:
                raise types.InputError(
                    f"the list {text.removeprefix(LIST)} cannot be read: {error.strerror} (--input)"
                ) from error
            # Names need not be UTF-8.
            lines = content.decode("utf-8-sig", "surrogateescape").splitlines()
            expanded += [line for line in lines if line.strip()]
        elif glob.has_magic(text) and not folders.resolve(text).exists():
            found = _matches(folders.resolve(text))
            if not found:
                raise types.InputError(f"nothing matches {text} (--input)")
            expanded += [path for path in found if "**" not in text or not storage.path(path).is_dir()]
        else:
            expanded.append(text)
    return expanded


def _matches(pattern: pathlib.Path) -> list[str]:
    if not storage.is_remote(pattern):
        return sorted(glob.glob(str(pattern), recursive=True))
    scheme = str(pattern).partition("://")[0]
    return [f"{scheme}://{name}" for name in sorted(storage.filesystem(pattern).glob(str(pattern)))]


def _add_folder(
    folder: pathlib.Path, output: pathlib.Path, named: dict[pathlib.Path, pathlib.PurePath]
) -> Mapping[str, Sequence[pathlib.Path]]:
    listing = folders.listing(folder, option="--input", tell=False)
    results = output.resolve()
    # Results of an earlier call below the folder are no inputs; those in the folder itself cannot be told apart.
    inside = results != folder.resolve() and results.is_relative_to(folder.resolve())
    for path in listing.paths:
        if not (inside and path.resolve().is_relative_to(results)):
            named.setdefault(path, path.relative_to(folder))
    return listing.left_out


def _named(
    named: Mapping[pathlib.Path, pathlib.PurePath], output: pathlib.Path, suffix: str | None, depth: int
) -> list[Job]:
    """Returns the jobs with distinct results."""
    formats = files.FORMATS.keys() if depth == 8 else _DEEP
    wanted: dict[pathlib.PurePath, list[pathlib.Path]] = {}
    results: dict[pathlib.Path, pathlib.PurePath] = {}
    for source, name in named.items():
        own = name.suffix if name.suffix.lower() in formats else ".png"
        results[source] = name.with_suffix(suffix or own)
        wanted.setdefault(results[source], []).append(source)
    for result, sources in wanted.items():
        for source in sources:
            if len(sources) > 1 and named[source] != result:
                results[source] = named[source].with_name(named[source].name + result.suffix)
    taken: dict[pathlib.PurePath, pathlib.Path] = {}
    for source, result in results.items():
        if result in taken:
            raise types.InputError(
                f"{taken[result]} and {source} would both be written to {output / result}: "
                "stylise them into different folders"
            )
        taken[result] = source
    return [Job(source, output / result) for source, result in results.items()]
