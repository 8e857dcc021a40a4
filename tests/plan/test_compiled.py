"""What compilers say of a step, against hand calculation and a real run."""

import json
import pathlib
import subprocess
import sys

import jax
import pytest

from gqst import overrides, types
from gqst.models.generators import resnet
from gqst.plan import compiled, hardware
from tests import conftest

SMALL = (*conftest.SMALL_RESNET, "generator.filters=4")
GIB = 2**30


@pytest.mark.parametrize(
    ("message", "needed"),
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
def test_bytes_needed_by_a_refused_program(message, needed):
    assert compiled._bytes_needed(message) == needed


def test_memory_of_a_step():
    step = compiled.Compiled(state=3, temporaries=4, program=5)
    assert step.memory == 12 and step.fits(12) and not step.fits(11)
    refused = compiled.Compiled(refused=7)
    assert refused.memory == 7 and not refused.fits(100)


@pytest.mark.slow
def test_flops_are_those_of_the_networks(monkeypatch):
    """A CycleGAN step makes six pictures, and a gradient costs two forward passes; the rest is small beside it."""
    monkeypatch.setattr(resnet, "_FEWEST_PIXELS", 0)  # blocks are a loop in the program, and count as often as they run
    cfg = overrides.override(
        overrides.load("cyclegan"), ["discriminator.filters=4", "generator.blocks=2", "image_size=64"]
    )
    step = compiled.compile_step(cfg, hardware.find("cpu"), paired=False)
    blocks = 2 * 2 * 9 * 256 * 256 * 16 * 16
    ends = 2 * 49 * 3 * 64 * 64 * 64  # of the first layer; the last has as many
    down = 9 * 64 * 128 * 32 * 32 + 9 * 128 * 256 * 16 * 16
    up = 4 * 4 * 256 * 128 * 16 * 16 + 4 * 4 * 128 * 64 * 32 * 32
    forward = 2 * (blocks + ends + down + up)
    assert step.flops == pytest.approx(3 * 6 * forward, rel=0.1)


def test_the_cache_belongs_to_one_description():
    """Another description of the same GPU is another compilation."""
    lowered = jax.jit(lambda x: x + 1).lower(1.0)
    target = hardware.find("cpu")
    changed = hardware.Target(target.name, target.devices, target.chip, "core_count: 1")
    assert compiled._fingerprint(target, lowered) == compiled._fingerprint(hardware.find("cpu"), lowered)
    assert compiled._fingerprint(target, lowered) != compiled._fingerprint(changed, lowered)


def test_a_batch_that_the_devices_do_not_divide():
    cfg = overrides.override(overrides.load("cyclegan"), SMALL)
    target = hardware.Target("two", jax.devices()[:4], hardware.find("cpu").chip)
    with pytest.raises(types.InputError, match="batch_size=2 does not divide over 4 devices"):
        compiled.compile_step(cfg, target, paired=False)


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="reads the peak as Linux has it")
def test_estimated_memory_is_what_a_run_takes(environment):
    changes = ["image_size=64", "batch_size=4", "pool_size=0", "generator.filters=32", "generator.blocks=2"]
    command = [sys.executable, "-m", "tests.training.memory_of_a_run", "cyclegan", *changes, "discriminator.filters=32"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment | {"JAX_COMPILATION_CACHE_DIR": ""}
    )
    memory = json.loads(done.stdout.splitlines()[-1])
    assert memory["estimated"] == pytest.approx(memory["measured"], rel=0.15)
