"""The folder of a run that was never trained: two checkpoints of a small generator."""

import pathlib

import jax
import pytest

import gqst
from gqst import overrides
from gqst.inference import generator as generator_module
from gqst.training import checkpoint
from tests import conftest


@pytest.fixture(scope="session")
def workdir(tmp_path_factory) -> pathlib.Path:
    """A run of style_image with checkpoints of steps 1, the best, and 2."""
    folder = tmp_path_factory.mktemp("untrained") / "run"
    recipe = gqst.Recipe(conftest.small("style_image", "generator.filters=4"))
    state = gqst.create_state(recipe, jax.random.key(0))
    store = checkpoint.Checkpoints(folder / "checkpoints")
    for step in (1, 2):
        ema = jax.tree.map(lambda x, shift=0.02 * step: x + shift, state.ema)
        note = {"best": {"step": 1}, "directions": recipe.directions}
        store.save(state.replace(step=state.step + step, ema=ema), note)
    store.close()
    (folder / "config.json").write_text(overrides.to_json(recipe.config))
    return folder


@pytest.fixture(scope="session")
def generator(workdir) -> generator_module.Generator:
    return gqst.load_generator(workdir, which="last")
