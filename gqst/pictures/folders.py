"""Picture files on disk, and the paths that options name."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from importlib import resources

from PIL import Image

from gqst import types
from gqst.pictures import decode

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_BUNDLED = "demo:"


@dataclasses.dataclass(frozen=True)
class Files:
    """Pictures in files; their names are paths relative to `root`."""

    root: pathlib.Path
    paths: Sequence[pathlib.Path]

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
    """Returns the path of an option: `~` is expanded, `demo:` stands for the bundled pictures."""
    text = os.fspath(path)
    if text.startswith(_BUNDLED):
        bundled = pathlib.Path(str(resources.files("gqst.data") / "demo"))
        return bundled / text.removeprefix(_BUNDLED)
    return pathlib.Path(text).expanduser()


def listing(path: str | os.PathLike[str], *, option: str) -> Files:
    """Returns all picture files under a folder, nested ones too, sorted by path; hidden ones are left out.

    Raises:
      InputError: The folder is missing, is not a folder, or holds no picture.
    """
    root = resolve(path)
    if not root.exists():
        raise types.InputError(f"there is no folder {path} (data option {option!r})")
    if not root.is_dir():
        raise types.InputError(f"{path} is not a folder (data option {option!r})")
    try:
        paths = sorted(_walk(root), key=lambda p: p.relative_to(root).as_posix())
    except OSError as error:
        raise types.InputError(f"{path} cannot be listed: {error}") from error
    if not paths:
        raise types.InputError(
            f"no pictures in {path} (data option {option!r}); picture files end in {', '.join(sorted(SUFFIXES))}"
        )
    return Files(root, paths)


def _walk(root: pathlib.Path) -> list[pathlib.Path]:
    pictures = []
    entered = set()
    for folder, inner, names in os.walk(root, followlinks=True, onerror=_fail):
        real = os.path.realpath(folder)
        # A link back to a folder above would loop forever.
        if real in entered:
            inner.clear()
            continue
        entered.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        pictures += [pathlib.Path(folder, name) for name in names if _is_picture(name)]
    return pictures


def _fail(error: OSError) -> None:
    raise error


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and pathlib.PurePath(name).suffix.lower() in SUFFIXES
