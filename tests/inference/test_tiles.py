"""Positions of tiles, and few array sizes for many pictures."""

import numpy as np
import pytest

from gqst.inference import tiles

GRID = tiles.Grid(multiple=4, halo=10, most=10_000)


@pytest.mark.parametrize("length", [*range(4, 400, 4)])
@pytest.mark.parametrize("array", [28, 40, 100])
def test_cores_cover_a_side_once_with_a_halo_around_them(length, array):
    spans = GRID.spans(length, array)
    assert [span[1] for span in spans] == [0, *(span[2] for span in spans[:-1])] and spans[-1][2] == length
    for start, first, last in spans:
        assert first < last and start % 4 == first % 4 == last % 4 == 0
        # The picture's own ends need no halo.
        assert first - start >= GRID.halo or start == first == 0
        assert start + array - last >= GRID.halo or last == length


def test_arrays_without_room_between_halos_are_refused():
    assert GRID.spans(24, 24) == [(0, 0, 24)]
    with pytest.raises(ValueError, match="tiles of 24 px have no room between halos of 12 px"):
        GRID.spans(28, 24)
    with pytest.raises(MemoryError, match="tiles of the least size, 28 px a side, do not fit"):
        tiles.fitting((100, 100), tiles.Grid(multiple=4, halo=10, most=500))


def test_one_size_has_its_own_array():
    assert tiles.canvases({(40, 60): 5}, GRID, most=4) == [(40, 60)]
    assert tiles.canvases({}, GRID, most=4) == []


def test_sizes_are_united_where_a_program_costs_more_than_it_saves():
    grid = tiles.Grid(multiple=4, halo=10, most=10**7)
    two = {(400, 600): 1, (404, 600): 1}
    assert tiles.canvases(two, grid, most=4) == [(404, 600)]
    many = dict.fromkeys([(400, 600), (600, 400)], 100)
    assert sorted(tiles.canvases(many, grid, most=4)) == [(400, 600), (600, 400)]


def test_many_sizes_share_few_arrays_that_hold_them_all():
    rng = np.random.default_rng(0)
    grid = tiles.Grid(multiple=4, halo=10, most=10**6)
    sizes = {tuple(int(n) * 4 for n in rng.integers(10, 200, 2)): 10 for _ in range(200)}
    canvases = tiles.canvases(sizes, grid, most=4)
    assert len(canvases) == 4
    costs = [min(grid.cost(size, canvas) for canvas in canvases) for size in sizes]
    assert np.isfinite(costs).all()
    # One array for all would take four times the pixels of uniformly distributed pictures.
    assert sum(costs) < 2 * sum(h * w for h, w in sizes)


def test_pictures_beyond_the_limit_are_tiled_with_little_halo():
    grid = tiles.Grid(multiple=4, halo=60, most=2**21)
    canvas = tiles.fitting((3000, 4000), grid)
    assert canvas[0] * canvas[1] <= grid.most
    assert grid.cost((3000, 4000), canvas) < 1.2 * 3000 * 4000
