"""The notebooks as their users run them: top to bottom, in a folder of their own."""

import ast
import base64
import contextlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable, Iterator

import jupyter_client
import nbclient
import nbformat
import numpy as np
import pytest
from jupyter_client import kernelspec
from PIL import Image

from tests import conftest

FOLDER = conftest.ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
QUALITY, STYLIZE, TRAIN = (FOLDER / f"{name}.ipynb" for name in ("quality", "stylize", "train_on_colab_tpu"))
CELL_SECONDS = 600


Start = Callable[..., contextlib.AbstractContextManager[nbclient.NotebookClient]]


@pytest.fixture
def kernel(environment: dict[str, str], tmp_path: pathlib.Path) -> Start:
    """Starts the kernel of a notebook, with some devices: this interpreter in the folder `work`, in smoke mode."""
    kernels = tmp_path / "kernels"
    (kernels / "python3").mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "tests", "language": "python"}
    (kernels / "python3" / "kernel.json").write_text(json.dumps(spec))
    (tmp_path / "work").mkdir()
    kernel_environment = {
        **environment,
        "JAX_PLATFORMS": "cpu",
        "GQST_NOTEBOOK_SMOKE": "1",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }

    def make(notebook: nbformat.NotebookNode, devices: int = 1) -> Iterator[nbclient.NotebookClient]:
        flags = f"{kernel_environment['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
        specs = kernelspec.KernelSpecManager(kernel_dirs=[str(kernels)], ensure_native_kernel=False)
        manager = jupyter_client.AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
        manager.connection_file = str(tmp_path / "connection.json")
        run = nbclient.NotebookClient(
            notebook,
            km=manager,
            timeout=CELL_SECONDS,
            resources={"metadata": {"path": str(tmp_path / "work")}},
        )
        with run.setup_kernel(env={**kernel_environment, "XLA_FLAGS": flags}, cleanup_kc=True):
            yield run

    return contextlib.contextmanager(make)


def _read(path: pathlib.Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def _text(cell: nbformat.NotebookNode) -> str:
    """All that a cell printed and gave."""
    said = [o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs]
    return "\n".join(said)


def _pictures(cell: nbformat.NotebookNode) -> list[np.ndarray]:
    found = [o["data"]["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def _run_all(run: nbclient.NotebookClient) -> None:
    """Runs every cell; CellExecutionError, with the cell's output, if one fails."""
    for index, cell in enumerate(run.nb.cells):
        run.execute_cell(cell, index)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_valid_and_stripped(path: pathlib.Path):
    notebook = _read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata["kernelspec"] == {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    assert set(notebook.metadata["language_info"]) == {"name"}
    for cell in notebook.cells:
        assert not cell.metadata
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_defines_nothing(path: pathlib.Path):
    for cell in _read(path).cells:
        if cell.cell_type == "code":
            kinds = (ast.FunctionDef, ast.ClassDef, ast.Lambda)
            assert not any(isinstance(node, kinds) for node in ast.walk(ast.parse(cell.source))), cell.source


def test_all_are_there():
    assert NOTEBOOKS == [QUALITY, STYLIZE, TRAIN]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_of_code_holds_the_parameters(path: pathlib.Path):
    first = next(cell for cell in _read(path).cells if cell.cell_type == "code")
    assert first["id"] == "settings" and "PACKAGE = " in first.source and "import gqst" not in first.source


def test_all_install_alike():
    sources = [
        {cell["id"]: cell.source for cell in _read(path).cells if cell["id"].startswith("install")}
        for path in NOTEBOOKS
    ]
    assert all(source == sources[0] for source in sources) and len(sources[0]) == 2


PIP = """
import os, pathlib, sys
pathlib.Path(os.environ["ASKED"]).write_text("\\n".join(sys.argv[1:]))
if "broken" in " ".join(sys.argv):
    sys.exit("ERROR: no matching distribution")
"""
JAX = """
import os
def default_backend():
    if os.environ.get("HELD"):
        raise RuntimeError("The TPU is already in use")
    return "cpu"
"""


@pytest.fixture
def install(tmp_path: pathlib.Path):
    """Runs the cell that installs, in a Python that has a pip that only notes what is asked, NumPy 2.1.3 and a JAX."""
    venv.create(tmp_path / "python", with_pip=False)
    site = tmp_path / "site"
    for name, text in {
        "pip.py": PIP,
        "jax.py": JAX,
        "numpy.py": "",
        "numpy-2.1.3.dist-info/METADATA": "Metadata-Version: 2.1\nName: numpy\nVersion: 2.1.3\n",
    }.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    work = tmp_path / "content" / "work"
    work.mkdir(parents=True)
    cell = next(cell for cell in _read(TRAIN).cells if cell["id"] == "install")

    def run(before: str = "import numpy", package: str = "", **more: str) -> tuple[list[str], str, int]:
        source = f"PACKAGE = {package!r}\n" + cell.source.replace("/kaggle/input", str(tmp_path / "kaggle"))
        asked = tmp_path / "asked"
        asked.unlink(missing_ok=True)
        done = subprocess.run(
            [tmp_path / "python" / "bin" / "python", "-c", f"{before}\n{source}"],
            cwd=work,
            env={"PYTHONPATH": str(site), "ASKED": str(asked), **more},
            capture_output=True,
            text=True,
        )
        return asked.read_text().split("\n") if asked.exists() else [], done.stdout + done.stderr, done.returncode

    return run


def test_installing_keeps_what_the_kernel_has_loaded(install):
    asked, said, code = install()
    assert (asked, code) == (["install", "--quiet", "gqst[notebook]", "numpy==2.1.3"], 0), said
    assert install(before="")[0] == ["install", "--quiet", "gqst[notebook]"]
    # A JAX that is loaded stays until the kernel is started again.
    asked, said, code = install(before="import jax")
    assert asked and code == 1 and "restart the kernel" in said


def test_what_is_installed_is_found(install, tmp_path: pathlib.Path):
    """An address goes before all; a clone before a wheel; and a wheel before the name."""
    content = tmp_path / "content"
    added = tmp_path / "kaggle" / "a-wheel" / "gqst-1.2.0-py3-none-any.whl"
    added.parent.mkdir(parents=True)
    added.touch()
    assert install()[0][2] == f"{added}[notebook]"
    added.unlink()
    (content / "work" / "gqst-1.2.0-py3-none-any.whl").touch()
    (content / "work" / "gqst-1.10.0-py3-none-any.whl.part").touch()
    assert install()[0][2] == f"{content}/work/gqst-1.2.0-py3-none-any.whl[notebook]"
    for clone in (content / "work" / "my clone", content):
        (clone / "gqst").mkdir(parents=True)
        (clone / "gqst" / "train.py").touch()
        assert install()[0][2] == f"{clone}[notebook]"
    address = "git+https://host/gqst"
    assert install(package=address)[0][2] == f"gqst[notebook] @ {address}"
    asked, said, code = install(package="broken.whl")
    assert asked[2] == "broken.whl[notebook]" and code == 1
    assert "no matching distribution" in said and "cannot be installed: set PACKAGE to a clone" in said


def test_a_device_that_something_else_holds(install):
    _, said, code = install(HELD="1")
    assert code == 1 and "does another notebook or command hold it?" in said


@pytest.mark.slow
def test_train_runs_and_resumes(kernel: Start, tmp_path: pathlib.Path):
    with kernel(_read(TRAIN), devices=2) as run:
        _run_all(run)
        cells = {cell["id"]: cell for cell in run.nb.cells}
        first, (grid, curves) = _text(cells["train"]), _pictures(cells["train"])
        run.execute_cell(cells["train"], run.nb.cells.index(cells["train"]))
    work = tmp_path / "work"
    assert "2 CPU devices:" in _text(cells["devices"])
    assert "2 pictures a step on 2 of 2 CPU devices, 1 on each" in _text(cells["config"])
    assert "losses:" in _text(cells["dry-run"])
    assert "finished: 4 steps" in first
    assert grid.shape[:2] == (300, 280)  # two columns of two held-out pictures
    assert curves.shape[1] > 400
    assert "going on from step 4 of 6" in _text(cells["longer"])
    assert "finished: 6 steps" in _text(cells["longer"])
    assert "going on from step 6 of 6" in _text(cells["train"])
    assert len(_pictures(cells["train"])) == 2  # of the run so far, at once
    assert (work / "runs" / "first" / "checkpoints" / "6").is_dir()
    assert len(_pictures(cells["pairs"])) == 1
    assert len(list((work / "stylised").iterdir())) == 4
    assert (work / "stylised.zip").stat().st_size > 0


@pytest.mark.slow
def test_stopping_the_training_cell_saves(kernel: Start, tmp_path: pathlib.Path):
    notebook = _read(TRAIN)
    cells = {cell["id"]: cell for cell in notebook.cells}
    cells["settings"].source = cells["settings"].source.replace("steps=4", "steps=100000")
    metrics = tmp_path / "work" / "runs" / "first" / "metrics.jsonl"

    def stop_when_it_trains(pid: int) -> None:
        end = time.monotonic() + CELL_SECONDS
        while time.monotonic() < end:
            if metrics.exists() and '"step": 2' in metrics.read_text():
                os.kill(pid, signal.SIGINT)  # as the stop button does
                return
            time.sleep(0.05)

    with kernel(notebook) as run:
        for name in ("settings", "devices", "config", "train"):
            if name == "train":
                stopper = threading.Thread(target=stop_when_it_trains, args=[run.km.provisioner.pid])
                stopper.start()
            run.execute_cell(cells[name], notebook.cells.index(cells[name]))
        stopper.join()
    said = _text(cells["train"])
    assert "stopped by SIGINT" in said
    saved = [int(path.name) for path in (metrics.parent / "checkpoints").iterdir() if path.name.isdecimal()]
    assert f"at step {max(saved)} of 100000" in said


@pytest.mark.slow
def test_stylize_runs(kernel: Start, tmp_path: pathlib.Path):
    with kernel(_read(STYLIZE)) as run:
        _run_all(run)
        cells = {cell["id"]: cell for cell in run.nb.cells}
    work = tmp_path / "work"
    assert (work / "runs" / "demo" / "checkpoints" / "4").is_dir()
    assert "last: step 4" in _text(cells["restore"])
    for name in ("one", "best-last", "pairs"):
        assert len(_pictures(cells[name])) == 1, name
    assert "4 pictures written" in _text(cells["folder"])
    assert len(list((work / "stylised").iterdir())) == 4


@pytest.mark.slow
def test_quality_runs_and_resumes(kernel: Start, tmp_path: pathlib.Path):
    with kernel(_read(QUALITY)) as run:
        _run_all(run)
        cells = {cell["id"]: cell for cell in run.nb.cells}
        first = _text(cells["train"])
        run.execute_cell(cells["train"], run.nb.cells.index(cells["train"]))
    assert first.count("finished: 4 steps") == 2
    assert _text(cells["train"]).count("going on from step 4 of 4") == 2
    assert "target 0.6: " in _text(cells["decisions"]) and "target 0.8: " in _text(cells["decisions"])
    for name in ("decisions", "pictures", "floor"):
        assert len(_pictures(cells[name])) == 1, name
    # A floor holds for every picture.
    kept = {line.split(": ")[0]: line.split(": ")[1] for line in _text(cells["floor"]).splitlines() if ": " in line}
    assert all(float(value) >= 0.9 for value in kept["min_structure 0.9"].split(", "))
    runs = tmp_path / "work" / "runs" / "quality"
    saved = [json.loads((runs / target / "config.json").read_text())["targets"] for target in ("0.6", "0.8")]
    assert saved == [{"contrast_structure": 0.6}, {"contrast_structure": 0.8}]


@pytest.mark.slow
def test_stylize_without_a_run_says_how_to_train(kernel: Start):
    notebook = _read(STYLIZE)
    cells = {cell["id"]: cell for cell in notebook.cells}
    cells["settings"].source += "\nSMOKE = False"
    with kernel(notebook) as run:
        run.execute_cell(cells["settings"], notebook.cells.index(cells["settings"]))
        with pytest.raises(nbclient.exceptions.CellExecutionError, match="there is no run in runs/demo"):
            run.execute_cell(cells["restore"], notebook.cells.index(cells["restore"]))
