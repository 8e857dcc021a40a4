"""Parts of the state, and the pool of past fakes against plain Python with the same draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gqst.training import state, summary
from gqst.training.recipe import Recipe
from tests import conftest

SIZE, BATCH, CALLS = 3, 4, 6


def _empty() -> state.Pool:
    return state.Pool(pictures=jnp.zeros((SIZE, 2, 2, 1)), count=jnp.zeros((), jnp.int32))


def _fakes(call: int) -> np.ndarray:
    """Pictures that tell their number."""
    numbers = np.arange(BATCH, dtype=np.float32) + 1 + call * BATCH
    return np.broadcast_to(numbers[:, None, None, None], (BATCH, 2, 2, 1)).copy()


def _keys(call: int) -> jax.Array:
    return jax.random.split(jax.random.fold_in(jax.random.key(5), call), BATCH)


def _simulated() -> list[tuple[list[float], list[float]]]:
    """What is shown, and the pool, after each call."""
    held, story = [], []
    for call in range(CALLS):
        shown = []
        for fake, key in zip(_fakes(call)[:, 0, 0, 0], _keys(call), strict=True):
            swap_key, slot_key = jax.random.split(key)
            if len(held) < SIZE:
                held.append(fake)
                shown.append(fake)
            elif jax.random.bernoulli(swap_key):
                slot = int(jax.random.randint(slot_key, (), 0, SIZE))
                shown.append(held[slot])
                held[slot] = fake
            else:
                shown.append(fake)
        story.append((shown, list(held)))
    return story


def _numbers(pictures) -> np.ndarray:
    pictures = np.asarray(pictures)
    assert (pictures == pictures[:, :1, :1]).all()
    return pictures[:, 0, 0, 0]


def test_it_is_what_plain_python_says():
    draw = jax.jit(state.draw)
    pool = _empty()
    for call, (shown, held) in enumerate(_simulated()):
        actual, pool = draw(pool, _fakes(call), _keys(call))
        np.testing.assert_array_equal(_numbers(actual), shown)
        np.testing.assert_array_equal(_numbers(pool.pictures), held)
        assert pool.count == SIZE
    old = sum(number <= 4 * call for call, (shown, _) in enumerate(_simulated()) for number in shown)
    assert 4 < old < 16  # about half of the 20 that came to a full pool


def test_it_fills_first():
    actual, pool = jax.jit(state.draw)(_empty(), _fakes(0)[:2], _keys(0)[:2])
    np.testing.assert_array_equal(_numbers(actual), [1, 2])
    np.testing.assert_array_equal(_numbers(pool.pictures), [1, 2, 0])
    assert pool.count == 2


@pytest.mark.parametrize("devices", [2, 4])
def test_pmap_walks_through_the_fakes_of_all_devices(devices):
    share = BATCH // devices
    draw = jax.pmap(
        lambda pool, fakes, keys: state.draw(pool, fakes, keys, axis_name="data"),
        axis_name="data",
        devices=jax.devices()[:devices],
    )
    pool = jax.tree.map(lambda x: jnp.stack([x] * devices), _empty())
    for call, (shown, held) in enumerate(_simulated()):
        fakes = _fakes(call).reshape(devices, share, 2, 2, 1)
        actual, pool = draw(pool, fakes, _keys(call).reshape(devices, share))
        np.testing.assert_array_equal(_numbers(np.concatenate(actual)), shown)
        for device in range(devices):
            np.testing.assert_array_equal(_numbers(pool.pictures[device]), held)


def test_one_head_serves_all_losses_of_a_term():
    cfg = conftest.small("cut", "losses.patch_nce.width=8", "losses.identity_nce.width=8")
    train_state, metrics = summary.trace(Recipe(cfg, paired=False))
    params = train_state.gen.params
    assert set(params) == {"forward", "heads"} and set(params["heads"]["forward"]) == {"patch_nce"}
    assert set(train_state.ema) == {"forward"}
    assert {"loss/patch_nce", "loss/identity_nce"} <= set(metrics)
