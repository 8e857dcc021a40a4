"""Batches: order, resuming, sharding, pairs, and the pictures of the rounds."""

import dataclasses
import itertools
import json
import logging
import threading

import numpy as np
import pytest

from gqst import config, types
from gqst.data import loading, pipeline, sources, transforms

CFG = config.Config(image_size=16, seed=7)


@pytest.fixture
def dataset(unpaired):
    """Six source and four target pictures."""
    return sources.build(config.choice("folders", root=str(unpaired)))


@pytest.fixture
def paired(tmp_path, pictures, fill):
    """Six pairs; the target is the source, twice as large."""
    larger = [p.resize((2 * p.width, 2 * p.height)) for p in pictures]
    source = fill(tmp_path / "source", pictures)
    target = fill(tmp_path / "target", larger)
    return sources.build(config.choice("matched", source=str(source), target=str(target)))


def _take(iterator, count):
    try:
        return list(itertools.islice(iterator, count))
    finally:
        iterator.close()


def _batches(dataset, count, cfg=CFG, **options):
    return _take(pipeline.make_iterator(dataset, cfg, **{"batch_size": 2, **options}), count)


def _equal(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys() == {"source", "target"}
        assert all(np.array_equal(a[key], b[key]) for key in a)


def _seen(dataset, count, monkeypatch, role="source", **options):
    """Indices in the order in which a domain was asked for them."""
    asked = []
    original = loading.Loader.nearest

    def nearest(loader, index):
        if loader.domains[0] is getattr(dataset.train, role):
            asked.append(index)
        return original(loader, index)

    monkeypatch.setattr(loading.Loader, "nearest", nearest)
    _batches(dataset, count, threads=0, **options)
    monkeypatch.undo()
    return asked


def test_a_batch(dataset):
    (batch,) = _batches(dataset, 1, batch_size=3)
    for leaf in batch.values():
        assert leaf.shape == (3, 16, 16, 3) and leaf.dtype == np.float32
        assert 0.0 <= leaf.min() < leaf.max() <= 1.0


def test_every_epoch_has_every_picture_once_and_an_order_of_its_own(dataset, monkeypatch):
    asked = _seen(dataset, 15, monkeypatch)
    epochs = [tuple(asked[start : start + 6]) for start in range(0, 30, 6)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len(set(epochs)) > 3
    targets = _seen(dataset, 14, monkeypatch, role="target")
    assert all(sorted(targets[start : start + 4]) == [0, 1, 2, 3] for start in range(0, 28, 4))


def test_domains_are_not_shuffled_alike(unpaired, monkeypatch):
    same = {"source": str(unpaired / "trainA"), "target": str(unpaired / "trainA")}
    dataset = sources.build(config.choice("folders", **same))
    source = _seen(dataset, 15, monkeypatch)
    assert source != _seen(dataset, 15, monkeypatch, role="target")


def test_every_picture_is_cropped_anew(dataset):
    cfg = config.Config(image_size=16)
    stacked = np.concatenate([b["target"] for b in _batches(dataset, 20, cfg)])
    assert len({crop.tobytes() for crop in stacked}) > 30


def test_the_seed_alone_decides(dataset):
    first = _batches(dataset, 6)
    _equal(first, _batches(dataset, 6))
    _equal(first, _batches(dataset, 6, threads=0))
    _equal(first, _batches(dataset, 6, threads=4))
    other = _batches(dataset, 6, config.Config(image_size=16, seed=8))
    assert not np.array_equal(first[0]["source"], other[0]["source"])


def test_the_largest_seed(dataset):
    _batches(dataset, 1, config.Config(image_size=16, seed=2**64 + 1))


@pytest.mark.parametrize("random_scale", [(1.0, 1.0), (0.7, 1.4)])
def test_the_cache_changes_nothing(dataset, random_scale):
    cfg = config.Config(image_size=16, preprocess=config.Preprocess(random_scale=random_scale))
    cached = _batches(dataset, 12, cfg)
    _equal(cached, _batches(dataset, 12, cfg, cache_bytes=0))
    _equal(cached, _batches(dataset, 12, cfg, cache_bytes=2000))


@pytest.mark.parametrize("at", [1, 4, 7])
def test_resuming_goes_on_bit_for_bit(dataset, at):
    """Steps of 2 in epochs of 6 and 4 pictures: each place lies elsewhere in the epoch."""
    whole = _batches(dataset, 12)
    iterator = pipeline.make_iterator(dataset, CFG, batch_size=2)
    for _ in range(at):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    iterator.close()
    assert state == {"step": at, "pictures": [6, 4]}
    resumed = pipeline.make_iterator(dataset, CFG, batch_size=2)
    next(resumed)
    resumed.set_state(state)
    assert resumed.get_state() == state
    _equal(whole[at:], _take(resumed, 12 - at))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_each_batch_in_order(dataset, processes):
    whole = _batches(dataset, 5, batch_size=8)
    shares = [
        _batches(dataset, 5, batch_size=8 // processes, process_index=i, process_count=processes)
        for i in range(processes)
    ]
    joined = [
        {key: np.concatenate([share[step][key] for share in shares]) for key in ("source", "target")}
        for step in range(5)
    ]
    _equal(whole, joined)


def test_process_indices_are_checked(dataset):
    with pytest.raises(ValueError, match="process_index is 2 of 2"):
        pipeline.make_iterator(dataset, CFG, batch_size=1, process_index=2, process_count=2)


def test_stacked_batches_are_the_same_batches(dataset):
    single = _batches(dataset, 6)
    stacked = _batches(dataset, 2, stack=3)
    assert stacked[0]["source"].shape == (3, 2, 16, 16, 3)
    apart = [{key: leaf[i] for key, leaf in batch.items()} for batch in stacked for i in range(3)]
    _equal(single, apart)


def test_a_run_may_go_on_with_another_stack(dataset):
    iterator = pipeline.make_iterator(dataset, CFG, batch_size=2, stack=3)
    next(iterator)
    next(iterator)
    state = iterator.get_state()
    iterator.close()
    assert state["step"] == 6
    single = pipeline.make_iterator(dataset, CFG, batch_size=2)
    single.set_state(state)
    whole = _batches(dataset, 8)
    _equal(whole[6:7], _take(single, 1))
    double = pipeline.make_iterator(dataset, CFG, batch_size=2, stack=2)
    double.set_state(state)
    (stacked,) = _take(double, 1)
    _equal(whole[6:], [{key: leaf[i] for key, leaf in stacked.items()} for i in range(2)])
    with pytest.raises(types.InputError) as caught:
        pipeline.make_iterator(dataset, CFG, batch_size=2, stack=4).set_state(state)
    assert str(caught.value) == ("the run stands at step 6, which is not a multiple of steps_per_dispatch=4")


def test_resuming_on_other_pictures_warns(dataset, caplog):
    iterator = pipeline.make_iterator(dataset, CFG, batch_size=1)
    with caplog.at_level(logging.WARNING, "gqst"):
        iterator.set_state({"step": 1, "pictures": [5, 4]})
    iterator.close()
    assert "5 source and 4 target pictures, now 6 and 4" in caplog.text


@pytest.mark.parametrize("resize", ["resize_and_crop", "stretch_and_crop", "scale_width", "none"])
def test_pairs_stay_aligned_through_crop_and_flip(paired, resize):
    preprocess = config.Preprocess(resize=resize, random_scale=(0.8, 1.3))
    cfg = config.Config(image_size=16, preprocess=preprocess)
    for batch in _batches(paired, 10, cfg):
        for source, target in zip(batch["source"], batch["target"], strict=True):
            aligned = np.abs(source - target).mean()
            assert aligned < 0.04
            assert aligned < 0.5 * np.abs(source[:, ::-1] - target).mean()


def test_pairs_are_skipped_together(paired, caplog):
    target = paired.train.target.pictures
    target.paths[2].write_bytes(b"no picture")
    for batch in _batches(paired, 9):
        assert np.abs(batch["source"] - batch["target"]).mean() < 0.04
    assert len(paired.unreadable) == 1 and caplog.text.count("skipping") == 1
    held, names = pipeline.held_out(paired.train, CFG, 6)
    assert names["source"] == names["target"] == [f"{i}.png" for i in (0, 1, 3, 4, 5)]
    assert np.abs(held["source"] - held["target"]).mean() < 0.04


def test_unreadable_pictures_give_way_to_the_next(unpaired, caplog):
    for name in ("1.png", "5.png"):
        (unpaired / "trainA" / name).write_bytes(b"no picture")
    runs = []
    for threads in (0, 4):
        dataset = sources.build(config.choice("folders", root=str(unpaired)))
        runs.append(_batches(dataset, 12, threads=threads))
        assert len(dataset.unreadable) == 2
    _equal(*runs)
    assert caplog.text.count("skipping a picture that cannot be read") == 4


def test_a_domain_with_nothing_left_stops_the_training(unpaired):
    for path in (unpaired / "trainB").iterdir():
        path.write_bytes(b"no picture")
    dataset = sources.build(config.choice("folders", root=str(unpaired)))
    for threads in (0, 2):
        with pytest.raises(types.InputError) as caught:
            _batches(dataset, 1, threads=threads)
        assert str(caught.value) == f"none of the 4 pictures in {unpaired / 'trainB'} can be read"
    with pytest.raises(types.InputError, match="none of the 4 pictures"):
        pipeline.held_out(dataset.train, CFG, 2)


def test_random_scale_is_checked(dataset):
    cfg = config.Config(image_size=16, preprocess=config.Preprocess(random_scale=(2.0, 1.0)))
    with pytest.raises(types.InputError, match="random_scale"):
        pipeline.make_iterator(dataset, cfg, batch_size=1)


def test_a_style_image_is_cropped_anew(unpaired):
    image = "demo:styles/the_harvesters_bruegel_1565.jpg"
    choice = config.choice("style_image", image=image, photos=str(unpaired / "trainA"))
    dataset = sources.build(choice, validation=1)
    crops = np.concatenate([b["target"] for b in _batches(dataset, 6)])
    assert len({crop.tobytes() for crop in crops}) == 12
    held, names = pipeline.held_out(dataset.validation, CFG, 4)
    assert held["source"].shape == held["target"].shape == (1, 16, 16, 3)
    assert names["target"] == ["the_harvesters_bruegel_1565.jpg"]


def test_held_out_pictures_are_fixed_centre_crops(dataset):
    held, names = pipeline.held_out(dataset.train, CFG, 3)
    assert names == {"source": ["1.png", "3.png", "5.png"], "target": ["0.png", "2.png", "3.png"]}
    assert held["source"].shape == (3, 16, 16, 3) and held["source"].dtype == np.float32
    picture = dataset.train.source.load(3)
    (base,) = transforms.prepare([picture], CFG.preprocess, 16)
    assert np.array_equal(held["source"][1], transforms.crop(base, 16))
    scaled = config.Config(image_size=16, preprocess=config.Preprocess(random_scale=(0.5, 2.0)))
    again, _ = pipeline.held_out(dataset.train, scaled, 3)
    assert all(np.array_equal(held[key], again[key]) for key in held)


def test_held_out_pictures_are_as_large_as_rounds_look_at_them(dataset):
    whole = config.Config(image_size=16, round_size=40, preprocess=config.Preprocess(load_size=40))
    held, names = pipeline.held_out(dataset.train, whole, 3)
    assert held["source"].shape == (3, 40, 40, 3)
    # The middle of it is the crop at the scale of training.
    crops, same = pipeline.held_out(dataset.train, dataclasses.replace(whole, round_size=None), 3)
    assert names == same
    np.testing.assert_array_equal(held["source"][:, 12:28, 12:28], crops["source"])
    assert next(pipeline.iterate_crops(dataset.train, whole, "target"))[1][0].shape == (40, 40, 3)


def test_held_out_takes_others_for_what_cannot_be_read(unpaired):
    (unpaired / "trainA" / "3.png").write_bytes(b"no picture")
    dataset = sources.build(config.choice("folders", root=str(unpaired)))
    held, names = pipeline.held_out(dataset.train, CFG, 3)
    assert names["source"] == ["0.png", "1.png", "5.png"]
    assert len({picture.tobytes() for picture in held["source"]}) == 3
    everything, _ = pipeline.held_out(dataset.train, CFG, 100)
    assert {key: len(leaf) for key, leaf in everything.items()} == {"source": 5, "target": 4}


def test_prefetching_decodes_each_picture_once(dataset, monkeypatch):
    loads = []
    original = sources.base.Watched.load

    def load(pictures, index, **options):
        loads.append((pictures.origin, index))
        return original(pictures, index, **options)

    monkeypatch.setattr(sources.base.Watched, "load", load)
    _batches(dataset, 30, threads=0)
    assert len(loads) == len(set(loads)) == 10


def test_closing_ends_the_threads(dataset):
    iterator = pipeline.make_iterator(dataset, CFG, batch_size=2, threads=2)
    next(iterator)
    started = [t for t in threading.enumerate() if t.name.startswith("grain-prefetch")]
    iterator.close()
    for thread in started:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in started)
