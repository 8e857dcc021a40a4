"""The public door: names that are imported when they are used, and what a researcher takes from them."""

import ast
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import gqst
from gqst import types
from tests import conftest


def test_every_public_name_is_there_and_typed_where_it_comes_from():
    tree = ast.parse(pathlib.Path(gqst.__file__).read_text(encoding="utf-8"))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    names = {a.asname or a.name for node in typed.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert names == set(gqst.__all__) == set(gqst.__all__) & set(dir(gqst))
    for node in typed.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            name = alias.asname or alias.name
            if node.module != "gqst":
                assert gqst._ORIGINS[name] == f"{node.module}.{alias.name}".removeprefix("gqst.")
            assert getattr(gqst, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trains'"):
        _ = gqst.trains


def test_importing_the_package_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import gqst"], capture_output=True, text=True, cwd=conftest.ROOT
    )
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "gqst" in loaded and not loaded & {"jax", "numpy", "flax", "pydantic", "PIL"}


def test_a_config_with_changes():
    cfg = gqst.load_config("cyclegan", "steps=2000", "generator.filters=8")
    assert (cfg.steps, cfg.generator.options["filters"]) == (2000, 8)
    with pytest.raises(gqst.InputError, match="unknown config key 'stepz'"):
        gqst.load_config("cyclegan", "stepz=3")


def test_pictures_are_read_and_written(tmp_path):
    picture = np.random.default_rng(0).random((12, 9, 3))
    gqst.write_picture(tmp_path / "a.png", picture)
    np.testing.assert_allclose(gqst.read_picture(tmp_path / "a.png"), picture, atol=0.5 / 255 + 1e-6)
    assert gqst.picture_grid({"a": [tmp_path / "a.png"]}).width > 9
    with pytest.raises(types.InputError, match=r"a\.gif ends in no format that can be written: \.jpg"):
        gqst.write_picture(tmp_path / "a.gif", picture)


@pytest.mark.slow
def test_the_step_of_an_own_loop_is_that_of_a_run(batch):
    """The same state, metrics and keys as the step that `fit` compiles."""
    from gqst.training import parallel

    cfg = conftest.small("style_image", "batch_size=8")
    recipe = gqst.Recipe(cfg)
    own, metrics = gqst.train_step(recipe)(gqst.create_state(recipe, jax.random.key(cfg.seed)), batch)
    run = parallel.build(recipe, batch_size=8, devices=jax.devices()[:1])
    state, expected = run.step(run.create(cfg.seed), run.put(batch))
    assert metrics.keys() == expected.keys() and int(own.step) == int(state.step) == 1
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(own.gen.params), jax.tree.leaves(state.gen.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_batches_take_the_size_of_the_config():
    cfg = conftest.small("quickstart", "batch_size=3")
    batches = gqst.batches(gqst.load_data(cfg), cfg)
    assert next(batches)["source"].shape == (3, 32, 32, 3)
    batches.close()
