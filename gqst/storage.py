"""Paths in buckets, `gs://bucket/run` and `s3://bucket/run`, beside those on disk.

A path in a bucket is one of etils' epath, on fsspec, with the methods of `pathlib.Path`. Folders do not exist there
apart from their files, and a file appears whole or not at all.
"""

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import pathlib
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent import futures
from typing import Any

from gqst import types

_PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}
"""By scheme, the package that speaks to such buckets; its extra is named like the scheme."""

_BEGINNINGS = tuple(f"{scheme}://" for scheme in _PACKAGES)
_MANGLED = tuple(f"{scheme}:/" for scheme in _PACKAGES)
"""What `pathlib` leaves of these."""

_OFF = frozenset({"false", "no", "f", "0"})
"""What etils takes for a no, in any case."""

_LIBRARIES = frozenset({"aiobotocore", "aiohttp", "botocore", "fsspec", "gcsfs", "google", "s3fs"})
"""Packages whose exceptions say that a bucket cannot be used."""

_log = logging.getLogger("gqst")

_THREADS = 16
_VERSIONS = ("ETag", "etag", "generation")
"""What tells two contents of a file apart, as S3 and Google Cloud Storage call it."""
_LOOK_EVERY = 0.5
"""Seconds between two looks at a folder that is mirrored."""
_TEMPORARY = (".part", ".lock")


def path(text: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the path that a text names, on disk or in a bucket; it need not exist.

    Raises:
      InputError: It is in a bucket that needs an extra, or of a kind that is not known.
    """
    text = os.fspath(text)
    scheme, separator, _ = text.partition("://")
    if not separator or not scheme.isalnum():
        if text.startswith(_MANGLED):
            raise types.InputError(f"{text}: give a path in a bucket as text, not as a pathlib.Path")
        return pathlib.Path(text)
    if scheme not in _PACKAGES:
        raise types.InputError(f"{text}: buckets are named gs://... or s3://..., not {scheme}://")
    if importlib.util.find_spec(_PACKAGES[scheme]) is None:
        raise types.InputError(f'{text} needs {_PACKAGES[scheme]}: pip install "gqst[{scheme}]"')
    # epath should write through the file systems that `filesystem` returns, with the same credentials.
    if importlib.util.find_spec("tensorflow") is not None and os.environ.get("EPATH_USE_TF", "").lower() not in _OFF:
        raise types.InputError(
            f"{text}: TensorFlow is installed, and etils would write to buckets through it; "
            "set EPATH_USE_TF=false before Python starts"
        )
    # It takes its time, which those without a bucket need not wait for.
    from etils import epath
    from fsspec import config

    for name in (scheme, "gcs") if scheme == "gs" else (scheme,):
        # Other processes write there too.
        config.conf.setdefault(name, {}).setdefault("use_listings_cache", False)
    return epath.Path(text)


def is_remote(place: str | os.PathLike[str]) -> bool:
    """Returns whether a path is in a bucket."""
    return os.fspath(place).startswith(_BEGINNINGS)


def absolute(place: pathlib.Path) -> pathlib.Path:
    """Returns a path that starts at the root; one in a bucket does."""
    return place if is_remote(place) else place.absolute()


def filesystem(place: str | os.PathLike[str]) -> Any:
    """Returns fsspec's file system of a path in a bucket."""
    import fsspec

    return fsspec.filesystem(os.fspath(place).partition("://")[0])


def find(folder: pathlib.Path) -> dict[str, int]:
    """Returns the sizes in bytes of all files in and below a folder in a bucket, by path relative to it."""
    return {name: info["size"] for name, info in _entries(folder).items()}


def _entries(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """What a bucket says of the files in and below a folder, by path relative to it."""
    entries = filesystem(folder).find(str(folder), detail=True)
    top = str(folder).partition("://")[2].rstrip("/") + "/"
    files = {name: info for name, info in entries.items() if info["type"] == "file" and name.startswith(top)}
    # An object whose name ends in a slash stands for an empty folder.
    return {name.removeprefix(top): info for name, info in sorted(files.items()) if not name.endswith("/")}


def fetch(folder: pathlib.Path, names: Iterable[str], local: pathlib.Path) -> None:
    """Copies files of a folder in a bucket into a folder on disk, each whole or not at all."""
    source = filesystem(folder)

    def one(name: str) -> None:
        with copying(local / name) as part:
            source.get_file(f"{folder}/{name}", str(part))

    _in_threads(one, names)


@contextlib.contextmanager
def copying(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Context manager whose value is a temporary path beside a file on disk, which other processes may copy, too.

    The temporary file replaces the target on success and is deleted if an exception is raised.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def on_disk(folder: pathlib.Path, wanted: Callable[[str], bool]) -> Iterator[pathlib.Path]:
    """Context manager whose value is the folder itself; for one in a bucket, a temporary copy on disk.

    Args:
      folder: The folder.
      wanted: Whether a file is needed, by its path relative to the folder.
    """
    if not is_remote(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="gqst-") as name:
        copy = pathlib.Path(name, folder.name)
        fetch(folder, filter(wanted, find(folder)), copy)
        yield copy


class Cached:
    """A copy on disk of a folder in a bucket, file by file as they are wanted, which is kept until the folder changes.

    Threads may share it, and processes the files.

    Attributes:
      local: The folder on disk.
    """

    def __init__(self, folder: pathlib.Path, cache: pathlib.Path):
        """Looks at what the bucket holds.

        Args:
          folder: Folder in the bucket.
          cache: Folder on disk for copies of any.
        """
        self._folder = folder
        self._sizes: dict[str, int] = {}
        content = {}
        for name, info in _entries(folder).items():
            content[name] = [info.get(key) for key in ("size", *_VERSIONS)]
            self._sizes[name] = info["size"]
        key = hashlib.sha256(json.dumps([str(folder), content], default=str).encode()).hexdigest()[:16]
        self.local = cache / key
        # So that of several threads one copies a file.
        self._locks = {name: threading.Lock() for name in self._sizes}

    def fetch(self, names: Iterable[str]) -> None:
        """Copies files that are not there yet; those that the bucket does not have are left out."""
        for name in names:
            if name not in self._sizes:
                continue
            with self._locks[name]:
                if not (self.local / name).is_file():
                    size = self._sizes[name] / 1e6
                    _log.info("copying %s (%.1f MB) from %s to %s", name, size, self._folder, self.local)
                    fetch(self._folder, [name], self.local)


def remove(folder: pathlib.Path, *, first: str) -> None:
    """Deletes a folder, on disk or in a bucket; there the files called `first` go first.

    Libraries take the name of a folder in a bucket for a pattern; files are named as they are.
    """
    if not is_remote(folder):
        shutil.rmtree(folder)
        return
    bucket = filesystem(folder)
    others, ends = _parted(find(folder), first)
    for part in (ends, others):
        _in_threads(lambda name: bucket.rm_file(f"{folder}/{name}"), part)


def move(folder: pathlib.Path, target: pathlib.Path, *, first: str) -> None:
    """Moves a folder to another place on the same disk or in the same bucket; the old one goes as `remove` does it."""
    if not is_remote(folder):
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)
        return
    bucket = filesystem(folder)
    _in_threads(lambda name: bucket.cp_file(f"{folder}/{name}", f"{target}/{name}"), find(folder))
    remove(folder, first=first)


class Mirror:
    """A folder on disk that is copied to one in a bucket, in a thread; to be closed, which copies once more.

    Files are copied as they are when they have changed, and removed from the bucket when they are gone.

    Attributes:
      local: The folder on disk, a temporary one.
    """

    def __init__(self, remote: pathlib.Path, *, last: str, ignored: str, wanted: Callable[[str], bool], every: float):
        """Copies what the bucket has to disk, and starts the thread.

        Folders called by a number are complete or left out, and then removed from the bucket.

        Args:
          remote: Folder in the bucket.
          last: Name of the file that says that the folder around it is complete: copied last, removed first.
          ignored: Text in the names of files and folders that are not complete yet.
          wanted: Whether a file, by its path relative to the folder, is mirrored.
          every: Seconds between two copies; a folder that is complete is copied at once.
        """
        self._remote, self._last, self._ignored, self._wanted = remote, last, ignored, wanted
        names = [name for name in find(remote) if self._is_mirrored(name)]
        known = frozenset(names)
        broken = {name for name in names if not self._is_whole(name, known)}
        self.local = pathlib.Path(tempfile.mkdtemp(prefix="gqst-"))
        try:
            fetch(remote, [name for name in names if name not in broken], self.local)
        except BaseException:
            shutil.rmtree(self.local, ignore_errors=True)
            raise
        self._copied: dict[str, tuple[int, int] | None] = {**self._stamps(), **dict.fromkeys(broken)}
        self._told = False
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._every = every
        self._thread = threading.Thread(target=self._run, name="gqst-mirror", daemon=True)
        self._thread.start()

    def push(self) -> None:
        """Copies what has changed.

        Raises:
          Exception: Whatever the bucket answers with.
        """
        target = filesystem(self._remote)
        with self._lock:
            now = self._stamps()
            changed = [name for name, stamp in now.items() if self._copied.get(name) != stamp]
            gone = {name for name in self._copied if name not in now}
            # A folder that is being deleted is not complete any more, whatever goes first.
            gone |= {end for end in self._copied if self._is_last(end) and any(self._below(name, end) for name in gone)}

            vanished: list[str] = []

            def copy(name: str) -> None:
                if self._is_last(name) and any(self._below(other, name) for other in vanished):
                    return
                try:
                    target.put_file(str(self.local / name), f"{self._remote}/{name}")
                except FileNotFoundError:
                    # It is gone since: a checkpoint that is not kept, a file that was temporary.
                    if (self.local / name).exists():
                        raise
                    vanished.append(name)
                    return
                self._copied[name] = now[name]

            def remove(name: str) -> None:
                with contextlib.suppress(FileNotFoundError):
                    target.rm_file(f"{self._remote}/{name}")
                del self._copied[name]

            others, ends = _parted(changed, self._last)
            _in_threads(copy, others)
            _in_threads(copy, ends)
            others, ends = _parted(gone, self._last)
            _in_threads(remove, ends)
            _in_threads(remove, others)

    def try_to_push(self) -> None:
        """Copies what has changed; what a bucket refuses now, it may take the next time, which a warning says."""
        try:
            self.push()
            self._told = False
        except Exception as error:
            if not self._told:
                _log.warning("%s does not take files now (%s): trying again", self._remote, reason(error))
            self._told = True

    def close(self) -> None:
        """Copies for the last time and removes the folder on disk, unless copying failed.

        Raises:
          InputError: The bucket refuses what is to be copied; the folder on disk is left, and named.
        """
        self._closed.set()
        self._thread.join()
        try:
            self.push()
        except Exception as error:
            raise types.InputError(
                f"cannot write to {self._remote}: {reason(error)}; what could not be copied is in {self.local}"
            ) from error
        shutil.rmtree(self.local, ignore_errors=True)

    def _run(self) -> None:
        due = time.monotonic() + self._every
        while not self._closed.wait(_LOOK_EVERY):
            if time.monotonic() > due or self._is_complete():
                self.try_to_push()
                due = time.monotonic() + self._every

    def _is_complete(self) -> bool:
        """Whether a folder has become complete since the last copy: it is copied at once."""
        return any(self._is_last(name) for name in self._stamps().keys() - self._copied.keys())

    def _stamps(self) -> dict[str, tuple[int, int]]:
        """The time and size of each file on disk that is to be copied."""
        stamps = {}
        for folder, _, names in os.walk(self.local):
            for name in names:
                file = pathlib.Path(folder, name)
                relative = file.relative_to(self.local).as_posix()
                if self._is_mirrored(relative):
                    try:
                        found = file.stat()
                    except FileNotFoundError:
                        continue
                    stamps[relative] = (found.st_mtime_ns, found.st_size)
        return dict(sorted(stamps.items()))

    def _is_last(self, name: str) -> bool:
        return os.path.basename(name) == self._last

    def _below(self, name: str, end: str) -> bool:
        """Whether a file is in the folder, or below it, that another one ends."""
        return name.startswith(os.path.dirname(end) + "/")

    def _is_whole(self, name: str, names: Container[str]) -> bool:
        """Whether a file of the bucket is in no folder called by a number, or in one that its last file ends."""
        folders = [parent for parent in pathlib.PurePosixPath(name).parents if parent.name.isdecimal()]
        return all(f"{parent}/{self._last}" in names for parent in folders)

    def _is_mirrored(self, name: str) -> bool:
        return not name.endswith(_TEMPORARY) and self._ignored not in name and self._wanted(name)


def reason(error: BaseException) -> str:
    """Returns what an exception of a bucket says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def is_refusal(error: BaseException) -> bool:
    """Returns whether an exception comes from a library that speaks to buckets."""
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def _parted(names: Iterable[str], last: str) -> tuple[list[str], list[str]]:
    """Returns the files that have another name than `last`, in whatever folder, and those that have it."""
    parts: tuple[list[str], list[str]] = ([], [])
    for name in names:
        parts[os.path.basename(name) == last].append(name)
    return parts


def _in_threads(act: Callable[[str], None], names: Iterable[str]) -> None:
    with futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="bucket") as pool:
        for _ in pool.map(act, names):
            pass
