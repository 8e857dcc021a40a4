"""Any picture as a style: a generator of a run that takes styles, and pictures that it is told of."""

import jax
import numpy as np
import pytest
from PIL import Image

import gqst
from gqst import overrides, types
from gqst.inference import any_style, styles
from gqst.models import base as models
from gqst.models import conditions, style_files
from gqst.runtime import caches
from tests import conftest

SIZE = 48


@pytest.fixture(scope="module")
def base() -> style_files.Style:
    """A small generator that was never trained, in which styles show."""
    cfg = conftest.small("any_style")
    module = models.build_generator(cfg)
    first = jax.jit(module.init)(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    rng = np.random.default_rng(1)
    lively = jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape).astype(np.float32), first)
    return style_files.Style(cfg, module, jax.device_get(lively), 7)


@pytest.fixture(scope="module")
def looked(base):
    return any_style.Looked(base)


@pytest.fixture(scope="module")
def style_of(base):
    """A function of pixels to the style, compiled once."""
    jitted = jax.jit(lambda x: conditions.style_of(base.module, base.variables, x))
    return lambda pixels: np.asarray(jitted(pixels[None].astype(np.float32) / 255))[0]


@pytest.fixture(scope="module")
def paintings(tmp_path_factory):
    """A square painting, a wide one of three parts, and one that is no picture."""
    folder = tmp_path_factory.mktemp("paintings")
    rng = np.random.default_rng(2)
    square = rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8)
    Image.fromarray(square).save(folder / "square.png")
    parts = [np.full((SIZE, SIZE, 3), value, np.uint8) // np.uint8([1, 2, 3]) for value in (240, 120, 40)]
    Image.fromarray(np.concatenate(parts, 1)).save(folder / "wide.png")
    (folder / "odd.png").write_text("no picture")
    return folder


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _picture():
    return np.random.default_rng(0).random((40, 56, 3), np.float32)


def _expected(base, style, structure, picture):
    asked = conditions.Conditions(style[None], np.float32([structure]))
    variables = conditions.conditioned(base.variables, asked)
    return np.asarray(jax.jit(base.module.apply)(variables, picture[None]))[0]


@pytest.mark.slow
def test_a_painting_is_what_the_generator_is_told_of(base, style_of, paintings):
    square = np.asarray(Image.open(paintings / "square.png"))
    stylizer = gqst.Stylizer(paintings / "square.png", base=base, size=SIZE, structure=0.7)
    np.testing.assert_allclose(stylizer(_picture()), _expected(base, style_of(square), 0.7, _picture()), atol=2e-3)
    assert stylizer.step == 7
    other = gqst.Stylizer(paintings / "square.png", base=base, size=SIZE, structure=0.9)
    assert np.abs(other(_picture()) - stylizer(_picture())).max() > 0.01
    with pytest.raises(types.InputError, match="no noise that a seed could vary"):
        gqst.Stylizer(paintings / "square.png", base=base, size=SIZE, seed=5)


def test_a_wide_painting_is_looked_at_everywhere(looked, style_of, paintings):
    wide = np.asarray(Image.open(paintings / "wide.png"))
    expected = np.mean([style_of(wide[:, i * SIZE : (i + 1) * SIZE]) for i in range(3)], axis=0)
    np.testing.assert_allclose(looked(paintings / "wide.png", size=SIZE), expected, rtol=1e-3, atol=1e-3)
    Image.open(paintings / "wide.png").transpose(Image.Transpose.ROTATE_90).save(paintings / "tall.png")
    tall = looked(paintings / "tall.png", size=SIZE)
    np.testing.assert_allclose(tall[:9], expected[:9], atol=1e-3)


@pytest.mark.parametrize("size", [(50, 49), (4000, 300), (300, 4000), (48, 48), (20, 30)])
def test_squares_cover_a_picture(size):
    squares = any_style._squares(Image.new("RGB", size), SIZE)
    assert squares.shape[1:] == (SIZE, SIZE, 3) and 1 <= len(squares) <= 4


def test_what_was_looked_at_is_kept_for_this_generator(base, paintings, monkeypatch):
    first = any_style.Looked(base)(paintings / "square.png", size=SIZE)
    with monkeypatch.context() as context:
        context.setattr(any_style.Looked, "_look", property(lambda self: pytest.fail("it was looked at again")))
        np.testing.assert_array_equal(any_style.Looked(base)(paintings / "square.png", size=SIZE), first)
    # One that is damaged is made anew.
    (file,) = caches.folder("styles").iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    np.testing.assert_array_equal(any_style.Looked(base)(paintings / "square.png", size=SIZE), first)
    assert np.load(file).shape == first.shape
    # Other weights see it in another way.
    other = base._replace(variables=jax.tree.map(lambda x: 1.1 * x, base.variables))
    assert np.abs(any_style.Looked(other)(paintings / "square.png", size=SIZE) - first).max() > 0.01


def test_blends(base, looked, paintings):
    both = {name: looked(paintings / name, size=SIZE) for name in ("square.png", "wide.png")}
    mixed = 0.25 * both["square.png"] + 0.75 * both["wide.png"]
    expected = _expected(base, mixed, 0.7, _picture())
    square, wide = paintings / "square.png", paintings / "wide.png"
    for style in ({square: 1, wide: 3.0}, f"{square}:0.5,{wide}:1.5"):
        np.testing.assert_allclose(gqst.Stylizer(style, base=base, size=SIZE)(_picture()), expected, atol=2e-3)
    assert any_style._weights(f"{square},{wide}") == {str(square): 0.5, str(wide): 0.5}
    assert any_style._weights("demo:styles/no.jpg") == {"demo:styles/no.jpg": 1.0}
    assert any_style._weights("demo:styles/no.jpg:2,b.jpg:6") == {"demo:styles/no.jpg": 0.25, "b.jpg": 0.75}


def test_what_is_no_style(base, paintings, workdir, monkeypatch):
    square = paintings / "square.png"
    for style, said in (
        (paintings / "none.png", "none.png cannot be read: there is no such file"),
        (paintings / "odd.png", "the style picture .*odd.png cannot be read"),
        ({square: 0.0}, "weights of style pictures must be above 0"),
        (f"{square}:-1", "weights of style pictures must be above 0"),
        ({}, "weights of style pictures must be above 0"),
    ):
        with pytest.raises(types.InputError, match=said):
            gqst.Stylizer(style, base=base, size=SIZE)
    with pytest.raises(types.InputError, match=r"structure must lie between 0.6 and 0.9, got 0.5"):
        gqst.Stylizer(square, base=base, structure=0.5)
    with pytest.raises(types.InputError, match="this generator takes no style: train one with --config any_style"):
        gqst.Stylizer(square, base=any_style.of_run(workdir))
    monkeypatch.setattr(style_files, "BASE", paintings / "none.safetensors")
    with pytest.raises(types.InputError, match="no generator for any picture as a style comes with this copy"):
        gqst.Stylizer(square)


def test_a_generator_that_takes_styles_does_not_go_without(base, tmp_path):
    file = tmp_path / "base.safetensors"
    style_files.write(file, base.config, base.variables, {"step": 7}, dtype="float32")
    assert style_files.read(file).module == base.module
    with pytest.raises(types.InputError, match="takes a style picture: name one"):
        styles.load(file)


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("a.jpg", True),
        ("a.jpg:0.5,b.jpg:0.5", True),
        ("demo:styles/x.jpg", True),
        ("scream", False),
        ("screem", False),
        ("dir/mine.safetensors", False),
    ],
)
def test_pictures_are_told_from_styles_by_name(style, expected):
    assert any_style.is_picture(style) == expected


@pytest.mark.slow
def test_a_run_starts_with_its_own_style_folded_in(base, tmp_path, monkeypatch):
    monkeypatch.setattr(style_files, "BASE", tmp_path / "base.safetensors")
    style_files.write(style_files.BASE, base.config, base.variables, {"step": 7}, dtype="float32")
    changes = ["generator=one_style", *(f"generator.{key}={value}" for key, value in base.module.options.items())]
    cfg = conftest.small("style_image", "generator=one_style", "start_from=any_style", *changes)
    styles = np.random.default_rng(4).random((2, 32, 32, 3), np.float32)
    recipe = gqst.Recipe(cfg)
    state = gqst.create_state(recipe, jax.random.key(0), lambda: styles)
    variables = {"params": jax.device_get(state.gen.params["forward"])}
    # It paints like the generator that is told the mean of the styles, at the floor of the config's structure loss.
    told = np.asarray(jax.jit(lambda x: conditions.style_of(base.module, base.variables, x))(styles))
    fake = jax.jit(recipe.generator.apply)(variables, _picture()[None])[0]
    np.testing.assert_allclose(fake, _expected(base, told.mean(0), 0.6, _picture()), atol=1e-3)
    with pytest.raises(types.InputError, match="needs pictures of the style"):
        gqst.create_state(recipe, jax.random.key(0))
    with pytest.raises(types.InputError, match=r"--set generator\.filters=\d+"):
        gqst.create_state(gqst.Recipe(overrides.override(cfg, ["generator.filters=12"])), jax.random.key(0))


@pytest.mark.slow
def test_a_run_starts_with_the_generator_that_takes_styles(base, tmp_path, monkeypatch):
    monkeypatch.setattr(style_files, "BASE", tmp_path / "base.safetensors")
    style_files.write(style_files.BASE, base.config, base.variables, {"step": 7}, dtype="float32")
    # It may be asked for other structures.
    cfg = overrides.override(base.config, ["start_from=any_style", "generator.structures=(0.5, 0.6)"])
    state = gqst.create_state(gqst.Recipe(cfg), jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.gen.params["forward"]), base.variables["params"])
