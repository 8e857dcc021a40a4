"""Picture files on disk, and the paths that options name."""

import dataclasses
import functools
import hashlib
import importlib.util
import logging
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from PIL import Image, features

from gqst import storage, types
from gqst.pictures import decode

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
    | {".jp2", ".j2k", ".jpx", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".heic", ".heif"}
)
"""File suffixes of pictures that are taken, where what decodes them is installed."""

OF_A_SET = re.compile(r"(train|test|val|validation)_?([AB]?)", re.IGNORECASE)
"""Names of the folders of a data set: the split, and A (source) or B (target)."""

NO_PICTURES = "not pictures"
"""Reason for leaving out files that nobody would miss."""

# What decodes a format that not every installation reads, and how to get it.
_NEEDS = {
    ".heic": 'HEIC needs pip install "gqst[heic]"',
    ".heif": 'HEIC needs pip install "gqst[heic]"',
    ".avif": "this Pillow was built without AVIF",
    ".jp2": "this Pillow was built without JPEG 2000",
    ".j2k": "this Pillow was built without JPEG 2000",
    ".jpx": "this Pillow was built without JPEG 2000",
}
_RAW = frozenset({".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw"})
_OTHER_PICTURES = frozenset({".svg", ".psd", ".pdf", ".eps", ".ai", ".xcf", ".jxl", ".exr", ".hdr", ".ico", ".icns"})
# Folders of previews that NAS systems, cameras and desktops keep beside the pictures.
_THUMBNAILS = frozenset({"@eadir", "#recycle", "@recycle", "__macosx", "thumbnails", "_thumbs"})
_BUNDLED = "demo:"

_log = logging.getLogger("gqst")


@dataclasses.dataclass(frozen=True)
class Files:
    """Pictures in files; their names are paths relative to `root`.

    Attributes:
      root: The folder.
      paths: The files.
      left_out: Other files in the folder, by the reason why they are not taken.
    """

    root: pathlib.Path
    paths: Sequence[pathlib.Path]
    left_out: Mapping[str, Sequence[pathlib.Path]] = dataclasses.field(default_factory=dict)

    @property
    def origin(self) -> str:
        """See `Pictures.origin`: the folder."""
        return str(self.root)

    def __len__(self) -> int:
        """Number of pictures, readable or not."""
        return len(self.paths)

    def name(self, index: int) -> str:
        """See `Pictures.name`."""
        return self.paths[index].relative_to(self.root).as_posix()

    def load(self, index: int, *, shorter: int | None = None) -> Image.Image:
        """See `Pictures.load`."""
        return decode.decode(self.paths[index], shorter=shorter)


def resolve(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the path of an option: `~` is expanded, `demo:` stands for the bundled pictures.

    Raises:
      InputError: It is in a bucket that cannot be used here.
    """
    text = os.fspath(path)
    if text.startswith(_BUNDLED):
        bundled = pathlib.Path(str(resources.files("gqst.data") / "demo"))
        return bundled / text.removeprefix(_BUNDLED)
    return storage.path(text).expanduser()


def listing(path: str | os.PathLike[str], *, option: str, tell: bool = True) -> Files:
    """Returns all picture files under a folder, nested ones too, sorted by path; hidden ones are left out.

    Args:
      path: The folder.
      option: Name of the option that it comes from, for messages.
      tell: Whether pictures that cannot be read here, and thumbnails, are counted in a warning.

    Raises:
      InputError: The folder is missing, is not a folder, or holds no picture.
    """
    root = resolve(path)
    if not root.exists():
        raise types.InputError(f"there is no folder {path} (data option {option!r})")
    if not root.is_dir():
        raise types.InputError(f"{path} is not a folder (data option {option!r})")
    left_out: dict[str, list[pathlib.Path]] = {}
    try:
        paths = sorted(_walk(root, left_out), key=lambda p: p.relative_to(root).as_posix())
    except OSError as error:
        raise types.InputError(f"{path} cannot be listed: {error}") from error
    missed = "; ".join(f"{len(files):,}: {reason}" for reason, files in left_out.items() if reason != NO_PICTURES)
    if not paths:
        raise types.InputError(
            f"no pictures in {path} (data option {option!r}); "
            + (f"left out: {missed}" if missed else f"picture files end in {', '.join(sorted(SUFFIXES))}")
        )
    if missed and tell:
        _log.warning("left out in %s: %s", path, missed)
    return Files(root, paths, left_out)


def hash_of_names(names: Iterable[str]) -> str:
    """Returns the SHA-256 of the names of pictures, in their order, by which data is known again."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def inside(path: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Returns the folders within a folder that are named like a split or domain of a data set, as trainA or test."""
    root = resolve(path)
    if not root.is_dir():
        return []
    return sorted(inner for inner in root.iterdir() if inner.is_dir() and OF_A_SET.fullmatch(inner.name))


def _walk(root: pathlib.Path, left_out: dict[str, list[pathlib.Path]]) -> list[pathlib.Path]:
    """Returns the pictures, and adds the other files to `left_out`."""
    pictures: list[pathlib.Path] = []
    if storage.is_remote(root):
        for name in storage.find(root):
            if not any(part.startswith(".") for part in pathlib.PurePosixPath(name).parts):
                _sort_out(root, root / name, pictures, left_out)
        return pictures
    entered = set()
    for folder, inner, names in os.walk(root, followlinks=True, onerror=_fail):
        real = os.path.realpath(folder)
        # A link back to a folder above would loop forever.
        if real in entered:
            inner.clear()
            continue
        entered.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                _sort_out(root, pathlib.Path(folder, name), pictures, left_out)
    return pictures


def _sort_out(
    root: pathlib.Path, path: pathlib.Path, pictures: list[pathlib.Path], left_out: dict[str, list[pathlib.Path]]
) -> None:
    """Adds a file to the pictures, or to those that are left out."""
    thumbnails = any(part.lower() in _THUMBNAILS for part in path.relative_to(root).parts[:-1])
    reason = "thumbnails" if thumbnails else _reason(path.suffix.lower())
    if reason is None:
        pictures.append(path)
    else:
        left_out.setdefault(reason, []).append(path)


def _reason(suffix: str) -> str | None:
    """Returns why files of a suffix are not taken; None if they are."""
    if suffix in _RAW:
        return f"raw data of cameras ({suffix}) has to be developed first"
    if suffix in _OTHER_PICTURES:
        return f"{suffix.removeprefix('.')} is not read"
    if suffix not in SUFFIXES:
        return NO_PICTURES
    return _NEEDS.get(suffix) if not _can_read(suffix) else None


@functools.cache
def _can_read(suffix: str) -> bool:
    if suffix in (".heic", ".heif"):
        return importlib.util.find_spec("pillow_heif") is not None
    feature = {".avif": "avif", ".jp2": "jpg_2000", ".j2k": "jpg_2000", ".jpx": "jpg_2000"}.get(suffix)
    return feature is None or bool(features.check(feature))


def _fail(error: OSError) -> None:
    raise error
