"""One step on one device, on eight, on eight replicas, and on two processes of four: the same numbers."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from gqst import config, types
from gqst.training import parallel, state
from gqst.training.recipe import Recipe
from tests import conftest

# SGD, because Adam hides a gradient that is 8 times too large. Rounding differs with the order of sums, and a
# GAN amplifies it from step to step: with this rate the parameters still move by a hundred times the tolerance.
RATE = 1e-3
CHANGES = (
    "batch_size=8",
    "generator.blocks=0",
    "generator.norm=batch",
    "generator.scales=1",
    "discriminator.layers=1",
    "losses.adversarial.form=wgan_gp",
    "losses.style.weight=0.1",
    "losses.style.layers=('relu1_1',)",
    "losses.patch_nce.weight=0.1",
    "losses.patch_nce.width=8",
    "pool_size=4",
    *(
        f"{player}_optimizer.{change}"
        for player in ("generator", "discriminator")
        for change in ("name=sgd", f"learning_rate={RATE}")
    ),
)
STEPS = 5
WAYS = {"jit on 1": ("jit", 1), "jit on 8": ("jit", 8), "pmap on 8": ("pmap", 8)}
ALL = [*WAYS, "jit on 2 x 4", "pmap on 2 x 4"]
TREES = {
    "generator": lambda s: s.gen.params,
    "discriminator": lambda s: s.disc.params,
    "spectral norm": lambda s: s.disc.stats,
    "batch norm": lambda s: s.gen.stats,
    "average": lambda s: s.ema,
    "pool": lambda s: [p.pictures for p in s.pool.values()],
}


@pytest.fixture(scope="module")
def recipe():
    return Recipe(config_of_runs(), paired=False)


@pytest.fixture(scope="module")
def runs(recipe, environment, tmp_path_factory):
    """By way: the first state, the last one, the metrics of each step, and the traces."""
    results = {}
    for name, (mode, count) in WAYS.items():
        trainer = parallel.build(recipe, mode=mode, batch_size=8, devices=jax.devices()[:count])
        results[name] = run(trainer, pictures())
    first, *_ = results["jit on 1"]
    for mode in ("jit", "pmap"):
        file = tmp_path_factory.mktemp(mode) / "states.npz"
        results[f"{mode} on 2 x 4"] = _on_two(environment, mode, file, jax.tree.structure(first))
    return results


def config_of_runs() -> config.Config:
    """What all ways train."""
    return conftest.small("style_image", *CHANGES)


def pictures() -> dict[str, np.ndarray]:
    """The batch of every step."""
    rng = np.random.default_rng(0)
    return {key: rng.random((8, 32, 32, 3), np.float32) for key in ("source", "target")}


def run(trainer: parallel.Parallel, share: dict[str, np.ndarray]):
    """The first state, the last one, the metrics of each step, and the traces."""
    train_state = trainer.create(3)
    first = _numpy(trainer.single(train_state))
    said = []
    for _ in range(STEPS):
        train_state, metrics = trainer.step(train_state, trainer.put(share))
        said.append({k: float(v) for k, v in metrics.items()})
    return first, _numpy(trainer.single(train_state)), said, trainer.traces


def _on_two(environment, mode, file, structure):
    """The same of two processes, from the file that process 0 writes."""
    port = conftest.free_port()
    command = [sys.executable, "-m", "tests.training.one_of_two", str(port)]
    both = [subprocess.Popen([*command, str(i), mode, file], env=environment, cwd=conftest.ROOT) for i in (0, 1)]
    assert [process.wait(timeout=600) for process in both] == [0, 0]
    with np.load(file) as arrays:
        leaves = [arrays[f"leaf_{i}"] for i in range(2 * structure.num_leaves)]
        names = [name for name in arrays if name.startswith("metric_")]
        said = [{name.removeprefix("metric_"): float(arrays[name][at]) for name in names} for at in range(STEPS)]
    states = (leaves[: structure.num_leaves], leaves[structure.num_leaves :])
    return *(jax.tree.unflatten(structure, part) for part in states), said, 1


def _numpy(train_state: state.TrainState) -> state.TrainState:
    return jax.tree.map(np.array, train_state.replace(key=jax.random.key_data(train_state.key)))


def _largest(tree) -> float:
    return max(float(np.max(np.abs(leaf))) for leaf in jax.tree.leaves(tree))


def _apart(one, other) -> float:
    return _largest(jax.tree.map(lambda a, b: np.float64(a) - b, one, other))


@pytest.mark.slow  # seven compiled steps
@pytest.mark.parametrize("way", ALL[1:])
def test_states_agree(runs, way):
    first, reference, _, _ = runs["jit on 1"]
    start, last, _, _ = runs[way]
    assert jax.tree.structure(last) == jax.tree.structure(reference)
    for name, part in TREES.items():
        assert _apart(part(start), part(first)) == 0.0, name
        scale = _largest(part(reference))
        assert _apart(part(last), part(reference)) <= 1e-5 * scale, name
    for part in (TREES["generator"], TREES["discriminator"]):
        assert _apart(part(first), part(reference)) > 1e-3 * _largest(part(reference))
    assert int(last.step) == STEPS
    np.testing.assert_array_equal(last.key, first.key)


@pytest.mark.slow  # seven compiled steps
@pytest.mark.parametrize("way", ALL[1:])
def test_metrics_agree(runs, way):
    for at, (reference, actual) in enumerate(zip(runs["jit on 1"][2], runs[way][2], strict=True)):
        assert actual.keys() == reference.keys()
        for name, value in reference.items():
            # Where rounding takes one activation over the kink of its ReLU, the gradient jumps and the losses do not.
            rel = 1e-3 if name.startswith("gradient_norm") else 2e-5
            assert actual[name] == pytest.approx(value, rel=rel, abs=1e-5), (at, name)


@pytest.mark.slow  # seven compiled steps
@pytest.mark.parametrize("way", ALL)
def test_one_trace(runs, way):
    assert runs[way][3] == 1


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_a_batch_that_does_not_divide(recipe, mode):
    with pytest.raises(types.InputError) as caught:
        parallel.build(recipe, mode=mode, batch_size=6, devices=jax.devices()[:4])
    assert "batch_size=6 does not divide over 4 devices" in str(caught.value)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
@pytest.mark.parametrize("repeats", [1, 3])
def test_batches_lie_on_the_devices_in_order(recipe, mode, repeats):
    trainer = parallel.build(recipe, mode=mode, batch_size=8, repeats=repeats, devices=jax.devices()[:4])
    shape = (8, 2) if repeats == 1 else (repeats, 8, 2)
    batch = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    placed = trainer.put({"source": batch})["source"]
    for device, share in enumerate(np.split(batch, 4, axis=0 if repeats == 1 else 1)):
        (shard,) = [s for s in placed.addressable_shards if s.device == jax.devices()[device]]
        data = np.asarray(shard.data)
        np.testing.assert_array_equal(data[0] if mode == "pmap" else data, share)


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_a_state_goes_there_and_back(recipe, mode):
    trainer = parallel.build(recipe, mode=mode, batch_size=8, devices=jax.devices()[:4])
    train_state = trainer.create(2**64 + 1)
    single = trainer.single(train_state)
    again = trainer.single(trainer.spread(single))
    for one, other in zip(jax.tree.leaves(_numpy(single)), jax.tree.leaves(_numpy(again)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(jax.tree.leaves(train_state)[0].sharding.device_set) == 4


def test_a_batch_that_does_not_divide_into_its_parts():
    recipe = Recipe(conftest.small("style_image", "batch_size=8", "accumulate=4"), paired=False)
    with pytest.raises(types.InputError, match=r"4 devices in accumulate=4 parts each.*multiple of 16"):
        parallel.build(recipe, batch_size=8, devices=jax.devices()[:4])
