"""The notebooks as their users run them: top to bottom, in a folder of their own."""

import ast
import base64
import contextlib
import io
import json
import os
import pathlib
import signal
import sys
import threading
import time
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
STYLIZE, TRAIN = FOLDER / "stylize.ipynb", FOLDER / "train_on_colab_tpu.ipynb"
CELL_SECONDS = 600


Start = Callable[[nbformat.NotebookNode], contextlib.AbstractContextManager[nbclient.NotebookClient]]


@pytest.fixture
def kernel(environment: dict[str, str], tmp_path: pathlib.Path) -> Start:
    """Starts the kernel of a notebook: this interpreter in the empty folder `work`, in smoke mode."""
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

    def make(notebook: nbformat.NotebookNode) -> Iterator[nbclient.NotebookClient]:
        specs = kernelspec.KernelSpecManager(kernel_dirs=[str(kernels)], ensure_native_kernel=False)
        manager = jupyter_client.AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
        manager.connection_file = str(tmp_path / "connection.json")
        run = nbclient.NotebookClient(
            notebook,
            km=manager,
            timeout=CELL_SECONDS,
            resources={"metadata": {"path": str(tmp_path / "work")}},
        )
        with run.setup_kernel(env=kernel_environment, cleanup_kc=True):
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


def test_both_are_there():
    assert NOTEBOOKS == [STYLIZE, TRAIN]


@pytest.mark.slow
def test_train_runs_and_resumes(kernel: Start, tmp_path: pathlib.Path):
    with kernel(_read(TRAIN)) as run:
        _run_all(run)
        cells = {cell["id"]: cell for cell in run.nb.cells}
        first, (grid, curves) = _text(cells["train"]), _pictures(cells["train"])
        run.execute_cell(cells["train"], run.nb.cells.index(cells["train"]))
    work = tmp_path / "work"
    assert "1 CPU device:" in _text(cells["devices"])
    assert "losses:" in _text(cells["dry-run"])
    assert "finished: 4 steps" in first
    assert grid.shape[:2] == (300, 280)  # two columns of two held-out pictures
    assert curves.shape[1] > 400
    assert "going on from step 4 of 6" in _text(cells["longer"])
    assert "finished: 6 steps" in _text(cells["longer"])
    assert "going on from step 6 of 6" in _text(cells["train"])
    assert len(_pictures(cells["train"])) == 2  # of the run so far, at once
    assert (work / "runs" / "colab" / "checkpoints" / "6").is_dir()
    assert len(_pictures(cells["pairs"])) == 1
    assert len(list((work / "stylised").iterdir())) == 4
    assert (work / "stylised.zip").stat().st_size > 0


@pytest.mark.slow
def test_stopping_the_training_cell_saves(kernel: Start, tmp_path: pathlib.Path):
    notebook = _read(TRAIN)
    cells = {cell["id"]: cell for cell in notebook.cells}
    cells["settings"].source = cells["settings"].source.replace("steps=4", "steps=100000")
    metrics = tmp_path / "work" / "runs" / "colab" / "metrics.jsonl"

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
def test_stylize_without_a_run_says_how_to_train(kernel: Start):
    notebook = _read(STYLIZE)
    cells = {cell["id"]: cell for cell in notebook.cells}
    cells["settings"].source += "\nSMOKE = False"
    with kernel(notebook) as run:
        run.execute_cell(cells["settings"], 0)
        with pytest.raises(nbclient.exceptions.CellExecutionError, match="there is no run in runs/demo"):
            run.execute_cell(cells["restore"], 1)
