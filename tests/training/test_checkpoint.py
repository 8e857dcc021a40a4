"""Checkpoints: bit-equal, kept as asked, and read past damage."""

import gc
import json
import logging
import pathlib
import shutil
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gqst import storage, types
from gqst.training import checkpoint, state
from gqst.training.recipe import Recipe
from tests import conftest

# When one read of a damaged checkpoint fails, Orbax drops the others: their coroutines are never finished, and
# TensorStore answers to an event loop that is closed. Python tells of both, now and then.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def _tiny(step: int) -> state.TrainState:
    """A state whose numbers tell its step."""
    rng = np.random.default_rng(step)
    params = {"forward": {"kernel": jnp.asarray(rng.normal(size=(40, 50)), jnp.float32)}}
    tx = optax.adam(1e-3)
    return state.TrainState(
        step=jnp.asarray(step, jnp.int32),
        gen=state.Player(params=params, stats={}, opt_state=tx.init(params)),
        disc=state.Player(params={}, stats={}, opt_state=tx.init({})),
        ema=jax.tree.map(lambda x: x + 1.0, params),
        rate=jnp.asarray(0.5),
        multipliers={"structure": jnp.asarray(1.5)},
        pool={},
        key=jax.random.key(step),
    )


def _like(train_state: state.TrainState) -> state.TrainState:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), train_state)


def _equal(one, other) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _write(folder: pathlib.Path, *steps: int, best: int | None = None, **options) -> pathlib.Path:
    store = checkpoint.Checkpoints(folder / "checkpoints", **options)
    store.keep([best] if best else [])
    for step in steps:
        note = {"data": {"step": step}, "best": {"step": best} if best else None}
        store.save(_tiny(step), note)
    store.close()
    return folder / "checkpoints"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> pathlib.Path:
    """A run with checkpoints 10, 20 and 30; to be copied."""
    folder = tmp_path_factory.mktemp("run")
    _write(folder, 10, 20, 30, best=20)
    return folder


@pytest.fixture
def run(written, tmp_path) -> Iterator[pathlib.Path]:
    yield pathlib.Path(shutil.copytree(written, tmp_path / "run"))
    gc.collect()  # what Orbax dropped is told of here, not in the next test


def _restore(run: pathlib.Path):
    store = checkpoint.Checkpoints(run / "checkpoints")
    try:
        restored = store.restore(_like(_tiny(0)))
        return restored, store.steps
    finally:
        store.close()


def test_every_leaf_comes_back_bit_for_bit(tmp_path):
    tiny = ("generator.blocks=0", "generator.scales=1", "discriminator.layers=1")
    cfg = conftest.small("cyclegan", *tiny, "pool_size=3", "discriminator.spectral_norm=True")
    recipe = Recipe(cfg, paired=False)
    create = jax.jit(lambda key: state.create(recipe, key))
    train_state = create(jax.random.key(0))
    pool = {d: p.replace(pictures=p.pictures + 0.3, count=p.count + 2) for d, p in train_state.pool.items()}
    train_state = train_state.replace(
        pool=pool, step=train_state.step + 7, ema=jax.tree.map(lambda x: jnp.asarray(np.array(x) + 1), train_state.ema)
    )
    store = checkpoint.Checkpoints(tmp_path / "checkpoints")
    note = {"data": {"step": 7, "pictures": [5, 4]}, "best": None}
    store.save(train_state, note)
    store.close()
    store = checkpoint.Checkpoints(tmp_path / "checkpoints")
    restored, said = store.restore(_like(train_state))
    store.close()
    _equal(restored, train_state)
    assert said == note
    assert len(jax.tree.leaves(train_state.disc.stats)) > 0 and set(train_state.pool) == {"forward", "backward"}
    # The key draws as before.
    assert jax.random.uniform(restored.key) == jax.random.uniform(train_state.key)


def test_the_newest_is_restored(run):
    (restored, note), steps = _restore(run)
    _equal(restored, _tiny(30))
    assert note == {"data": {"step": 30}, "best": {"step": 20}} and steps == [10, 20, 30]
    assert not (run / "corrupt").exists()


def test_an_empty_folder_has_none(tmp_path):
    assert _restore(tmp_path) == (None, [])


def test_a_state_may_be_given_away_once_it_is_being_saved(tmp_path):
    store = checkpoint.Checkpoints(tmp_path / "checkpoints")
    train_state = _tiny(5)
    give_away = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf * 0, x), donate_argnums=0)
    store.save(train_state, {"best": None})
    give_away(train_state.gen.params)
    give_away(train_state.ema)
    store.close()
    (restored, _), _ = _restore(tmp_path)
    _equal(restored, _tiny(5))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"keep": 2}, [40, 50]),
        ({"keep": 1, "best": 20}, [20, 50]),
        ({"keep": 1, "keep_every": 20}, [20, 40, 50]),
        ({"keep": 2, "keep_every": 30, "best": 10}, [10, 30, 40, 50]),
    ],
)
def test_retention(tmp_path, options, kept):
    folder = _write(tmp_path, 10, 20, 30, 40, 50, **options)
    assert sorted(int(p.name) for p in folder.iterdir()) == kept


def test_a_new_best_lets_go_of_the_old_one(tmp_path):
    store = checkpoint.Checkpoints(tmp_path / "checkpoints", keep=1)
    for step, best in ((10, 10), (20, 10), (30, 30), (40, 30)):
        store.keep([best] if best else [])
        store.save(_tiny(step), {"best": {"step": best}})
    store.wait()
    assert store.steps == [30, 40]
    store.close()


def test_steps_after_one_are_dropped_and_can_be_saved_anew(tmp_path):
    _write(tmp_path, 10, 20, 30, keep=3)
    store = checkpoint.Checkpoints(tmp_path / "checkpoints", keep=3)
    train_state, note = store.restore(_like(_tiny(0)), at_most=29)
    assert note["data"] == {"step": 20} and store.restore(_like(_tiny(0)), at_most=9) is None
    _equal(train_state, _tiny(20))
    store.drop_after(10)
    assert store.steps == [10]
    store.save(_tiny(20).replace(rate=jnp.asarray(0.25)), note)
    store.wait()
    assert store.steps == [10, 20] and float(store.restore(_like(_tiny(0)))[0].rate) == 0.25
    store.close()


def test_a_step_is_saved_once(run):
    store = checkpoint.Checkpoints(run / "checkpoints")
    store.save(_tiny(1).replace(step=jnp.asarray(30, jnp.int32)), {"best": None})
    store.close()
    (restored, _), steps = _restore(run)
    _equal(restored, _tiny(30))
    assert steps == [10, 20, 30]


def _data(folder: pathlib.Path) -> pathlib.Path:
    """The file with the numbers."""
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def _truncate(folder):
    path = _data(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _zero(folder):
    path = _data(folder)
    path.write_bytes(bytes(path.stat().st_size))


def _delete(folder):
    _data(folder).unlink()


def _flip(folder):
    path = _data(folder)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _flip_ema(folder):
    _flip(folder / "ema")


def _metadata(folder):
    (folder / "_CHECKPOINT_METADATA").write_text("{")


def _no_metadata(folder):
    (folder / "_CHECKPOINT_METADATA").unlink()


def _no_sums(folder):
    path = folder / "_CHECKPOINT_METADATA"
    text = json.loads(path.read_text())
    text["custom_metadata"] = {}
    path.write_text(json.dumps(text))


def _empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def _no_state(folder):
    shutil.rmtree(folder / "state")


DAMAGES = [_truncate, _zero, _delete, _flip, _flip_ema, _metadata, _no_metadata, _no_sums, _empty, _no_state]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__.strip("_"))
def test_a_damaged_checkpoint_gives_way_to_the_one_before(run, damage, caplog):
    damage(run / "checkpoints" / "30")
    with caplog.at_level(logging.WARNING, "gqst"):
        (restored, note), steps = _restore(run)
    _equal(restored, _tiny(20))
    assert note["data"] == {"step": 20} and steps == [10, 20]
    said = [r.getMessage() for r in caplog.records if r.name == "gqst"]
    assert len(said) == 1 and "\n" not in said[0]
    assert said[0].startswith("checkpoint 30 cannot be read (") and "checkpoint 20" in said[0]
    assert (run / "corrupt" / "30").is_dir() and str(run / "corrupt" / "30") in said[0]
    # The run writes step 30 anew.
    store = checkpoint.Checkpoints(run / "checkpoints")
    store.save(_tiny(30), {"data": {}, "best": None})
    store.close()
    _equal(_restore(run)[0][0], _tiny(30))


def test_in_a_bucket_a_damaged_checkpoint_gives_way_too(run, buckets, tmp_path, caplog):
    where = storage.path(f"gs://runs/{tmp_path.name}")
    bucket = storage.filesystem(where)
    _write(where, 10, 20, 30, best=20)
    assert sorted(checkpoint._steps(where / "checkpoints")) == [10, 20, 30]
    # Not committed: it was being written when the run was killed.
    bucket.rm_file(f"{where}/checkpoints/30/commit_success.txt")
    assert sorted(checkpoint._steps(where / "checkpoints")) == [10, 20]
    for name in storage.find(where / "checkpoints" / "20" / "ema"):
        if "/d/" in name:
            bucket.pipe_file(f"{where}/checkpoints/20/ema/{name}", b"")
    (restored, _), steps = _restore(where)
    _equal(restored, _tiny(10))
    assert steps == [10] and f"moved to {where}/corrupt/20" in caplog.text
    assert "commit_success.txt" in storage.find(where / "corrupt" / "20")
    assert _load(where, "last")[1] == 10


def test_two_damaged_ones_and_an_earlier_one_aside(run, caplog):
    (run / "corrupt" / "30").mkdir(parents=True)
    _flip(run / "checkpoints" / "30")
    _truncate(run / "checkpoints" / "20")
    (restored, _), steps = _restore(run)
    _equal(restored, _tiny(10))
    assert steps == [10]
    assert sorted(p.name for p in (run / "corrupt").iterdir()) == ["20", "30", "30_"]


def test_no_checkpoint_that_can_be_read(run):
    for step in (10, 20, 30):
        _flip(run / "checkpoints" / str(step))
    with pytest.raises(types.InputError) as caught:
        _restore(run)
    assert "none of the checkpoints [30, 20, 10]" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (run / "corrupt").exists()
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"10", "20", "30"}


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(types.InputError, match=r"cannot write to .*file/checkpoints: Not a directory"):
        checkpoint.Checkpoints(tmp_path / "file" / "checkpoints")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("cause", "kind", "advice"),
    [
        (OSError(28, "No space left on device"), types.InputError, "free space"),
        (ValueError("a bad day\nand more"), types.InputError, "choose another --workdir"),
    ],
)
def test_a_save_that_fails_leaves_the_earlier_ones(run, monkeypatch, late, cause, kind, advice):
    store = checkpoint.Checkpoints(run / "checkpoints")

    class Response:
        def result(self):
            raise cause

    def save(*args, **options):
        return Response() if late else Response().result()

    monkeypatch.setattr(store._manager, "save_checkpointables_async", save)
    with pytest.raises(kind) as caught:
        store.save(_tiny(40), {"best": None})
        store.wait()
    message = str(caught.value)
    assert message.startswith(f"checkpoint 40 could not be written to {run / 'checkpoints'}: ")
    assert str(cause).splitlines()[0] in message and "earlier checkpoints are untouched" in message
    assert advice in message and "\n" not in message
    monkeypatch.undo()
    store.close()
    _equal(_restore(run)[0][0], _tiny(30))


def _load(run: pathlib.Path, which, direction="forward", default=("forward",)):
    abstract = _like(_tiny(0)).ema["forward"]
    return checkpoint.load_ema(run / "checkpoints", which, direction, abstract, default_directions=lambda: default)


@pytest.mark.parametrize(("which", "step"), [("best", 20), ("last", 30), (10, 10)])
def test_the_running_average_alone(run, which, step):
    variables, at = _load(run, which)
    assert at == step
    _equal(variables, _tiny(step).ema["forward"])


def test_a_checkpoint_notes_its_directions(tmp_path):
    with pytest.raises(types.InputError, match=r"no direction 'backward'; it has: forward"):
        _load(_write(tmp_path / "old", 10).parent, 10, "backward")
    store = checkpoint.Checkpoints(tmp_path / "new" / "checkpoints")
    state = _tiny(10)
    both = {"forward": state.ema["forward"], "backward": _tiny(11).ema["forward"]}
    store.save(state.replace(ema=both), {"best": None, "directions": list(both)})
    store.close()
    # The note wins over what the config would say.
    _equal(_load(tmp_path / "new", 10, "backward", default=("forward",))[0], both["backward"])


def test_a_damaged_best_gives_way_to_the_newest(run, caplog):
    _flip(run / "checkpoints" / "20" / "ema")
    assert _load(run, "best")[1] == 30
    assert "checkpoint 20 cannot be read" in caplog.text
    # A damaged state does not stand in the way of the average.
    _flip(run / "checkpoints" / "30" / "state")
    assert _load(run, "last")[1] == 30


def test_averages_that_there_are_not(run, tmp_path):
    with pytest.raises(types.InputError, match=r"no checkpoint 25 in .*there are: 10, 20, 30"):
        _load(run, 25)
    with pytest.raises(types.InputError, match="no checkpoints in"):
        _load(tmp_path, "last")
    for step in (10, 20, 30):
        _flip(run / "checkpoints" / str(step) / "ema")
    with pytest.raises(types.InputError, match=r"no checkpoint in .* can be read"):
        _load(run, "last")
