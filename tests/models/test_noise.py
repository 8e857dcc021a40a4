"""Noise of a generator: its statistics, what it depends on, and that a config's generator has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gqst import overrides
from gqst.models import base as models
from gqst.models import frames, noise

SHAPE = (2, 64, 96)


def _field(seeds=(0, 1), number=5, shape=SHAPE):
    return np.asarray(noise._field(shape, jnp.array(seeds, jnp.uint32), number))


def test_uniform_with_variance_1_and_no_neighbour_like_another():
    field = _field()
    assert field.shape == SHAPE
    n = field[0].size
    # Three standard deviations of each estimate; the fourth moment of this uniform distribution is 9 / 5.
    assert abs(field[0].mean()) < 3 / n**0.5
    assert abs(field[0].var() - 1) < 3 * (0.8 / n) ** 0.5
    assert np.abs(field).max() <= 3**0.5
    neighbours = [np.roll(field[0], 1, axis) for axis in (0, 1)]
    for one, other in (
        *((field[0], other) for other in (*neighbours, field[1], _field(number=6)[0])),
        (field[0, :32, 32:64], field[0, 32:64, :32].T),
    ):
        assert abs((one * other).mean()) < 4 / one.size**0.5


def test_the_first_place_by_threefry_itself():
    """The last pixel has place (1, 1); its bits are those of Threefry-2x32 with 20 rounds (Salmon et al. 2011)."""

    def threefry(key, count):
        mask = 2**32 - 1
        keys = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
        x, y = ((c + k) & mask for c, k in zip(count, key, strict=True))
        for i in range(20):
            turn = ((13, 15, 26, 6), (17, 29, 16, 24))[i // 4 % 2][i % 4]
            x = (x + y) & mask
            y = ((y << turn | y >> (32 - turn)) & mask) ^ x
            if i % 4 == 3:
                step = i // 4 + 1
                x, y = (x + keys[step % 3]) & mask, (y + keys[(step + 1) % 3] + step) & mask
        return x

    expected = 12**0.5 * (threefry((7, 5), (1, 1)) / 2**32 - 0.5)
    np.testing.assert_allclose(_field((7, 7))[0, -1, -1], expected, rtol=1e-6)


def test_a_part_of_a_picture_has_the_noise_of_the_whole():
    whole = _field()
    # The array begins at row 16 and column 40 of the picture, which ends within it.
    layout = frames.Layout(size=np.array([[48, 56]] * 2, np.int32), core=np.array([[0, 48, 0, 56]] * 2, np.int32))
    with frames.framed(frames.Frame((64, 64), layout)):
        part = _field(shape=(2, 64, 64))
    np.testing.assert_array_equal(part[:, :48, :56], whole[:, 16:, 40:])


@pytest.fixture(scope="module")
def network():
    cfg = overrides.load("style_image", "generator.filters=4", "generator.blocks=1", "generator.noise=True")
    module = models.build_generator(cfg)
    return module, jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_a_generator_gives_variants_by_seed(network):
    module, variables = network
    assert set(variables) == {"params"}
    assert sum(name.startswith("Noise") for name in variables["params"]) == 6
    pictures = jnp.broadcast_to(jnp.linspace(0, 1, 32)[:, None, None], (2, 32, 32, 3))
    apply = jax.jit(module.apply)
    plain, given, zero = (
        np.asarray(apply(v, pictures))
        for v in (
            variables,
            noise.seeded(variables, jnp.array([0, 9], jnp.uint32)),
            noise.seeded(variables, jnp.zeros(1, jnp.uint32)),
        )
    )
    for same in (zero[0], plain[1], given[0]):
        np.testing.assert_allclose(plain[0], same, atol=1e-5)
    assert np.abs(given[1] - plain[1]).max() > 1e-3


def test_without_noise_no_parameter():
    module = models.build_generator(overrides.load("style_image", "generator.filters=4", "generator.blocks=1"))
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert not [name for name in shapes["params"] if name.startswith("Noise")]
