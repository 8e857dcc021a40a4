"""A style as one file: the weights of a generator, its config, and a card that says what it is.

A style file is a .safetensors file. Its metadata hold the config as JSON, the card as JSON, and a checksum over these
and all tensors, so that nothing of a damaged file is used. Nothing in it is ever executed.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import linen as nn
from flax import traverse_util

from gqst import config, overrides, registry, storage, types
from gqst.models import base as models
from gqst.pictures import files

SUFFIX = ".safetensors"
BASE = pathlib.Path(__file__).parent / "weights" / f"any_style{SUFFIX}"
"""File of the generator that takes any picture as its style."""

_FORMAT = "gqst-style-1"
_BUNDLED = pathlib.Path(__file__).parent / "styles"
_LARGEST_FILE, _LARGEST_HEADER, _LARGEST_SIDE = 2**29, 2**20, 2**14
# Options of generators that are numbers of layers, and a number that is no trouble, whatever the weights are.
_DEPTHS, _FEW = ("blocks", "depth", "scales"), 64

Dtype = Literal["float16", "float32"]


class Style(NamedTuple):
    """What a style file holds.

    Attributes:
      config: Config, of which the generator and `keep_colors` count.
      module: Its generator.
      variables: Variables of the generator by collection, float32.
      step: Step of the weights.
    """

    config: config.Config
    module: nn.Module
    variables: dict[str, Any]
    step: int


def bundled() -> dict[str, pathlib.Path]:
    """Returns the files of the styles that come with gqst, by name."""
    return {path.stem: path for path in sorted(_BUNDLED.glob(f"*{SUFFIX}"))}


def base() -> Style:
    """Returns the generator that takes any picture as its style; InputError if this copy of gqst has none."""
    if not BASE.is_file():
        raise types.InputError(
            "no generator for any picture as a style comes with this copy of gqst: train one with --config any_style"
        )
    return read(BASE)


def read(style: str | pathlib.Path) -> Style:
    """Returns what a style file holds.

    Args:
      style: File, or name of a style that comes with gqst.

    Raises:
      InputError: There is no such style, or the file is damaged or something else.
    """
    path = find(style)
    tensors, said = _read(path)
    step = _card(path, said).get("step", 0)
    try:
        cfg = overrides.from_json(said["config"], origin="its config")
        _check_size(cfg, tensors)
        module = models.build_generator(cfg)
        pictures = jax.ShapeDtypeStruct((1, cfg.image_size, cfg.image_size, 3), jnp.float32)
        shapes: Any = jax.eval_shape(module.init, jax.random.key(0), pictures)
    except types.InputError as error:
        raise types.InputError(f"{path}: {error}") from error
    except Exception as error:
        raise types.InputError(f"{path} names no generator that can be built: get it again") from error
    wanted = {name: leaf.shape for name, leaf in _flat(shapes).items()}
    if wanted != {name: value.shape for name, value in tensors.items()}:
        raise types.InputError(f"{path} holds weights of another generator than its config names: get it again")
    weights = {name: value.astype(np.float32) for name, value in tensors.items()}
    return Style(cfg, module, traverse_util.unflatten_dict(weights, sep="/"), step)


def card(style: str | pathlib.Path) -> dict[str, Any]:
    """Returns the card of a style; InputError as for `read`."""
    path = find(style)
    return _card(path, _read(path)[1])


def write(
    path: str | pathlib.Path, cfg: config.Config, variables: Any, card: Mapping[str, Any], *, dtype: Dtype = "float16"
) -> None:
    """Writes a style file; `gqst.inference.styles.pack` does so for a run.

    Args:
      path: File to write.
      cfg: Config, of which the generator and `keep_colors` count.
      variables: Variables of its generator by collection.
      card: What the style is, as JSON can hold it; an entry `step` is the step of the weights.
      dtype: Type of the weights.

    Raises:
      InputError: A weight is not finite, or too large for the type.
    """
    arrays = {name: np.asarray(value) for name, value in _flat(variables).items()}
    with np.errstate(over="ignore"):
        tensors = {name: array.astype(dtype, order="C") for name, array in arrays.items()}
    if not _finite(arrays):
        raise types.InputError(f"{path} is not written: some weights are not finite; choose another checkpoint")
    if not _finite(tensors):
        raise types.InputError(f"{path} is not written: some weights are too large for {dtype}; choose float32")
    said = {"format": _FORMAT, "config": overrides.to_json(cfg), "card": json.dumps(card, sort_keys=True)}
    with files.atomic(storage.path(path)) as part:
        part.write_bytes(safetensors.numpy.save(tensors, said | {"checksum": _checksum(tensors, said)}))


def find(style: str | pathlib.Path) -> pathlib.Path:
    """Returns the file of a style, which is named by its path or, if it comes with gqst, by its name."""
    path = pathlib.Path(style)
    if path.is_file():
        return path
    known = bundled()
    if str(style) in known:
        return known[str(style)]
    if path.suffix == SUFFIX or len(path.parts) > 1:
        raise types.InputError(f"there is no style file {path}")
    raise types.InputError(
        f"there is no style {str(style)!r}{registry.hint(str(style), list(known))}; these come with gqst: "
        f"{', '.join(known)}; or give the path of a {SUFFIX} file"
    )


def _read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of a style file; InputError for any other file."""
    try:
        _check_header(path)
        with safetensors.safe_open(path, framework="numpy") as file:
            said = file.metadata() or {}
            # The tensors of another file may be many.
            names = file.keys() if said.get("format") == _FORMAT else ()
            tensors = {name: file.get_tensor(name) for name in names}
    except types.InputError:
        raise
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise types.InputError(f"{path} cannot be read as a style file ({error}): get it again") from error
    if said.get("format") != _FORMAT:
        raise types.InputError(
            f"{path} is no style file, or it is damaged: `python -m gqst.style pack RUN FILE` makes one"
        )
    if not {"config", "card", "checksum"} <= said.keys() or said["checksum"] != _checksum(tensors, said):
        raise types.InputError(f"{path} is damaged: its content does not match its checksum; get it again")
    if not all(value.dtype in (np.float16, np.float32) for value in tensors.values()) or not _finite(tensors):
        raise types.InputError(f"{path} holds weights that are not finite float16 or float32 numbers: get it again")
    return tensors, said


def _check_header(path: pathlib.Path) -> None:
    """Raises InputError if the file or its header is too large, or the header ends in anything but its padding."""
    if path.stat().st_size > _LARGEST_FILE:
        raise types.InputError(f"{path} is larger than {_LARGEST_FILE // 2**20} MiB: it is no style file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        # The checksum does not cover the padding, which may be any white space for safetensors.
        if length > _LARGEST_HEADER or not file.read(length).rstrip(b" ").endswith(b"}"):
            raise types.InputError(f"{path} is no style file, or it is damaged: get it again")


def _check_size(cfg: config.Config, tensors: Mapping[str, np.ndarray]) -> None:
    """Raises InputError if the generator has more layers than weights, which would take forever to find out."""
    layers = [value for name, value in cfg.generator.options.items() if name in _DEPTHS and isinstance(value, int)]
    if max(layers, default=0) > max(_FEW, len(tensors)) or cfg.image_size > _LARGEST_SIDE:
        raise types.InputError("its config names a larger generator than its weights are of: get it again")


def _card(path: pathlib.Path, said: Mapping[str, str]) -> dict[str, Any]:
    """The card among the metadata of a style file."""
    try:
        content = json.loads(said["card"])
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("step", 0), int):
        raise types.InputError(f"{path} has no card that can be read: get it again")
    return content


def _finite(arrays: Mapping[str, np.ndarray]) -> bool:
    return all(bool(np.isfinite(array).all()) for array in arrays.values())


def _checksum(tensors: Mapping[str, np.ndarray], said: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for key in ("format", "config", "card"):
        digest.update(said[key].encode() + b"\0")
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode() + b"\0")
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def _flat(variables: Any) -> dict[str, Any]:
    """The leaves with their paths, as in `params/Conv_0/kernel`."""
    return traverse_util.flatten_dict(variables, sep="/")
