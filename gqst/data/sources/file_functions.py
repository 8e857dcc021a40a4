"""TensorFlow's file functions, all that TFDS needs of it to unpack and prepare most datasets of pictures."""

import functools
import glob
import importlib.util
import os
import shutil
import sys
import types
from typing import Any, NoReturn

_NAME = "tensorflow"


def give_to_tfds() -> None:
    """Lets TFDS use these functions in place of a TensorFlow that is not installed, until the process ends.

    TFDS reads datasets without TensorFlow, but unpacks archives through `tf.io.gfile`, and so does the code of most
    datasets list and read pictures. Other libraries still find no TensorFlow.
    """
    if importlib.util.find_spec(_NAME) is not None:
        return
    from tensorflow_datasets.core.utils import lazy_imports_utils

    sys.modules[_NAME] = _tensorflow()
    try:
        # What TFDS imports late, it imports once.
        _ = lazy_imports_utils.tensorflow.io
    finally:
        del sys.modules[_NAME]


def _tensorflow() -> types.ModuleType:
    files = _module(
        "tf.io.gfile",
        GFile=_open,
        copy=_copy,
        exists=os.path.exists,
        glob=_glob,
        isdir=os.path.isdir,
        listdir=os.listdir,
        makedirs=_makedirs,
        remove=os.remove,
        rmtree=shutil.rmtree,
        walk=os.walk,
    )
    compat = _module("tf.compat", as_text=_as_text, as_bytes=_as_bytes)
    # The version is the oldest that TFDS takes.
    return _module("tf", __version__="2.1.0", compat=compat, io=_module("tf.io", gfile=files))


def _module(path: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(path)
    vars(module).update(members, __getattr__=functools.partial(_lacks, path))
    return module


def _lacks(path: str, name: str) -> NoReturn:
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"preparing it takes more of TensorFlow than files ({path}.{name}): pip install tensorflow, or give a data_dir "
        "where it is prepared"
    )


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


def _as_text(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
