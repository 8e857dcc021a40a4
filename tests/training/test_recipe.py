"""Recipes: directions, layers and heads that follow from a config, and parts that do not go together."""

import numpy as np
import pytest

from gqst import overrides, types
from gqst.losses import base as losses
from gqst.training import recipe as recipe_module
from gqst.training.recipe import Recipe, directions
from tests import conftest


def test_objectives_of_the_configs_are_what_they_say():
    kinds = {}
    for name in overrides.bundled():
        cfg = overrides.load(name)
        paired = cfg.data.name in ("pairs", "matched", "clean")
        objective = losses.build(cfg.losses, paired=paired)
        kinds[name] = (paired, directions(objective))
    both, one_way = (False, ("forward", "backward")), (False, ("forward",))
    assert kinds["pix2pix"] == kinds["restore"] == (True, ("forward",))
    for name in ("style_image", "quickstart", "photo2painting", "cut", "fastcut", "paper", "any_style"):
        assert kinds[name] == one_way, name
    for name in ("cyclegan", "horse2zebra", "monet2photo", "facades"):
        assert kinds[name] == both, name
    assert len(kinds) == 13


def test_the_encoders_layers_that_losses_ask_for():
    cfg = conftest.small("cut", "losses.identity_nce=off")
    recipe = Recipe(cfg, paired=False)
    assert recipe.encoded == dict.fromkeys(("fake", "source"), ("pixels", "down1", "down2", "block1"))
    given = overrides.override(cfg, ["losses.patch_nce.layers=('down1',)"])
    assert Recipe(given, paired=False).encoded["fake"] == ("down1",)
    for change, pattern in (
        ("losses.patch_nce.layers=('down7',)", "has no layer 'down7'.*block1"),
        ("losses.other.term=patch_nce losses.other.weight=1 losses.other.layers=('down1',)", "different layers"),
        ("losses.other.term=patch_nce losses.other.weight=1 losses.other.width=8", "share one width"),
    ):
        with pytest.raises(types.InputError, match=pattern):
            Recipe(overrides.override(cfg, change.split()), paired=False)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("pix2pix", (), "conditional=True needs paired data"),
        ("style_image", ("image_size=16", "discriminator.layers=4"), "^image_size=16: "),
        ("style_image", ("metrics=('psnr',)",), "'psnr' compares fakes with truths and needs paired data"),
        ("style_image", ("metrics=('ssim_cycled',)",), "'ssim_cycled' looks at cycles, which no loss"),
    ],
)
def test_parts_that_do_not_go_together(name, changes, words):
    with pytest.raises(types.InputError, match=words):
        Recipe(conftest.small(name, *changes), paired=False)


def test_a_conditional_discriminator_takes_no_pool():
    with pytest.raises(types.InputError, match="pool_size=3 does not go with conditional=True"):
        Recipe(conftest.small("pix2pix", "pool_size=3"), paired=True)


def test_given_variables_replace_random_ones():
    random = {"params": {"conv": {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)}}, "stats": {"u": np.zeros(1)}}
    replaced = recipe_module._replaced(random, {"params": {"conv": {"bias": np.ones(3)}}})
    np.testing.assert_array_equal(replaced["params"]["conv"]["bias"], 1.0)
    np.testing.assert_array_equal(replaced["params"]["conv"]["kernel"], 0.0)
    assert replaced["stats"] == random["stats"]
    with pytest.raises(ValueError, match=r"weights give 'bias' the shape \(2,\), the network's has \(3,\)"):
        recipe_module._replaced(random, {"params": {"conv": {"bias": np.ones(2)}}})


def test_networks_know_the_axis_of_pmap():
    recipe = Recipe(conftest.small("style_image", "generator.norm=batch"), paired=False)
    assert recipe.over(None) is recipe
    copy = recipe.over("data")
    assert copy.generator == recipe.generator.clone(axis_name="data") and copy.gen_tx is recipe.gen_tx
    assert recipe.generator.axis_name is None


def test_only_a_generator_that_is_asked_for_a_structure_can_miss_it():
    with pytest.raises(types.InputError, match="generator 'resnet' takes none: set generator=any_style"):
        Recipe(conftest.small("style_image", "losses.asked_structure=1"))
