"""Training as a user starts it: whole, stopped, killed and gone on."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from gqst import cli, config, overrides, storage, train
from gqst.data import sources
from gqst.inference import generator
from gqst.training import checkpoint, loop, state
from gqst.training.recipe import Recipe
from tests import conftest

# Unpaired with cycles, a pool, all that a run carries; 8 channels.
TINY = (*conftest.SMALL_RESNET, "pool_size=3", "image_size=32", "generator.filters=4")
# Some 40 steps a second: seconds lie between the checkpoint that a test waits for and the end of the run.
LAST = 200


def _arguments(workdir: pathlib.Path, *changes: str) -> list[str]:
    return ["--config", "cyclegan", "--workdir", str(workdir), "--set", *TINY, *changes]


def _final(workdir: pathlib.Path, *changes: str) -> tuple[state.TrainState, dict]:
    """The newest state of a run, and its note."""
    cfg = overrides.override(overrides.load("cyclegan"), [*TINY, *changes])
    recipe = Recipe(cfg, paired=False)
    shapes = jax.eval_shape(lambda: state.create(recipe, jax.random.key(0)))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes)
    restored = checkpoint.Checkpoints(workdir / "checkpoints").restore(like)
    assert restored is not None
    return restored


def _numbers(tree: object) -> list[np.ndarray]:
    return [
        np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(tree)
    ]


def _start(environment: dict[str, str], workdir: pathlib.Path, *changes: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "gqst.train", *_arguments(workdir, *changes)]
    folder = None if storage.is_remote(workdir) else workdir.parent
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd=folder)


def _wait_for(path: pathlib.Path, *processes: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 300
    while not path.exists():
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(environment, tmp_path_factory) -> tuple[state.TrainState, dict]:
    """All steps in one go."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    process = _start(environment, workdir, f"steps={LAST}")
    assert process.wait() == 0, process.communicate()[1]
    return _final(workdir, f"steps={LAST}")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_goes_on_bit_for_bit(environment, tmp_path, whole, how):
    workdir = tmp_path / "run"
    process = _start(environment, workdir, f"steps={LAST}")
    _wait_for(workdir / "checkpoints" / "20", process)
    process.send_signal(how)
    said = process.communicate()[1]
    if how is signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 0
        assert f"stopped by {how.name} at step" in said and "run the same command again" in said
    # It was stopped on its way, not after its end.
    steps = [int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()]
    assert 20 <= max(steps) < LAST, (steps, said)
    process = _start(environment, workdir, f"steps={LAST}")
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "going on from step" in said
    now, note = _final(workdir, f"steps={LAST}")
    expected, expected_note = whole
    for one, other in zip(_numbers(now), _numbers(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    assert note == expected_note
    assert note["data"]["step"] == LAST
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    logged = [line["step"] for line in lines if "loss/generator" in line]
    assert logged == sorted(set(logged)) and logged[-1] == LAST


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_killed_run_in_a_bucket_goes_on_bit_for_bit(environment, buckets, tmp_path, whole, scheme):
    workdir = storage.path(f"{scheme}://runs/{tmp_path.name}")
    process = _start(environment | buckets, workdir, f"steps={LAST}")
    # What Orbax writes last into a checkpoint there, and what is copied last.
    last = {"gs": "commit_success.txt", "s3": checkpoint.METADATA}[scheme]
    _wait_for(workdir / "checkpoints" / "20" / last, process)
    process.kill()
    said = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, said
    assert not (workdir / "checkpoints" / str(LAST)).exists(), said
    # The lock of a process of this host that is gone is nobody's.
    process = _start(environment | buckets, workdir, f"steps={LAST}")
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "going on from step" in said and f"finished: {LAST} steps in {workdir};" in said
    # What is in the bucket is a run like one on disk.
    names = storage.find(workdir)
    assert ".lock" not in names and not any("tmp" in name for name in names), sorted(names)
    storage.fetch(workdir, names, tmp_path / "run")
    now, note = _final(tmp_path / "run", f"steps={LAST}")
    expected, expected_note = whole
    for one, other in zip(_numbers(now), _numbers(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    assert note == expected_note
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = [line["step"] for line in lines if "loss/generator" in line]
    assert logged == list(range(5, LAST + 1, 5))
    assert sorted(p.name for p in (tmp_path / "run" / "samples").iterdir())[-1] == f"{LAST:07d}.png"
    assert f"--workdir {workdir}" in (tmp_path / "run" / "report.html").read_text()
    # Its generator is that of the copy.
    first, second = (generator.restored(place, "last", "forward") for place in (workdir, tmp_path / "run"))
    assert first[2] == second[2] == LAST
    jax.tree.map(np.testing.assert_array_equal, first[1], second[1])


@pytest.mark.slow
def test_dry_run_tells_what_would_be_trained(run):
    done = run("gqst.train", "--config", "cyclegan", "--dry-run")
    assert done.returncode == 0, done.stderr
    for words in (
        "train/source: 11 pictures",
        "11,378,179 parameters",
        "2,764,737 parameters",
        "cycle (generator): weight 10.0",
        "(1, 30, 30, 1)",
        "256",
    ):
        assert words in done.stdout, done.stdout


@pytest.mark.slow
def test_every_step_uses_one_trace_and_a_changed_weight_needs_no_other(tmp_path):
    cfg = conftest.small("style_image", "steps=40", "generator.filters=4", "image_size=32")
    result = loop.fit(cfg, tmp_path / "run", devices=2, quiet=True)
    # Rounds at 0, 20 and 40, checkpoints at 20 and 40, and still one trace.
    assert (result.step, result.finished, result.traces) == (40, True, 1)
    assert sorted(p.name for p in (tmp_path / "run" / "samples").iterdir()) == [
        "0000000.png",
        "0000020.png",
        "0000040.png",
    ]
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    # The page that shows them was written at the end.
    assert "40 of 40" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["jax"] == jax.__version__
    # The finished run is left as it is.
    again = loop.fit(cfg, tmp_path / "run", devices=2, quiet=True)
    assert again.step == 40 and again.traces == 0


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(run, tmp_path):
    changes = ["--set", *TINY, "steps=40", "losses.cycle.weight=((0, 1.0), (3, 1.0), (4, 1e39))", "checkpoint_every=1"]
    done = run("gqst.train", "--config", "cyclegan", "--workdir", "run", *changes)
    assert done.returncode == 1
    assert "not finite at step" in done.stderr and "Traceback" not in done.stderr
    # What is saved is from before.
    now, _ = _final(tmp_path / "run", *changes[1 + len(TINY) :])
    assert all(np.isfinite(x).all() for x in _numbers(now.gen.params))


BAD = [
    ("unknown key", ["--set", "stesp=3"], "unknown config key 'stesp' (did you mean 'steps'?)"),
    ("bad value", ["--set", "batch_size=0"], "config key 'batch_size' is 0"),
    ("bad option", ["--set", "generator.width=3"], "unknown option 'width' of generator 'resnet'"),
    ("absent network", ["--set", "generator=vit"], "unknown generator 'vit'; there are: "),
    ("absent loss", ["--set", "losses.magic.weight=1"], "unknown loss 'magic'; there are: "),
    ("too small", ["--set", "image_size=16"], "image_size=16: "),
    ("missing folder", ["--set", "data=folders", "data.root=nowhere"], "nowhere"),
    ("unpaired", ["--set", "losses.l1.weight=1"], "needs paired data"),
    ("devices", ["--devices", "9"], "--devices 9: there are 8 here"),
    ("unknown TFDS name", ["--set", "data=tfds", "data.dataset=no_such_dataset"], "no_such_dataset"),
    ("batch over devices", ["--devices", "2"], "batch_size=1 does not divide over 2 devices"),
    ("not of the form", ["--set", "steps"], "is not of the form key=value"),
]


@pytest.fixture
def refused(capsys, monkeypatch, tmp_path):
    """Starts training in an empty folder, in this process; checks that it ends in one sentence, code 2."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, workdir: str = "run") -> str:
        with pytest.raises(SystemExit) as end:
            cli.run(lambda: train.main([*arguments, "--workdir", workdir]))
        said = capsys.readouterr().err
        _check_sentence(end.value.code, said)
        return said

    return call


@pytest.mark.parametrize("changes,sentence", [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_is_one_sentence_and_code_2(refused, tmp_path, changes, sentence):
    assert sentence in refused("--config", "cyclegan", *changes)
    assert not (tmp_path / "run").exists()


def test_bad_input_from_the_shell(run):
    done = run("gqst.train", "--config", "nothing", "--workdir", "run")
    _check_sentence(done.returncode, done.stderr)
    assert (
        "no config file 'nothing'; give the path of one, or the name of one that comes with gqst: any_style, cut"
        in done.stderr
    )


def test_bad_folders_are_one_sentence(refused, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    two = ["--set", "data=folders", "data.source=a", "data.target=b"]
    assert "no pictures in a" in refused("--config", "cyclegan", *two)
    photos = sorted(pathlib.Path(conftest.ROOT, "gqst/data/demo/photos/train").glob("*.jpg"))
    for i, photo in enumerate(photos[:3]):
        os.link(photo, tmp_path / "a" / f"{i}.jpg")
        if i < 2:
            os.link(photo, tmp_path / "b" / f"{i}.jpg")
    matched = ["--set", "data=matched", "data.source=a", "data.target=b"]
    said = refused("--config", "pix2pix", *matched)
    assert "3" in said and "2" in said
    (tmp_path / "painting.jpg").write_text("no picture")
    small = ["--set", *conftest.PIXELS, *conftest.SMALL_RESNET, "data.image=painting.jpg"]
    assert "painting.jpg" in refused("--config", "style_image", *small)


def test_a_workdir_that_cannot_be_written_is_one_sentence(refused, tmp_path):
    (tmp_path / "file").write_text("")
    changes = ["--set", *conftest.PIXELS, *conftest.SMALL_RESNET, "batch_size=8"]
    said = refused("--config", "style_image", *changes, workdir="file/run")
    assert "cannot write to file/run" in said


def test_no_space_is_found_before_training(refused, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**30, 2**30, 0))
    changes = ["--set", *conftest.PIXELS, *conftest.SMALL_RESNET, "batch_size=8"]
    assert "no space for checkpoints in" in refused("--config", "style_image", *changes)


# Training where no file may pass 100 kB, as if the disk were full there.
_LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
runpy.run_module("gqst.train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_is_one_sentence(environment, tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", _LIMITED, *_arguments(tmp_path / "run", "steps=20")],
        env={**environment, "JAX_COMPILATION_CACHE_DIR": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("gqst: error: ") and "could not be written" in last


def test_validation_pictures_are_not_trained_on():
    dataset = sources.build(config.choice("demo"), validation=2)
    assert dataset.validation is not None
    trained = {dataset.train.source.name(i) for i in range(len(dataset.train.source))}
    held = {dataset.validation.source.name(i) for i in range(len(dataset.validation.source))}
    assert held and not trained & held


def _check_sentence(code: object, said: str) -> None:
    assert code == 2, said
    lines = [line for line in said.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("gqst: error: "), said
