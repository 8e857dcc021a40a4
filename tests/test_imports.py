"""The import direction of the package, read off its syntax trees."""

import ast
import collections
import graphlib
import pathlib
import subprocess
import sys

import pytest

import gqst

PACKAGE = pathlib.Path(gqst.__file__).parent
LAYERS = (
    {"types"},
    {"storage"},
    {"config"},
    {"registry"},
    {"overrides"},
    {"pictures", "ops", "runtime"},
    {"data", "models", "metrics"},
    {"quality", "losses"},
    {"evaluation", "report"},
    {"training"},
    {"inference"},
    {"cli"},
    {"train", "evaluate", "stylize", "style", "plan", "sweep", "doctor", "pack"},
    {"__main__"},
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
ENTRY = LAYERS[-2] | {"cli"}
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def _part(path: pathlib.Path) -> str:
    """The room of a file; the command of a room stands above all."""
    return "__main__" if path.stem == "__main__" else path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _module(path: pathlib.Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: pathlib.Path, *, whole: bool = True) -> set[str]:
    """Dotted names that a file imports: anywhere in it, or only when it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree) if whole else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    part = _part(path)
    assert part in RANK, f"{part} has no place in the order of layers"
    for name in _imports(path):
        head, *rest = name.split(".")
        if head == "gqst" and rest:
            other = rest[0]
            below = RANK[other] < RANK[part] or other == part
            assert below, f"{path} imports {name}"


def test_no_module_imports_itself_by_way_of_others():
    modules = {_module(path): path for path in FILES}
    graph = {}
    for module, path in modules.items():
        imported = {name for name in _imports(path) if name.startswith("gqst.")}
        # `from gqst.data import sources` names a module, `from gqst.types import Batch` a member of one.
        reached = {name if name in modules else name.rpartition(".")[0] for name in imported}
        graph[module] = reached & modules.keys() - {module}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the modules


def test_no_room_is_more_than_a_fifth_of_the_house():
    lines = collections.Counter()
    for path in FILES:
        lines[_part(path)] += len(path.read_text(encoding="utf-8").splitlines())
    room, count = lines.most_common(1)[0]
    assert count <= sum(lines.values()) / 5, f"{room} has {count} of {sum(lines.values())} lines"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_who_may_import_what(path):
    part, heads = _part(path), {name.split(".")[0] for name in _imports(path)}
    assert not heads & {"tensorflow", "torch", "torchvision", "clu"}
    if part in ("data", "pictures"):
        assert not heads & {"jax", "jaxlib", "flax", "optax", "orbax", "dm_pix"}
    if part == "losses":
        # Frozen features reach a term through the Context.
        assert not any(name.startswith(("gqst.models", "gqst.data")) for name in _imports(path))
    if path.stem not in {*ENTRY, "__main__"}:
        assert not heads & {"argparse", "absl", "click"}


def test_rare_and_heavy_packages_are_imported_where_they_are_used():
    for path in FILES:
        heads = {name.split(".")[0] for name in _imports(path, whole=False)}
        assert "tensorflow_datasets" not in heads, path
        if (path.parent == PACKAGE and _part(path) in ENTRY) or path.stem == "__main__":
            assert heads <= {
                "argparse",
                "collections",
                "contextlib",
                "importlib",
                "logging",
                "os",
                "pathlib",
                "sys",
                "typing",
                "gqst",
            }


def test_the_order_of_layers_has_been_kept_up():
    entries = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"}
    folders = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert entries | folders <= set(RANK)


ENTRY_POINTS = [p.parent.name if p.stem == "__main__" else p.stem for p in FILES if "cli.run(main" in p.read_text()]


@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_help_does_not_wait_for_jax(entry):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"gqst.{entry}", "--help"],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
    )
    assert done.returncode == 0 and "usage:" in done.stdout
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "gqst" in loaded
    assert not loaded & {"jax", "flax", "optax", "orbax", "pydantic"}
