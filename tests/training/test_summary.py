"""The summary of a config."""

import jax
import jax.numpy as jnp

from gqst.training import summary
from gqst.training.recipe import Recipe
from tests import conftest


def test_a_config_as_text():
    cfg = conftest.small("style_image", "generator.blocks=0", "losses.structure.floor=0.75")
    lines = summary.describe(cfg).splitlines()
    assert lines[0] == "data: style_image, unpaired"
    assert "batch: 2 x 32 x 32 x 3, source and target, float32" in lines
    assert "directions: forward" in lines
    assert any(line.startswith("  structure (generator): weight ") and "floor=0.75" in line for line in lines)
    state, metrics = summary.trace(Recipe(cfg))
    count = sum(x.size for x in jax.tree.leaves(state.gen.params["forward"]))
    assert f"generator forward: resnet, {count:,} parameters" in lines
    assert lines[-1].endswith(f"{cfg.steps} steps; {len(metrics)} metrics")


def test_bytes_of_arrays_and_of_shapes():
    arrays = {"a": jnp.zeros((3, 4)), "b": jnp.zeros((2,), jnp.bfloat16)}
    assert summary.state_bytes(arrays) == summary.state_bytes(jax.eval_shape(lambda: arrays)) == 52
