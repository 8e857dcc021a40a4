"""Plans: the search for the largest batch, what is kept, and what a real run takes."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from gqst import overrides, types
from gqst.plan import __main__ as plan_main
from gqst.plan import estimate, hardware, report
from tests import conftest

SMALL = (*conftest.SMALL_RESNET, "generator.filters=4")
GIB = 2**30


def _memory(fixed: float, each: float, *, limit: float = 1e12):
    """A compiler whose steps take this many bytes and refuses those above the limit; and what it was asked."""
    asked: list[int] = []

    def compiled(batch: int) -> estimate.Compiled:
        asked.append(batch)
        needed = round(fixed + each * batch)
        return estimate.Compiled(refused=needed) if needed > limit else estimate.Compiled(temporaries=needed)

    return compiled, asked


@pytest.mark.parametrize(
    ("fixed", "each", "unit", "expected"),
    [
        (1.0, 0.5, 1, 29),
        (1.0, 0.5, 4, 28),
        (1.0, 0.013, 1, 1134),
        (16.0, 1.0, 1, 0),
        (3.0, 9.0, 1, 1),
        (1.0, 9.0, 2, 0),
    ],
)
@pytest.mark.parametrize("refuses", [False, True])
def test_the_largest_batch(fixed, each, unit, expected, refuses):
    usable = 15.75 * GIB
    compiled, asked = _memory(fixed * GIB, each * GIB, limit=usable if refuses else 1e15)
    assert estimate.largest_fitting(compiled, usable, unit=unit) == expected
    # The smallest, two that tell how memory grows, what it comes to, and the next one, which does not fit.
    assert len(set(asked)) <= 5
    assert expected + unit in asked


def test_the_largest_batch_where_memory_jumps():
    """Steps that are not on a line are found all the same."""
    usable = 10 * GIB

    def compiled(batch: int) -> estimate.Compiled:
        return estimate.Compiled(temporaries=round(GIB * (1 + 0.1 * batch + 2 * (batch > 20))))

    assert estimate.largest_fitting(compiled, usable, unit=1) == 70


def test_the_largest_batch_where_memory_grows_less_and_less():
    """Once the line says that nothing more fits, that is tried."""

    def compiled(batch: int) -> estimate.Compiled:
        return estimate.Compiled(temporaries=round(GIB * (batch if batch < 10 else 10 + 0.5 * (batch - 10))))

    assert estimate.largest_fitting(compiled, 12.4 * GIB, unit=1) == 14


@pytest.mark.parametrize("limit", [10, 11, 15, 16, 23, 40])
def test_the_largest_batch_where_the_compiler_saves_memory(limit):
    """As a TPU's does: near its memory it takes no more for a larger batch, until it cannot."""
    asked: list[int] = []

    def compiled(batch: int) -> estimate.Compiled:
        asked.append(batch)
        linear = round(GIB * (1.6 + 1.4 * batch))
        if batch > limit:
            return estimate.Compiled(refused=linear)
        return estimate.Compiled(temporaries=min(linear, round(14.5 * GIB)))

    assert estimate.largest_fitting(compiled, 15.75 * GIB, unit=1) == limit
    assert max(asked) <= 2 * limit and limit + 1 in asked and len(set(asked)) <= 12


@pytest.mark.parametrize(
    ("said", "bytes_needed"),
    [
        ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm.", 20.5 * GIB),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (2.00T) "
            "exceeds available HBM (15.75G).",
            2048 * GIB,
        ),
        ("RESOURCE_EXHAUSTED: no more threads", None),
        ("INTERNAL: Used 20.50G of patience", None),
    ],
)
def test_what_a_compiler_that_refuses_says(said, bytes_needed):
    assert estimate._refused(said) == bytes_needed


def test_a_plan_for_this_machine(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    arguments = ["--config", "cyclegan", "--set", *SMALL, "--target", "cpu", "--no-search"]
    assert plan_main.main([*arguments, "--json", str(tmp_path / "plan.json")]) == 0
    first = capsys.readouterr()
    assert "fits:     yes" in first.out and "compiling the step for cpu" in first.err
    said = json.loads((tmp_path / "plan.json").read_text())
    assert said["batch_size"] == 2 and said["fits"] is True
    assert said["compiled"]["memory"] == sum(said["compiled"][k] for k in ("state", "temporaries", "program"))
    # The second time nothing is compiled.
    assert plan_main.main(arguments) == 0
    again = capsys.readouterr()
    assert again.out == first.out and "compiling" not in again.err


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="reads the highest mark as Linux has it")
def test_memory_of_a_plan_is_what_a_run_takes():
    changes = ["image_size=128", "batch_size=4", "pool_size=0", "generator.filters=32", "generator.blocks=2"]
    command = [sys.executable, "-m", "tests.training.memory_of_a_run", "cyclegan", *changes, "discriminator.filters=32"]
    without_fakes = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=without_fakes | {"JAX_PLATFORMS": "cpu"}
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["planned"] == pytest.approx(found["measured"], rel=0.15)


def test_flops_are_those_of_the_networks():
    """A CycleGAN step makes six pictures, and a gradient costs two forward passes; the rest is small beside it."""
    cfg = overrides.override(
        overrides.load("cyclegan"), ["discriminator.filters=4", "generator.blocks=2", "image_size=64"]
    )
    made = estimate.make(cfg, hardware.find("cpu"), search=False)
    blocks = 2 * 2 * 9 * 256 * 256 * 16 * 16
    ends = 2 * 49 * 3 * 64 * 64 * 64  # of the first layer; the last has as many
    down = 9 * 64 * 128 * 32 * 32 + 9 * 128 * 256 * 16 * 16
    up = 4 * 4 * 256 * 128 * 16 * 16 + 4 * 4 * 128 * 64 * 32 * 32
    forward = 2 * (blocks + ends + down + up)
    assert made.compiled.flops == pytest.approx(3 * 6 * forward, rel=0.1)


def test_what_does_not_fit_says_by_how_much():
    compiled = estimate.Compiled(refused=20 * GIB)
    fields = dict.fromkeys((f.name for f in dataclasses.fields(estimate.Plan)), None)
    made = estimate.Plan(
        **{
            **fields,
            "target": "v5e",
            "devices": 1,
            "kind": "TPU v5 lite",
            "image_size": 256,
            "batch_size": 8,
            "compute_dtype": "float32",
            "remat": "none",
            "accumulate": 1,
            "usable": 15.75 * GIB,
            "compiled": compiled,
            "largest_batch": 0,
        }
    )
    assert made.fits is False
    assert "no, 20.00 GiB of 15.75 GiB a device: 4.25 GiB too much" in report.text(made)


@pytest.mark.parametrize("target", ["v9", "h100:0", "v5e:big", "tpu", ""])
def test_targets_that_there_are_not(target):
    with pytest.raises(types.InputError, match=r"there is no target .* there are: v5e:2x2"):
        hardware.find(target)


@pytest.mark.parametrize(
    ("target", "module", "extra"), [("v5e", "libtpu", "plan"), ("h100", "jax_cuda12_plugin", "plan-cuda")]
)
def test_a_compiler_that_is_not_installed(monkeypatch, target, module, extra):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find(name))
    with pytest.raises(types.InputError, match=rf"pip install 'gqst\[{extra}\]'"):
        hardware.find(target)


def test_a_batch_that_the_devices_do_not_divide():
    cfg = overrides.override(overrides.load("cyclegan"), SMALL)
    target = hardware.Target("two", jax.devices()[:4], hardware.find("cpu").chip)
    with pytest.raises(types.InputError, match="batch_size=2 does not divide over 4 devices"):
        estimate.make(cfg, target, search=False)


@pytest.mark.slow  # a TPU's compiler takes minutes; only where it is installed
def test_a_plan_for_a_tpu():
    pytest.importorskip("libtpu")
    cfg = overrides.override(overrides.load("cyclegan"), [*SMALL, "batch_size=4"])
    made = estimate.make(cfg, hardware.find("v5e:2x2"), search=False)
    assert made.fits and made.devices == 4 and made.compiled.program > 0 and made.seconds is not None
