"""Configs read from files, changed from the command line, kept as JSON and compared."""

import ast
import importlib.util
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import pydantic

from gqst import config, registry, storage, types


def load(path: str | pathlib.Path, *assignments: str) -> config.Config:
    """Returns the config of an experiment: the result of `get_config()` in a Python file, with changes.

    Args:
      path: Path of the file, or of the `config.json` of a run; or the name of a config that comes with gqst, such as
        "quickstart".
      assignments: Changes in the form `key=value`, as `override` takes them.

    Raises:
      InputError: The file is missing, raises an exception, has no `get_config`, or sets an unknown key or an invalid
        value.
    """
    file = _find(path)
    if file.suffix == ".json":
        return override(from_json(file.read_text(encoding="utf-8"), origin=str(file)), assignments)
    spec = importlib.util.spec_from_file_location(f"gqst_config_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        cfg = module.get_config()
    except pydantic.ValidationError as error:
        raise types.InputError(f"{file}: {_sentence(error)}") from error
    except types.InputError:
        raise
    except Exception as error:
        raise types.InputError(f"config {file} cannot be run: {type(error).__name__}: {error}") from error
    if not isinstance(cfg, config.Config):
        raise types.InputError(f"config {file}: get_config() returned {cfg!r}, not a gqst Config")
    return override(cfg, assignments) if assignments else cfg


def bundled() -> dict[str, pathlib.Path]:
    """Returns the files of the configs that come with gqst, by name."""
    package = pathlib.Path(__file__).parent
    # They lie inside the package in a wheel, beside it in a clone.
    folders = [package / "configs", package.parent / "configs"]
    return {f.stem: f for folder in folders for f in sorted(folder.glob("*.py")) if f.stem != "__init__"}


def override(cfg: config.Config, assignments: Iterable[str]) -> config.Config:
    """Returns the config with `key=value` assignments applied in order and then validated as a whole.

    A key is a dotted path: `batch_size`, `generator.filters` (an option), `generator` (another member by name, with its
    default options) or `losses.cycle.weight`. The value `off` removes a loss; a new label adds one. Values are read by
    `literal`.

    Args:
      cfg: Config to start from, which is left unchanged.
      assignments: Changes in the form `key=value`.

    Raises:
      InputError: An assignment is malformed, its key is unknown or its value is invalid.
    """
    tree = _to_dict(cfg)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise types.InputError(f"--set {assignment!r} is not of the form key=value")
        _assign(tree, key.strip(), _value(key.strip(), text.strip()))
    return _from_dict(tree, "--set")


def to_json(cfg: config.Config) -> str:
    """Returns the config as JSON text that spells out every key."""
    return json.dumps(_to_dict(cfg), indent=2) + "\n"


def from_json(text: str, *, origin: str) -> config.Config:
    """Returns the config that `to_json` wrote.

    Args:
      text: JSON text.
      origin: Name of the text's source in error messages, usually a path.

    Raises:
      InputError: The text is not JSON, or not a valid config.
    """
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise types.InputError(f"{origin} is not JSON: {error}") from error
    return _from_dict(tree, origin)


def flat(cfg: config.Config) -> dict[str, Any]:
    """Returns the values of a config by dotted key, in JSON's types."""
    return dict(_leaves(_to_dict(cfg)))


def differences(
    a: config.Config, b: config.Config, *, ignore: Iterable[str] = config.RESUMABLE
) -> dict[str, tuple[Any, Any]]:
    """Returns the values that differ between two configs, by dotted key: that of `a` and that of `b`.

    Args:
      a: A config.
      b: Another one.
      ignore: Top-level keys to leave out.
    """
    flat_a, flat_b = flat(a), flat(b)
    ignored = set(ignore)
    return {
        key: (flat_a.get(key), flat_b.get(key))
        for key in sorted({*flat_a, *flat_b})
        if flat_a.get(key) != flat_b.get(key) and key.split(".")[0] not in ignored
    }


def _find(path: str | pathlib.Path) -> pathlib.Path:
    file = storage.path(path)
    if file.is_file():
        return file
    configs = bundled()
    if str(path) in configs:
        return configs[str(path)]
    raise types.InputError(
        f"no config file {str(path)!r}; give the path of one, or the name of one that comes with gqst: "
        f"{', '.join(sorted(configs))}"
    )


def _to_dict(cfg: config.Config) -> dict[str, Any]:
    # By way of JSON, so that a config compares equal to itself read back from a file; by Python's own, which escapes
    # paths in bytes that are no UTF-8.
    return json.loads(json.dumps(pydantic.TypeAdapter(config.Config).dump_python(cfg, mode="json")))


def _from_dict(tree: Mapping[str, Any], origin: str) -> config.Config:
    try:
        return pydantic.TypeAdapter(config.Config).validate_python(tree)
    except pydantic.ValidationError as error:
        raise types.InputError(f"{origin}: {_sentence(error)}") from error


def _sentence(error: pydantic.ValidationError) -> str:
    """Returns pydantic's first complaint as one sentence that names the key and its value."""
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
    """Returns the value of a Python literal, or of JSON's true, false or null; any other text stands for itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "null": None}.get(text, text)


def _value(key: str, text: str) -> Any:
    """Returns the value of an assignment; a bare number stays text where it may be the name of a file or folder.

    A data source that takes a number gets it all the same: options are converted to the types that they declare.
    """
    value = literal(text)
    may_be_a_path = key.startswith("data.") or key.rpartition(".")[2] in ("weights", "image")
    return text if may_be_a_path and type(value) in (int, float) else value


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
    # New keys may be added to an optimiser's options, to the weights of networks and to the targets.
    if last not in node and path[-1:] not in (["options"], ["weights"], ["targets"]):
        raise _unknown(key, node)
    node[last] = value


def _unknown(key: str, siblings: Iterable[str]) -> types.InputError:
    hint = registry.hint(key.split(".")[-1], siblings)
    return types.InputError(f"unknown config key {key!r}{hint}; there are: {', '.join(sorted(siblings))}")


def _leaves(tree: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yields the dotted key and the value of every leaf of nested dicts."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, tree
