"""Runs that start with the networks of another run, or of a style file."""

import json
import shutil
import zipfile

import jax
import numpy as np
import pytest

import gqst
from gqst import overrides, types
from gqst.models import base as models
from gqst.models import style_files
from gqst.training import checkpoint, loop, restore, setup
from tests import conftest

SMALL = ("steps=1", "generator.filters=4", "round_every=1", "checkpoint_every=1", "validation=2", "log_every=1")


def _config(*changes):
    return conftest.small("style_image", *SMALL, "discriminator.layers=1", "discriminator.filters=4", *changes)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A run of four steps with both directions."""
    folder = tmp_path_factory.mktemp("earlier")
    with zipfile.ZipFile(conftest.ROOT / "tests/fixtures/run_of_a302aa7.zip") as archive:
        archive.extractall(folder)
    return folder / "run"


def _equal(actual, expected) -> None:
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(actual), jax.device_get(expected))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_networks_of_a_run_are_taken_and_optimisers_begin_anew(earlier, tmp_path, mode):
    before = overrides.from_json((earlier / "config.json").read_text(), origin="run")
    cfg = overrides.override(before, [f"start_from={earlier}", "targets={}", "seed=3", "generator_optimizer.name=lion"])
    with setup.opened(before, earlier, devices=1, quiet=True) as run:
        step = run.memory.best.step
        best = jax.device_get(run.checkpoints.restore(run.abstract_state, at_most=step)[0])
    assert int(best.step) == step
    with setup.opened(cfg, tmp_path / "run", mode=mode, devices=2, quiet=True) as run:
        state = jax.device_get(run.parallel.single(run.state))
        fresh = jax.device_get(run.parallel.single(run.parallel.create(cfg.seed)))
    _equal(state.ema, best.ema)
    for direction in ("forward", "backward"):
        _equal({"params": state.gen.params[direction], **state.gen.stats[direction]}, best.ema[direction])
    _equal((state.disc.params, state.disc.stats), (best.disc.params, best.disc.stats))
    _equal((state.step, state.gen.opt_state, state.disc.opt_state), (0, fresh.gen.opt_state, fresh.disc.opt_state))
    (note,) = (json.loads(line) for line in (tmp_path / "run" / "decisions.jsonl").read_text().splitlines())
    both = ["forward", "backward"]
    assert note == {"step": 0, "start_from": str(earlier), "of_step": step, "generators": both, "discriminators": both}


@pytest.mark.slow
def test_a_start_is_needed_no_more_once_there_is_a_checkpoint(tmp_path, capsys):
    loop.fit(_config(), tmp_path / "first", devices=1, quiet=True)
    # The discriminator is another one.
    changes = (f"start_from={tmp_path / 'first'}", "discriminator.layers=2")
    loop.fit(_config(*changes), tmp_path / "run", devices=1)
    said = capsys.readouterr().err
    assert f"starting with the generator of {tmp_path / 'first'}, step 1; its discriminator is new" in said
    shutil.rmtree(tmp_path / "first")
    with setup.opened(_config(*changes), tmp_path / "run", devices=1, quiet=True) as run:
        assert run.step == 1
        with pytest.raises(types.InputError, match="start_from: there is no style file"):
            run.begin()


@pytest.mark.slow
def test_a_run_starts_with_a_style(tmp_path):
    cfg = _config()
    module = models.build_generator(cfg)
    variables = jax.device_get(jax.jit(module.init)(jax.random.key(5), np.zeros((1, 32, 32, 3), np.float32)))
    style_files.write(tmp_path / "mine.safetensors", cfg, variables, {"step": 9}, dtype="float32")
    started = _config(f"start_from={tmp_path / 'mine.safetensors'}")
    with setup.opened(started, tmp_path / "run", devices=1, quiet=True) as run:
        _equal(run.state.ema["forward"], variables)
        _equal(gqst.create_state(run.recipe, jax.random.key(0)).ema["forward"], variables)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["start_from=screem"], "start_from: there is no style 'screem' .did you mean 'scream'?"),
        (["start_from=nowhere/run"], r"start_from: there is no style file nowhere/run"),
        (
            ["start_from=scream", "generator.filters=24"],
            r"the generator of scream is not this config's; to start with it: --set generator\.filters=16 "
            r"generator\.blocks=5 generator\.start_at_identity=False$",
        ),
        (
            ["start_from=scream", "generator=unet", "generator.depth=3"],
            "--set generator=resnet generator.filters=16 generator.blocks=5",
        ),
    ],
)
def test_what_cannot_be_started_from_is_said_before_anything_is_written(tmp_path, changes, said):
    with pytest.raises(types.InputError, match=said):
        loop.fit(conftest.small("style_image", *changes), tmp_path / "run", devices=1, quiet=True)
    assert not (tmp_path / "run").exists()


def test_every_bundled_config_that_starts_with_a_style_fits_it():
    configs = [cfg for cfg in map(overrides.load, overrides.bundled()) if cfg.start_from]
    assert configs
    for cfg in configs:
        styles = np.full((1, 32, 32, 3), 0.5, np.float32)
        assert restore.start(gqst.Recipe(cfg), lambda styles=styles: styles).generators["forward"]["params"]


def test_a_run_without_a_discriminator_gives_none(tmp_path):
    loop.fit(_config("losses.adversarial=off", "losses.total_variation=1"), tmp_path / "first", devices=1, quiet=True)
    taken = restore.start(gqst.Recipe(_config(f"start_from={tmp_path / 'first'}")))
    assert taken.note["generators"] == ["forward"] and not taken.discriminators


def test_a_folder_that_is_no_run(tmp_path, monkeypatch):
    with pytest.raises(types.InputError, match="is not the folder of a run"):
        loop.fit(_config(f"start_from={tmp_path}"), tmp_path / "run", devices=1, quiet=True)
    # One that is called like a style is not in its way.
    (tmp_path / "kandinsky").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = gqst.Recipe(overrides.override(overrides.load("style_image"), ["start_from=kandinsky"]))
    assert restore.start(recipe).note["start_from"] == "kandinsky"


def test_a_missing_checkpoint_gives_no_discriminator(earlier, tmp_path):
    with pytest.raises(types.InputError, match=r"checkpoint 7 in .* cannot be read"):
        checkpoint.load_discriminators(earlier / "checkpoints", 7, {"forward": {"params": {}}})


def test_a_start_without_noise_serves_a_generator_that_has_some():
    changes = ["start_from=scream", *(f"generator.{key}" for key in ("filters=16", "blocks=5", "norm=instance"))]
    changes += ["generator.start_at_identity=False", "generator.noise=True"]
    recipe = gqst.Recipe(conftest.small("style_image", *changes, "losses.adversarial=off", "losses.total_variation=1"))
    params = jax.device_get(gqst.create_state(recipe, jax.random.key(0)).gen.params["forward"])
    taken = style_files.read("scream").variables["params"]
    _equal({name: params[name] for name in taken}, taken)
    kinds = {name.split("_")[0] for name in params.keys() - taken.keys()}
    assert kinds == {"Noise"}
