"""Configs from files, from the command line and from JSON, and how two of them differ."""

import ast
import importlib.util
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import pydantic

from gqst import config, registry, types


def load(path: str | pathlib.Path) -> config.Config:
    """Reads an experiment from a Python file that has `get_config()`.

    Args:
      path: a file, or the bare name of a config that comes with gqst, as in "quickstart".

    Raises:
      InputError: the file is missing, cannot be run, has no `get_config`, or sets a key or value that there
        is not.
    """
    file = _find(path)
    spec = importlib.util.spec_from_file_location(f"gqst_config_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = module.get_config()
    except pydantic.ValidationError as error:
        raise types.InputError(f"{file}: {_sentence(error)}") from error
    except types.InputError:
        raise
    except Exception as error:
        raise types.InputError(f"config {file} cannot be run: {type(error).__name__}: {error}") from error
    if not isinstance(made, config.Config):
        raise types.InputError(f"config {file}: get_config() returned {made!r}, not a gqst Config")
    return made


def bundled() -> dict[str, pathlib.Path]:
    """The configs that come with gqst, by name."""
    package = pathlib.Path(__file__).parent
    # A wheel holds them inside the package, a clone beside it.
    folders = [package / "configs", package.parent / "configs"]
    return {f.stem: f for folder in folders for f in sorted(folder.glob("*.py")) if f.stem != "__init__"}


def override(cfg: config.Config, assignments: Iterable[str]) -> config.Config:
    """The config with `key=value` assignments applied in order, validated as a whole.

    A key is a dotted path, as in `batch_size`, `generator.filters` (an option), `generator` (the member by
    name, its options then the default ones) or `losses.cycle.weight`. A loss set to `off` is removed, a new
    label is added. Values are Python literals; what is none is taken as text.

    Raises:
      InputError: an unknown key, or a value that does not fit.
    """
    tree = _to_dict(cfg)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise types.InputError(f"--set {assignment!r} is not of the form key=value")
        _assign(tree, key.strip(), literal(text.strip()))
    return _from_dict(tree, "--set")


def to_json(cfg: config.Config) -> str:
    """The config as JSON text, every key spelt out."""
    return json.dumps(_to_dict(cfg), indent=2) + "\n"


def from_json(text: str, *, origin: str) -> config.Config:
    """The config that `to_json` wrote; InputError, naming `origin`, if it cannot be read."""
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise types.InputError(f"{origin} is not JSON: {error}") from error
    return _from_dict(tree, origin)


def flat(cfg: config.Config) -> dict[str, Any]:
    """The values of a config by dotted key, as JSON can hold them."""
    return dict(_leaves(_to_dict(cfg)))


def differences(
    one: config.Config, other: config.Config, *, ignore: Iterable[str] = config.RESUMABLE
) -> dict[str, tuple[Any, Any]]:
    """The leaves that differ, by dotted key, with both values; top-level keys in `ignore` left out."""
    first, second = flat(one), flat(other)
    skipped = set(ignore)
    return {
        key: (first.get(key), second.get(key))
        for key in sorted({*first, *second})
        if first.get(key) != second.get(key) and key.split(".")[0] not in skipped
    }


def _find(path: str | pathlib.Path) -> pathlib.Path:
    file = pathlib.Path(path)
    if file.is_file():
        return file
    known = bundled()
    if str(path) in known:
        return known[str(path)]
    raise types.InputError(
        f"no config file {str(path)!r}; give a path, or one that comes with gqst: {', '.join(sorted(known))}"
    )


def _to_dict(cfg: config.Config) -> dict[str, Any]:
    # Through JSON, so that a config made now and one read back compare equal.
    return json.loads(pydantic.TypeAdapter(config.Config).dump_json(cfg))


def _from_dict(tree: Mapping[str, Any], origin: str) -> config.Config:
    try:
        return pydantic.TypeAdapter(config.Config).validate_python(tree)
    except pydantic.ValidationError as error:
        raise types.InputError(f"{origin}: {_sentence(error)}") from error


def _sentence(error: pydantic.ValidationError) -> str:
    """The first complaint of pydantic in one sentence that names key and value."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"] if not _is_union_arm(part))
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown config key {key!r}"
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return f"config: {message}"
    return f"config key {key!r} is {first['input']!r}: {message[0].lower()}{message[1:]}"


def _is_union_arm(part: int | str) -> bool:
    return isinstance(part, str) and any(mark in part for mark in "([-")


def literal(text: str) -> Any:
    """The Python literal that a text stands for; true, false and null are understood, anything else is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "null": None}.get(text, text)


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    top, *rest = key.split(".")
    if top not in tree:
        raise _unknown(key, tree)
    if top == "losses":
        _assign_loss(tree[top], key, rest, value)
    elif isinstance(tree[top], dict) and set(tree[top]) == {"name", "options"}:
        _assign_choice(tree, top, key, rest, value)
    else:
        _assign_plain(tree, key, value)


def _assign_loss(losses: dict[str, Any], key: str, rest: list[str], value: Any) -> None:
    if len(rest) == 1 and value in ("off", None):
        if rest[0] not in losses:
            raise _unknown(key, losses)
        del losses[rest[0]]
    elif len(rest) == 1:
        losses.setdefault(rest[0], {"options": {}})["weight"] = value
    elif len(rest) == 2:
        entry = losses.setdefault(rest[0], {"options": {}})
        (entry if rest[1] in ("term", "weight") else entry["options"])[rest[1]] = value
    else:
        raise types.InputError(f"config key {key!r}: write losses.LABEL or losses.LABEL.OPTION")


def _assign_choice(tree: dict[str, Any], top: str, key: str, rest: list[str], value: Any) -> None:
    if not rest or rest == ["name"]:
        tree[top] = {"name": value, "options": {}}
    elif len(rest) == 1:
        tree[top]["options"][rest[0]] = value
    else:
        raise types.InputError(f"config key {key!r}: write {top} or {top}.OPTION")


def _assign_plain(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    node = tree
    for part in path:
        if not isinstance(node.get(part), dict):
            raise _unknown(key, node)
        node = node[part]
    # The options of an optimiser are its own: any key may be new there; so may a network's weights or a target.
    if last not in node and path[-1:] not in (["options"], ["weights"], ["targets"]):
        raise _unknown(key, node)
    node[last] = value


def _unknown(key: str, known: Iterable[str]) -> types.InputError:
    meant = registry.hint(key.split(".")[-1], known)
    return types.InputError(f"unknown config key {key!r}{meant}; there are: {', '.join(sorted(known))}")


def _leaves(tree: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, tree
