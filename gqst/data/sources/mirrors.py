"""Archives of TFDS datasets from a mirror, or from a copy on disk or in a bucket."""

import hashlib
import http.client
import pathlib
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from gqst import registry, storage, types
from gqst.runtime import progress

_BLOCK = 2**20  # bytes
_TIMEOUT = 60  # seconds without an answer
_WEB = ("http://", "https://")


def copy(builder: Any, dataset: str, url: str, folder: pathlib.Path) -> None:
    """Copies the archive of a dataset from a mirror into a folder, unless it is there.

    Args:
      builder: TFDS's builder of the dataset, which knows the names and contents of archives.
      dataset: Name of the dataset, for messages.
      url: Address or path of the archive.
      folder: Folder on disk; created if absent.

    Raises:
      InputError: The dataset has no archive of that name, it cannot be copied, or it is another one.
    """
    named: dict[str, list[Any]] = {}
    for info in (builder.url_infos or {}).values():
        if info.filename:
            named.setdefault(info.filename, []).append(info)
    # Archives of other configs, whose names say so, are not wanted.
    own = builder.builder_config.name if builder.builder_config else ""
    named = {name: infos for name, infos in named.items() if own in name} or named
    name = _name(url)
    if name not in named:
        raise types.InputError(
            f"data option 'url': {dataset} has no archive {name!r}{registry.hint(name, named)}; a mirror names it as "
            f"TFDS does: {', '.join(sorted(named)) or 'which names none'}"
        )
    contents = [(int(info.size), info.checksum) for info in named[name]]
    if (folder / name).is_file() and _content(folder / name) in contents:
        return
    with storage.copying(folder / name) as part:
        _download(url, part, most=max(size for size, _ in contents))
        if (found := _content(part)) not in contents:
            (size, digest), (wanted, right) = found, contents[0]
            raise types.InputError(
                f"data option 'url': {url} is not the archive of {dataset}: {size:,} bytes with SHA-256 {digest}, not "
                f"{wanted:,} with {right}"
            )


def _name(url: str) -> str:
    """The file name at the end of an address or path."""
    if not url.startswith(_WEB):
        return pathlib.PurePath(url).name
    try:
        return pathlib.PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name
    except ValueError as error:
        raise types.InputError(f"data option 'url': {url} is no address: {storage.reason(error)}") from error


def _download(url: str, target: pathlib.Path, *, most: int) -> None:
    """Writes what an address or path holds, and no more than one byte too many."""
    done = 0
    with target.open("wb") as file, progress.Counter(f"downloading {_name(url)}", unit="megabyte") as count:
        for block in _blocks(url, most + 1):
            file.write(block)
            done += len(block)
            count(done // _BLOCK, most // _BLOCK)


def _blocks(url: str, left: int) -> Iterator[bytes]:
    """Yields what an address or path holds, up to a number of bytes."""
    try:
        with _opened(url) as stream:
            while left and (block := stream.read(min(_BLOCK, left))):
                left -= len(block)
                yield block
    # What servers, disks and buckets answer with.
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise types.InputError(f"data option 'url': {url} cannot be copied: {storage.reason(error)}") from error


def _opened(url: str) -> Any:
    if url.startswith(_WEB):
        return urllib.request.urlopen(url, timeout=_TIMEOUT)
    return storage.path(url).expanduser().open("rb")


def _content(path: pathlib.Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path.stat().st_size, digest
