"""Meshes of devices, and what XLA is told on CPU."""

import jax
import numpy as np
import pytest

from gqst.runtime import devices


def test_a_mesh_replicates_and_shards():
    mesh = devices.DeviceMesh(jax.devices()[:4])
    rows = np.arange(8.0).reshape(4, 2)
    replicated, sharded = mesh.replicate({"a": rows}), mesh.shard({"a": rows})
    assert [shard.data.shape for shard in replicated["a"].addressable_shards] == [(4, 2)] * 4
    assert [shard.device for shard in sharded["a"].addressable_shards] == mesh.devices
    for shard, row in zip(sharded["a"].addressable_shards, rows, strict=True):
        np.testing.assert_array_equal(shard.data, row[None])
    # From the devices as from the host.
    np.testing.assert_array_equal(mesh.replicate(sharded)["a"].addressable_shards[3].data, rows)


def test_a_mesh_shards_along_any_axis():
    mesh = devices.DeviceMesh(jax.devices()[:2])
    placed = jax.device_put(np.zeros((3, 4, 5)), mesh.sharded_along(1))
    assert [shard.data.shape for shard in placed.addressable_shards] == [(3, 2, 5)] * 2
    assert mesh.sharded_along(0) == mesh.sharded


@pytest.mark.parametrize(("count", "padded"), [(1, 3), (3, 3), (4, 6), (9, 9)])
def test_counts_are_padded_to_the_devices(count, padded):
    assert devices.DeviceMesh(jax.devices()[:3]).padded(count) == padded


def test_all_devices_of_this_process_by_default():
    assert devices.DeviceMesh().devices == jax.local_devices()


def test_an_option_that_this_xla_has_not_is_left_out(monkeypatch):
    options = devices._without_ynnpack.__wrapped__
    assert list(options()) == ["xla_cpu_experimental_ynn_fusion_type"]

    def refuse(*given, **options):
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: No such compile option")

    monkeypatch.setattr(jax, "jit", refuse)
    assert options() == {}


@pytest.mark.parametrize("level", [0, 1])
def test_options_are_those_that_xla_takes(monkeypatch, level):
    monkeypatch.delenv("XLA_FLAGS")
    options = devices.compile_options(level, jax.devices())
    assert options["xla_backend_optimization_level"] == level
    assert jax.jit(lambda x: x + 1, compiler_options=options)(1) == 2


def test_what_the_user_asks_of_xla_goes_before(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_use_xnnpack=false --xla_backend_optimization_level=3")
    options = devices.compile_options(1, jax.devices())
    assert options == devices._without_ynnpack() and options
