"""The training notebook in Colab's runtime rebuilt: `python tests/bench/rebuilt_colab.py FOLDER [--python PYTHON]`.

Makes a virtual environment in FOLDER with the packages that the runtime has, and starts a kernel in it that has loaded
what Colab's kernels load by themselves. From a clone, the notebook installs gqst and trains in its smoke form; the
kernel is killed while it trains, and the notebook run again from the top: it goes on, and stylises. The exit code is 77
if the runtime's packages cannot be had.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import jupyter_client
import nbclient
import nbformat
from jupyter_client import kernelspec

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "train_on_colab_tpu.ipynb"
# Of the TPU runtime. What Google's own packages bring is left out: libtpu, since there is no TPU, and google.colab.
PACKAGES = {
    "jax": "0.7.2",
    "flax": "0.11.2",
    "optax": "0.2.8",
    "orbax-checkpoint": "0.12.4",
    "grain": "0.2.18",
    "tensorflow-datasets": "4.9.10",
    "numpy": "2.1.3",
    "pillow": "12.3.0",
    "protobuf": "7.35.1",
}
LOADED = "import numpy, PIL.Image, google.protobuf\nbefore = numpy.__version__"
CELL_SECONDS = 1200
SKIPPED = 77


def main() -> None:
    """Runs the notebook twice, and says what was installed and trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--python", default="python3.13")
    parser.add_argument("--package", action="append", default=[], help="NAME==VERSION in place of the one above")
    flags = parser.parse_args()
    folder = flags.folder.resolve()
    wanted = PACKAGES | dict(package.split("==") for package in flags.package)
    subprocess.run([flags.python, "-m", "venv", "--clear", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pinned = [f"{name}=={version}" for name, version in wanted.items()]
    if subprocess.run([python, "-m", "pip", "install", "--quiet", "ipykernel", *pinned]).returncode:
        raise SystemExit(SKIPPED)
    work = folder / "clone" / "notebooks"
    if not work.is_dir():
        subprocess.run(["git", "clone", "--quiet", ROOT, folder / "clone"], check=True)

    client = notebook_client(python, folder, work)
    checkpoint = work / "runs" / "first" / "checkpoints" / "100"
    with client.setup_kernel(env=environment(), cleanup_kc=True):
        killer = threading.Thread(target=kill_at, args=[checkpoint, client.km.provisioner.pid])
        killer.start()
        try:
            run(client)
        except (nbclient.exceptions.DeadKernelError, nbclient.exceptions.CellExecutionError) as error:
            print(f"first run ended by {type(error).__name__}, with {checkpoint.name} saved: {checkpoint.is_dir()}")
        killer.join()
    print(said(client))
    client = notebook_client(python, folder, work)
    with client.setup_kernel(env=environment(), cleanup_kc=True):
        run(client)
    print(said(client))
    assert "going on from step" in said(client), "the second run did not go on"
    assert len(list((work / "stylised").iterdir())) == 4, "not all was stylised"
    shown = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    print("\n".join(line for line in shown.splitlines() if line.split(" ")[0] in {*wanted, "gqst"}))


def environment() -> dict[str, str]:
    """The environment of the kernels."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "JAX_PLATFORMS": "cpu", "GQST_NOTEBOOK_SMOKE": "1"}


def notebook_client(python: pathlib.Path, folder: pathlib.Path, work: pathlib.Path) -> nbclient.NotebookClient:
    """The notebook with a kernel of that Python, in `work`."""
    kernels = folder / "kernels"
    (kernels / "python3").mkdir(parents=True, exist_ok=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "colab", "language": "python"}
    (kernels / "python3" / "kernel.json").write_text(json.dumps(spec))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = next(cell for cell in notebook.cells if cell["id"] == "settings")
    settings.source = settings.source.replace("steps=4", "steps=400").replace("round_every=2", "round_every=100")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(LOADED))
    notebook.cells.append(nbformat.v4.new_code_cell("assert numpy.__version__ == before\nprint('numpy', before)"))
    specs = kernelspec.KernelSpecManager(kernel_dirs=[str(kernels)], ensure_native_kernel=False)
    manager = jupyter_client.AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
    return nbclient.NotebookClient(
        notebook, km=manager, timeout=CELL_SECONDS, resources={"metadata": {"path": str(work)}}
    )


def run(client: nbclient.NotebookClient) -> None:
    """Runs every cell; an error if one fails."""
    for index, cell in enumerate(client.nb.cells):
        client.execute_cell(cell, index)


def said(client: nbclient.NotebookClient) -> str:
    """All that the cells printed."""
    return "".join(o.get("text", "") for cell in client.nb.cells for o in cell.get("outputs", []))


def kill_at(checkpoint: pathlib.Path, pid: int) -> None:
    """Kills a process as soon as there is a checkpoint."""
    end = time.monotonic() + CELL_SECONDS
    while not checkpoint.is_dir() and time.monotonic() < end:
        time.sleep(0.2)
    os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
