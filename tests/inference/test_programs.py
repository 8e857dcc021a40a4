"""Pictures in arrays of another size and in tiles: the same result as whole."""

import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from gqst import overrides
from gqst.inference import programs, streams, tiles
from gqst.models import base as models
from gqst.models import conditions
from gqst.ops import color

# Every generator, with every norm whose moments matter; small, and with a halo that leaves room for tiles.
GENERATORS = {
    "resnet none": ("cyclegan", "generator.filters=4", "generator.blocks=1", "generator.norm=none"),
    "resnet instance": ("cyclegan", "generator.filters=4", "generator.blocks=2"),
    "resnet noise": ("cyclegan", "generator.filters=4", "generator.blocks=1", "generator.noise=True"),
    "resnet group": ("cyclegan", "generator.filters=4", "generator.blocks=1", "generator.norm=group"),
    "resnet batch": ("cyclegan", "generator.filters=4", "generator.blocks=1", "generator.norm=batch"),
    "unet instance": ("pix2pix", "generator.filters=4", "generator.depth=3"),
    "any style": ("any_style", "generator.filters=4", "generator.blocks=1"),
    "unet none": ("pix2pix", "generator.filters=4", "generator.depth=3", "generator.norm=none"),
}


def _apply(module, variables, pictures, strength):
    return color.blend(pictures, module.apply(variables, pictures), strength[:, None, None, None])


@functools.cache
def _network(name):
    """A generator whose output is far from its input, and the function that applies it."""
    module = models.build_generator(overrides.load(*GENERATORS[name]))
    first = jax.jit(module.init)(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))
    noise = np.random.default_rng(1)
    # Normalised again and again, differences of rounding grow with the contrast.
    size = 0.02 if name == "any style" else 0.1
    lively = jax.tree.map(lambda x: x + size * noise.standard_normal(x.shape).astype(np.float32), first["params"])
    variables = {**first, "params": lively}
    if name == "any style":
        variables["params"]["encoder"] = first["params"]["encoder"]
        style = jax.jit(functools.partial(conditions.style_of, module))(variables, _picture(64, 64, 9)[None] ** 2)
        variables = conditions.conditioned(variables, conditions.Conditions(style, np.float32([0.4])))
    return module, variables


def _programs(name, **options):
    module, variables = _network(name)
    return programs.Programs(functools.partial(_apply, module), module, variables, jax.devices()[0], **options)


def _picture(height, width, seed=0):
    """Large shapes and noise, so that statistics differ from place to place."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.random((-(-height // 16), -(-width // 16), 3)), np.ones((16, 16, 1)))[:height, :width]
    return (0.8 * coarse + 0.2 * rng.random((height, width, 3))).astype(np.float32)


def _whole(name, picture, strength=1.0):
    module, variables = _network(name)
    apply = jax.jit(functools.partial(_apply, module))
    return np.asarray(apply(variables, picture[None], np.full(1, strength, np.float32)))[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
def test_pictures_in_larger_arrays_are_as_whole(name):
    some = _programs(name)
    some.canvases = [(96, 88)] * programs.MOST_PROGRAMS
    pictures = [_picture(61, 47), _picture(96, 88, 1), _picture(33, 70, 2)]
    for picture, fake in zip(pictures, some(pictures, 1.0), strict=True):
        whole = _whole(name, picture)
        assert whole.std() > 0.02
        np.testing.assert_allclose(fake, whole, atol=0.1 / 255)
    assert some.compiled == 1


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("resnet instance", "unet none") else pytest.mark.slow)
        for name in GENERATORS
    ],
)
def test_tiles_are_as_whole(name):
    some = _programs(name)
    some.canvases = [(80, 88)] * programs.MOST_PROGRAMS
    picture = _picture(131, 150)
    np.testing.assert_allclose(some([picture], 0.7)[0], _whole(name, picture, 0.7), atol=0.1 / 255)


def test_activations_in_temporary_files_give_the_same():
    # Every second point is cut, and nothing fits into the memory.
    some = _programs("resnet instance")
    some.canvases = [(80, 88)] * programs.MOST_PROGRAMS
    some._memory = 1
    picture = _picture(131, 150)
    np.testing.assert_allclose(some([picture], 1.0)[0], _whole("resnet instance", picture), atol=0.1 / 255)


@pytest.mark.parametrize("name", ["resnet none", "unet none"])
def test_an_output_looks_as_far_as_its_reach(name):
    """The gradient of one output reaches no pixel beyond the halo, and some pixel near it."""
    some = _programs(name)
    module, variables = _network(name)
    reach = int(some.demands["reach"])
    size, place = 2 * tiles.up(reach, 8) + 16, tiles.up(reach, 8) + 8
    picture = _picture(size, size)[None]
    gradient = jax.jit(jax.grad(lambda x: module.apply(variables, x)[0, place, place].sum()))(picture)
    rows = np.flatnonzero(np.abs(gradient).sum((0, 2, 3)))
    distance = max(place - rows[0], rows[-1] - place)
    # A position within its multiple can look farther than the first of it.
    assert reach / 2 <= distance <= reach + module.multiple - 1


def test_pictures_of_8_and_16_bits_keep_their_type():
    some = _programs("resnet none")
    unit = _picture(24, 32)
    for kind in (np.uint8, np.uint16):
        white = np.iinfo(kind).max
        pixels = np.round(unit * white).astype(kind)
        [fake] = some([pixels], 1.0)
        assert fake.dtype == kind
        np.testing.assert_allclose(
            fake / white, _whole("resnet none", (pixels / white).astype(np.float32)), atol=1 / 255
        )


def test_memory_limits_the_arrays_not_the_picture():
    some = _programs("resnet none", memory=2_000_000)
    some([_picture(200, 220)], 1.0)
    [canvas] = some.canvases
    assert canvas[0] * canvas[1] * some.demands["bytes"] <= 2_000_000 and canvas != (200, 220)
    little = _programs("resnet none", memory=100_000)
    little.announce([(200, 220), (12, 16)])  # the first fails when its turn comes
    assert little.canvases == [(12, 16)]
    with pytest.raises(MemoryError, match="do not fit into the memory allowed"):
        little([_picture(200, 220)], 1.0)


def test_slivers_have_a_program_of_their_own():
    some = _programs("resnet none")
    picture = _picture(5, 40)
    np.testing.assert_allclose(some([picture], 1.0)[0], _whole("resnet none", picture), atol=1e-5)
    with pytest.raises(ValueError, match="the network needs pictures of 4 px a side, got 3x40"):
        some([_picture(3, 40)], 1.0)


def test_generators_that_know_no_tiles_run_whole(monkeypatch):
    class Darker(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x * 0.5

    some = programs.Programs(functools.partial(_apply, Darker()), Darker(), {}, jax.devices()[0])
    assert some.grid is None and some.per_call((40, 40)) == 1
    picture = _picture(21, 17)
    np.testing.assert_allclose(some([picture], 1.0)[0], picture / 2)
    monkeypatch.setattr(programs, "_free_memory", lambda device: 10_000)
    little = programs.Programs(functools.partial(_apply, Darker()), Darker(), {}, jax.devices()[0])
    with pytest.raises(MemoryError, match=r"it takes about .* GiB, and .* GiB are allowed"):
        little([picture[:20]], 1.0)


def test_a_result_that_is_not_finite_is_an_error():
    module, variables = _network("resnet none")
    broken = jax.tree.map(lambda x: x * np.nan, variables)
    some = programs.Programs(functools.partial(_apply, module), module, broken, jax.devices()[0])
    with pytest.raises(FloatingPointError, match="the generator's output is not finite"):
        some([_picture(24, 24)], 1.0)


def test_moments_of_parts_are_those_of_all():
    values = np.random.default_rng(0).normal(3.0, 2.0, (1000, 5))
    total = None
    for part in np.split(values, [10, 400, 401]):
        moments = streams.frames.Moments(np.array([len(part)]), part.mean(0), part.var(0))
        total = streams.merged(total, moments)
    np.testing.assert_allclose(total.mean, values.mean(0))
    np.testing.assert_allclose(total.variance, values.var(0))


def test_a_batch_that_nobody_announced_is_one_call_without_filling():
    some = _programs("resnet none")
    shapes = []
    run = some._run
    some._run = lambda key, *rest: shapes.append(key) or run(key, *rest)
    some([_picture(24, 32, seed) for seed in range(4)], 1.0)
    some([_picture(24, 32, seed) for seed in range(7)], 1.0)
    assert shapes == [((24, 32), 4)] * 3 and some.compiled == 1
