"""Loaders: substitutes for unreadable pictures, pairs, and the cache."""

import threading

import numpy as np
import pytest
from PIL import Image

from gqst import config, types
from gqst.data import loading
from gqst.pictures import decode

PREPROCESS = config.Preprocess()


class _Greys:
    """Flat pictures whose value is their index, some of them unreadable."""

    origin = "greys"

    def __init__(self, count: int, *broken: int):
        self._count, self._broken, self.loads = count, broken, []

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        return f"{index}.png"

    def load(self, index: int, *, shorter: int | None = None) -> Image.Image:
        self.loads.append(index)
        if index in self._broken:
            raise decode.UnreadableError(self.name(index), "it is broken")
        return Image.new("RGB", (20 + index, 20), (index,) * 3)


def _loader(*domains: _Greys, **options) -> loading.Loader:
    return loading.Loader(domains, PREPROCESS, 16, **options)


@pytest.mark.parametrize(("index", "substitute"), [(2, 2), (1, 2), (5, 0)])
def test_the_next_readable_picture_takes_the_place_of_a_broken_one(index, substitute):
    (pixels,) = _loader(_Greys(6, 1, 5)).nearest(index)
    assert np.unique(pixels).tolist() == [substitute]


def test_a_pair_is_skipped_if_either_is_broken_and_has_one_size():
    loader = _loader(_Greys(4, 1), _Greys(4, 2))
    first, second = loader.nearest(1)
    assert np.unique(first).tolist() == np.unique(second).tolist() == [3]
    assert first.shape == second.shape


def test_evenly_spaced_pictures_and_substitutes_for_the_broken():
    assert list(_loader(_Greys(6)).spread(3)) == ["1.png", "3.png", "5.png"]
    assert list(_loader(_Greys(6, 3)).spread(3)) == ["0.png", "1.png", "5.png"]
    assert len(_loader(_Greys(6, 3)).spread(100)) == 5


def test_nothing_readable_is_an_error():
    loader = _loader(_Greys(2, 0, 1))
    for load in (lambda: loader.nearest(0), lambda: loader.spread(1)):
        with pytest.raises(types.InputError, match="none of the 2 pictures in greys can be read"):
            load()


def test_domains_share_a_cache_and_keep_apart():
    cache = loading.Cache(2**20)
    a, b = _Greys(2), _Greys(2)
    loaders = [_loader(x, cache=cache) for x in (a, b)]
    for _ in range(3):
        for loader in loaders:
            loader.load(1)
    assert a.loads == b.loads == [1] and len(cache) == 2


def test_the_cache_keeps_to_its_budget():
    cache = loading.Cache(100)
    small = (np.zeros((4, 4, 3), np.uint8),)
    prepared_by = []

    def prepare():
        prepared_by.append(threading.get_ident())
        return small

    for key in ("a", "b", "a", "b", "c", "c"):
        assert cache.get(key, prepare) is small
    assert len(cache) == 2 and len(prepared_by) == 4
