"""Registries, and members that come from outside the package."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
import pytest
from flax import linen as nn
from PIL import Image

from gqst import config, registry, types
from gqst.data import sources
from gqst.losses import base as losses
from gqst.models import base as models
from gqst.training import summary
from gqst.training.recipe import Recipe
from tests import conftest

SHAPES = registry.Registry("shape")


@SHAPES.register("square")
def square(scale: float = 1.0, *, side: int, fill: Literal["red", "blue"] = "red", extra: Any = 0) -> Any:
    return scale, side, fill, extra


@SHAPES.register("point")
def point() -> str:
    return "."


@SHAPES.register("polygon")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Polygon:
    corners: tuple[int, ...] = (0, 1, 2)
    width: pydantic.PositiveFloat = 1.0


@pytest.fixture
def outsiders():
    """Lets a test register members of its own, and forgets them afterwards."""
    families = (models.GENERATORS, models.DISCRIMINATORS, losses.TERMS, sources.SOURCES)
    members = [dict(family._members) for family in families]
    yield
    for family, known in zip(families, members, strict=True):
        family._members = known


def test_members_are_built_with_their_options():
    assert list(SHAPES) == ["square", "point", "polygon"]
    assert SHAPES["point"] is point
    assert SHAPES.build(config.choice("square", side=3)) == (1.0, 3, "red", 0)
    assert SHAPES.build(config.choice("square", side=3, fill="blue"), extra=5) == (1.0, 3, "blue", 5)
    assert list(SHAPES.options("square", given=["extra"])) == ["side", "fill"]


def test_options_are_converted_to_the_declared_types():
    """A list is what JSON makes of a tuple; the member gets the tuple that it declares."""
    polygon = SHAPES.build(config.choice("polygon", corners=[3, 4], width=2))
    assert polygon == Polygon(corners=(3, 4), width=2.0)
    assert hash(polygon) == hash(Polygon(corners=(3, 4), width=2.0)) and type(polygon.width) is float
    assert SHAPES.check(config.choice("polygon")) == {}  # defaults are the member's own


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (config.choice("polygon", width=0), ["option 'width' of shape 'polygon' is 0", "greater than 0"]),
        (config.choice("polygon", corners=["a"]), ["option 'corners'", "['a']", "integer"]),
        (config.choice("sqare", side=3), ["unknown shape 'sqare'", "did you mean 'square'?", "point"]),
        (config.choice("zzz"), ["unknown shape 'zzz'", "there are: point, polygon, square"]),
        (config.choice("square", sides=3), ["option 'sides'", "did you mean 'side'?", "fill"]),
        (config.choice("square", scale=3), ["option 'scale'", "it takes: side, fill"]),
        (config.choice("square", side=3, extra=1), ["option 'extra'", "it takes: side, fill"]),
        (config.choice("square", side="long"), ["option 'side'", "'long'", "integer"]),
        (config.choice("square", side=3, fill="grey"), ["option 'fill'", "'grey'", "'blue'"]),
        (config.choice("square"), ["shape 'square' needs the option 'side'"]),
        (config.choice("point", side=3), ["option 'side'", "it takes: none"]),
    ],
)
def test_bad_choices_are_one_sentence(choice, words):
    with pytest.raises(types.InputError) as caught:
        SHAPES.build(choice, extra=0)
    assert all(word in str(caught.value) for word in words), caught.value


def test_names_are_taken_once():
    with pytest.raises(ValueError, match="shape 'point' is registered twice"):
        SHAPES.register("point")(square)


def test_every_family_of_the_package_is_there():
    assert {"resnet", "unet", "resnet50"} <= set(models.GENERATORS)
    assert {"patch", "multiscale", "pixel", "resnet50", "projected"} <= set(models.DISCRIMINATORS)
    assert {"adversarial", "r1", "cycle", "identity", "l1", "total_variation", "quality"} <= set(losses.TERMS)
    assert {"content", "style", "lpips", "patch_nce", "discriminator_perceptual"} <= set(losses.TERMS)
    assert {"demo", "folders", "pairs", "matched", "style_image", "tfds", "clean"} <= set(sources.SOURCES)


def test_a_generator_from_outside(outsiders):
    @models.GENERATORS.register("tint")
    class Tint(nn.Module, kw_only=True):
        """Scales each channel."""

        gain: float = 1.0
        dtype: Any = jnp.float32

        @nn.compact
        def __call__(self, source):
            scale = self.param("scale", nn.initializers.constant(self.gain), (3,))
            return jnp.clip(source * scale[None, None, None], 0.0, 1.0)

    cfg = conftest.small("style_image", "generator=tint", "generator.gain=0.5")
    recipe = Recipe(cfg, paired=False)
    state, metrics = summary.trace(recipe)
    assert state.gen.params["forward"]["scale"].shape == (3,) and "loss/generator" in metrics
    variables = recipe.generator.init(jax.random.key(0), jnp.ones((1, 16, 16, 3)))
    np.testing.assert_array_equal(variables["params"]["scale"], [0.5] * 3)


def test_a_discriminator_from_outside(outsiders):
    @models.DISCRIMINATORS.register("mean")
    class Mean(nn.Module, kw_only=True):
        """One logit: the weighted mean of the channels."""

        scale: float = 1.0
        dtype: Any = jnp.float32

        @nn.compact
        def __call__(self, pictures, *, update_stats=False):
            logit = nn.Dense(1, name="mix")(self.scale * jnp.mean(pictures, axis=(1, 2), keepdims=True))
            return models.Verdict(logits=(logit,), activations=((logit,),))

    cfg = conftest.small("style_image", "discriminator=mean", "discriminator.scale=2")
    recipe = Recipe(cfg, paired=False)
    assert recipe.discriminator.scale == 2.0
    state, metrics = summary.trace(recipe)
    assert state.disc.params["forward"]["mix"]["kernel"].shape == (3, 1)
    assert "loss/adversarial_discriminator" in metrics


def test_a_loss_and_a_data_source_from_outside(outsiders):
    """Both show up in the metrics of a step and in what --dry-run prints."""

    @losses.TERMS.register("brightness")
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Brightness(losses.Term):
        """Distance of the mean brightness from a goal."""

        goal: float = 0.5

        def __call__(self, context):
            return jnp.abs(losses.mean_per_picture(context.fake) - self.goal)

    @sources.SOURCES.register("plain")
    def plain(*, dark: int = 0, light: int = 255) -> sources.Dataset:
        return sources.Dataset(train=sources.Split(Plain(dark), Plain(light)))

    changes = ("data=plain", "data.dark=9", "validation=1", "losses.brightness=2", "losses.brightness.goal=0.25")
    cfg = conftest.small("style_image", *changes)
    _, metrics = summary.trace(Recipe(cfg, paired=False))
    assert "loss/brightness" in metrics
    lines = summary.describe(cfg).splitlines()
    assert "  brightness (generator): weight 2.0; goal=0.25" in lines and "data: plain, unpaired" in lines
    dataset = sources.build(cfg.data, validation=1)
    assert dataset.train.sizes == (3, 3) and dataset.validation.sizes == (1, 1)
    assert dataset.train.source.load(0).getpixel((0, 0)) == (9, 9, 9)
    with pytest.raises(types.InputError, match="option 'goal' of loss 'brightness' is 'dark'"):
        losses.build({"brightness": config.loss(1.0, goal="dark")}, paired=False)
    with pytest.raises(types.InputError, match="option 'dark' of data source 'plain' is 'very'"):
        sources.build(config.choice("plain", dark="very"))


@dataclasses.dataclass(frozen=True)
class Plain:
    """Pictures of one colour."""

    value: int
    origin: str = "plain"

    def __len__(self):
        return 4

    def name(self, index):
        return str(index)

    def load(self, index, *, shorter=None):
        return Image.new("RGB", (40, 40), (self.value,) * 3)
