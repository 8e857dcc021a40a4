"""TensorFlow's file functions, all that TFDS needs of it to unpack and prepare most datasets of pictures."""

import contextlib
import glob
import importlib.util
import os
import shutil
import sys
import types
from collections.abc import Iterator
from typing import Any, NoReturn

_NAME = "tensorflow"


@contextlib.contextmanager
def stand_in() -> Iterator[None]:
    """Context manager in which `import tensorflow` succeeds without TensorFlow, with functions for files on disk.

    TFDS reads datasets without TensorFlow, but unpacks archives through `tf.io.gfile`, and so does the code of most
    datasets list and read pictures. Where TensorFlow is installed, nothing is changed.
    """
    if importlib.util.find_spec(_NAME) is not None:
        yield
        return
    sys.modules[_NAME] = _module()
    try:
        yield
    finally:
        del sys.modules[_NAME]


def _module() -> types.ModuleType:
    files = types.SimpleNamespace(
        GFile=_open,
        copy=_copy,
        exists=os.path.exists,
        glob=_glob,
        isdir=os.path.isdir,
        listdir=os.listdir,
        makedirs=_makedirs,
        walk=os.walk,
    )
    # The version is the oldest that TFDS takes.
    parts = {"__version__": "2.1.0", "io": types.SimpleNamespace(gfile=files), "compat": _Compat, "__getattr__": _lacks}
    module = types.ModuleType(_NAME)
    vars(module).update(parts)
    return module


class _Compat:
    as_text = staticmethod(lambda text: text.decode() if isinstance(text, bytes) else text)
    as_bytes = staticmethod(lambda text: text.encode() if isinstance(text, str) else text)


def _open(name: str | os.PathLike[str], mode: str = "r") -> Any:
    # TensorFlow's files hold UTF-8.
    return open(name, mode, encoding=None if "b" in mode else "utf-8")


def _copy(source: str | os.PathLike[str], target: str | os.PathLike[str], overwrite: bool = False) -> None:
    if os.path.exists(target) and not overwrite:
        raise FileExistsError(f"{os.fspath(target)} exists")
    shutil.copyfile(source, target)


def _glob(patterns: Any) -> list[str]:
    several = [patterns] if isinstance(patterns, str | os.PathLike) else patterns
    return [path for pattern in several for path in sorted(glob.glob(os.fspath(pattern)))]


def _makedirs(path: str | os.PathLike[str]) -> None:
    os.makedirs(path, exist_ok=True)


def _lacks(name: str) -> NoReturn:
    if name.startswith("__"):
        raise AttributeError(name)
    raise ModuleNotFoundError(
        f"preparing it takes more of TensorFlow than files (tf.{name}): pip install tensorflow, or give a data_dir "
        "where it is prepared"
    )
