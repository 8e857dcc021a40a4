"""A run of several processes as a user starts it: whole, killed, stopped, gone on, and started wrongly."""

import json
import math
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import pytest

from gqst import evaluate, storage
from gqst.runtime import processes
from gqst.training import loop
from tests import conftest, test_train

CHANGES = ("batch_size=4", "steps=40")


def _start(
    environment: dict[str, str],
    workdir: pathlib.Path,
    *,
    port: int | None = None,
    indices: Sequence[int] = (0, 1),
    more: Sequence[Sequence[str]] = ((), ()),
    flags: Sequence[str] = (),
    messages: pathlib.Path | None = None,
) -> "list[subprocess.Popen[str]]":
    """Processes of one run, of two fake devices each; what they say is kept beside the workdir, or in `messages`."""
    messages = messages or workdir.parent
    port = port or conftest.free_port()
    devices = {"XLA_FLAGS": f"{environment['XLA_FLAGS']} --xla_force_host_platform_device_count=2"}
    started = []
    for index in indices:
        arguments = test_train._arguments(workdir, *CHANGES, *more[index])
        group = ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process", str(index), *flags]
        command = [sys.executable, "-m", "gqst.train", *arguments, *group]
        errors = (messages / f"errors{index}").open("w")
        started.append(subprocess.Popen(command, env=environment | devices, cwd=messages, stderr=errors))
    return started


def _said(workdir: pathlib.Path, index: int) -> str:
    return (workdir.parent / f"errors{index}").read_text().strip()


@pytest.fixture(scope="module")
def whole(environment, tmp_path_factory) -> list[np.ndarray]:
    """The state after 40 steps of two processes in one go; another number of devices reads it."""
    workdir = tmp_path_factory.mktemp("two") / "run"
    assert [process.wait(300) for process in _start(environment, workdir)] == [0, 0], _said(workdir, 0)
    assert "finished: 40 steps" in _said(workdir, 0)
    assert "finished" not in _said(workdir, 1)
    return test_train._numbers(test_train._final(workdir, *CHANGES)[0])


@pytest.mark.slow
def test_one_is_killed_and_both_go_on_bit_for_bit(environment, tmp_path, whole):
    workdir = tmp_path / "run"
    both = _start(environment, workdir)
    test_train._wait_for(workdir / "checkpoints" / "20", *both)
    both[1].kill()
    killed = time.monotonic()
    assert both[0].wait(300) != 0
    assert time.monotonic() - killed < 3 * processes.LOST_SECONDS
    assert "another one of the run was lost; start all again" in _said(workdir, 0).splitlines()[-1]
    assert [process.wait(300) for process in _start(environment, workdir)] == [0, 0], _said(workdir, 0)
    assert "going on from step 20 of 40" in _said(workdir, 0)
    found = test_train._numbers(test_train._final(workdir, *CHANGES)[0])
    for one, other in zip(found, whole, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_two_that_share_nothing_but_a_bucket_go_on_bit_for_bit(environment, buckets, tmp_path, whole):
    workdir = storage.path(f"gs://runs/{tmp_path.name}")
    both = _start(environment | buckets, workdir, messages=tmp_path)
    test_train._wait_for(workdir / "checkpoints" / "20" / "commit_success.txt", *both)
    for process in both:
        process.kill()
    assert [process.wait(300) for process in both] == [-signal.SIGKILL] * 2
    both = _start(environment | buckets, workdir, messages=tmp_path)
    assert [process.wait(300) for process in both] == [0, 0], _said(tmp_path / "run", 0)
    assert "going on from step 20 of 40" in _said(tmp_path / "run", 0)
    storage.fetch(workdir, storage.find(workdir), tmp_path / "run")
    found = test_train._numbers(test_train._final(tmp_path / "run", *CHANGES)[0])
    for one, other in zip(found, whole, strict=True):
        np.testing.assert_array_equal(one, other)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line)["step"] for line in lines if "loss/generator" in line]
    assert logged == list(range(5, 41, 5))


@pytest.mark.slow
def test_several_processes_on_s3_are_refused(environment, buckets, tmp_path):
    both = _start(environment | buckets, storage.path("s3://runs/several"), messages=tmp_path)
    assert [process.wait(300) for process in both] == [2, 2]
    assert "several processes share a run on storage that all of them see, or in gs://" in _said(tmp_path / "run", 0)


@pytest.mark.slow
def test_one_is_asked_to_stop_and_one_process_goes_on(environment, tmp_path, whole):
    workdir = tmp_path / "run"
    both = _start(environment, workdir)
    test_train._wait_for(workdir / "checkpoints" / "20", *both)
    both[1].send_signal(signal.SIGTERM)
    assert [process.wait(300) for process in both] == [0, 0]
    assert "stopped by SIGTERM at step" in _said(workdir, 0)
    process = test_train._start(environment, workdir, *CHANGES)
    said = process.communicate()[1]
    assert process.returncode == 0 and "finished: 40 steps" in said, said
    found = test_train._numbers(test_train._final(workdir, *CHANGES)[0])
    largest = max(np.abs(leaf).max() for leaf in whole)
    # Sums in another order, and Adam, in eighteen steps.
    for one, other in zip(found, whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-2 * largest)


@pytest.mark.slow
def test_two_measure_what_one_does(environment, tmp_path):
    train = ["steps=2", "round_every=2", "checkpoint_every=2", "generator.filters=4", "validation=2"]
    loop.fit(conftest.small("quickstart", *train), tmp_path / "run", devices=1, quiet=True)
    demo = conftest.ROOT / "gqst/data/demo"
    style = tmp_path / "style"
    style.mkdir()
    for path in (*demo.glob("ukiyoe/*/*.jpg"), *demo.glob("photos/test/*.jpg")):
        shutil.copy(path, style)
    photos = str(demo / "photos/train")
    folders = ["--outputs", photos, "--references", str(style), "--sources", photos, "--size", "32"]
    # Distances of sets need ten pictures of each.
    whole = {"lpips", "baselines", "kid", "frechet"}
    run = ["--workdir", str(tmp_path / "run")]
    for name, subject, count, reported in (("run", run, 4, {"lpips", "baselines"}), ("folders", folders, 12, whole)):
        kept = [str(tmp_path / f"{name}.{ending}") for ending in ("json", "npz")]
        flags = [*subject, "--json", kept[0], "--save-statistics", kept[1]]
        evaluate.main(flags)
        found = [_kept(*kept)]
        group = ["--coordinator", f"127.0.0.1:{conftest.free_port()}", "--processes", "2", "--process"]
        command = [sys.executable, "-m", "gqst.evaluate", *flags, *group]
        both = [subprocess.Popen([*command, i], env=environment, stdout=subprocess.PIPE, text=True) for i in "01"]
        said = [process.communicate(timeout=300)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert ["lpips" in text for text in said] == [True, False]
        found.append(_kept(*kept))
        one, two = found
        assert list(one["pictures"]) == list(two["pictures"]) and len(one["pictures"]) == count
        assert reported <= set(one)
        _near(one, two)


def _kept(figures: str, statistics: str) -> dict[str, object]:
    with np.load(statistics) as held:
        return {**json.loads(pathlib.Path(figures).read_text()), "statistics": dict(held)}


def _near(one: object, other: object) -> None:
    """Both are the same but for rounding."""
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            _near(one[key], other[key])
    elif isinstance(one, list):
        for pair in zip(one, other, strict=True):
            _near(*pair)
    elif isinstance(one, np.ndarray) and one.dtype.kind == "f":
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(one).max())
    elif isinstance(one, float):
        assert math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-4)
    else:
        assert np.all(one == other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (((), ("losses.cycle=5",)), "the config of process 1 differs from that of process 0: losses.cycle.weight is 5"),
        (((), ("data=folders", "data.root=/nowhere")), "process 1: there is no folder /nowhere/trainA"),
        ((("batch_size=2",), ("batch_size=2",)), "batch_size=2 does not divide over 4 devices"),
        ((("batch_size=4", "accumulate=2"),) * 2, "accumulate=2 parts"),
    ],
)
def test_what_does_not_go_together_is_refused_by_all(environment, tmp_path, more, sentence):
    workdir = tmp_path / "run"
    both = _start(environment, workdir, more=more)
    assert [process.wait(300) for process in both] == [2, 2]
    for index in (0, 1):
        told = [line for line in _said(workdir, index).splitlines() if line.startswith("gqst: error:")]
        assert len(told) == 1 and sentence in told[0]
        assert "Traceback" not in _said(workdir, index)
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("index", "code", "sentence"),
    [(1, 2, "does not answer within 2 s (Connection refused)"), (0, None, "not all processes of the run came to")],
)
def test_the_others_do_not_come(environment, tmp_path, index, code, sentence):
    (alone,) = _start(environment, tmp_path / "run", indices=(index,), flags=("--wait", "2"))
    found = alone.wait(60)
    assert found == code or (code is None and found != 0)
    # The watcher says it once the process is gone, maybe after the runtime's own stack trace.
    end = time.monotonic() + 20
    while sentence not in _said(tmp_path / "run", index) and time.monotonic() < end:
        time.sleep(0.1)
    assert sentence in _said(tmp_path / "run", index)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--processes", "2"), "give --coordinator, --processes and --process together"),
        (("--distributed", "--coordinator", "h:1"), "or --distributed alone"),
        (("--distributed",), "cannot join the processes of the run"),
        (("--coordinator", "here", "--processes", "2", "--process", "0"), "'here' is not HOST:PORT"),
        (("--coordinator", "h:1", "--processes", "2", "--process", "2"), "from 0 to N - 1; they are 2 and 2"),
        (("--coordinator", "h:1", "--processes", "2"), "from 0 to N - 1; they are 2 and None"),
    ],
)
def test_flags_that_name_no_group(run, tmp_path, flags, sentence):
    found = run("gqst.train", *test_train._arguments(tmp_path / "run"), *flags)
    assert found.returncode == 2 and sentence in found.stderr and "Traceback" not in found.stderr
