"""What processes exchange, with the others simulated; tests/test_several.py starts real ones."""

import jax
import numpy as np
import pytest

from gqst import types
from gqst.runtime import processes


@pytest.fixture
def among(monkeypatch):
    """Makes this process one of several, whose exchanges of bytes the test answers."""

    def simulate(index: int, count: int, exchange=None) -> None:
        monkeypatch.setattr(jax, "process_index", lambda: index)
        monkeypatch.setattr(jax, "process_count", lambda: count)
        monkeypatch.setattr(processes, "_all_gather_bytes", exchange)

    return simulate


def test_a_single_process_exchanges_nothing(monkeypatch):
    monkeypatch.setattr(processes, "_all_gather_bytes", None)
    assert processes.is_first() and not processes.is_distributed() and not processes.reached_stop(3)
    assert processes.broadcast("a") == "a" and processes.all_gather("a") == ["a"]
    assert list("abc")[processes.process_slice()] == list("abc") == processes.gather_in_order("abc")
    rows = np.ones((2, 3))
    assert processes.gather_rows_in_order(rows) is rows
    assert list(processes.lockstep(iter([[1], [2, 3]]))) == [[1], [2, 3]]
    assert processes.run_on_all(lambda: 5) == 5
    ran = []
    processes.run_on_first(lambda: ran.append(1))
    processes.check_same("the config", {"steps": 3})
    assert ran == [1]


def test_the_shares_of_three_are_woven_into_the_whole(among):
    whole = list("abcdefgh")
    shares = []
    for index in range(3):
        among(index, 3)
        shares.append(whole[processes.process_slice()])
    assert shares == [list("adg"), list("beh"), list("cf")]
    assert processes._interleave(shares) == whole


def test_rows_of_several_are_woven_and_a_share_may_be_empty(among):
    def exchange(data: bytes) -> list[bytes]:
        return [data, empty]

    among(1, 2, lambda data: [data])
    file = processes.io.BytesIO()
    np.save(file, np.zeros((0, 7)))
    empty = file.getvalue()
    among(0, 2, exchange)
    np.testing.assert_array_equal(processes.gather_rows_in_order(np.eye(2)), np.eye(2))


def test_bytes_of_any_length_are_gathered(monkeypatch):
    """JAX gathers arrays of one shape: sizes first, then what is padded to the largest."""
    data = [b"abc", b"", b"de"]

    def process_allgather(array):
        if array.ndim == 0:
            return np.asarray([len(d) for d in data])
        assert array.shape == (3,)
        return np.stack([np.frombuffer(d.ljust(3, b"\0"), np.uint8) for d in data])

    monkeypatch.setattr(processes.multihost_utils, "process_allgather", process_allgather)
    assert processes._all_gather_bytes(data[0]) == data


def test_what_the_first_says_counts(among):
    among(1, 2, lambda data: [b'{"a": 1}', data])
    assert processes.broadcast("mine") == {"a": 1}
    among(0, 2, lambda data: [data, b"null"])
    assert processes.broadcast("mine") == "mine"


def test_batches_go_on_until_no_process_has_any(among):
    others = iter([b"2", b"2", b"1", b"0"])
    among(0, 2, lambda data: [data, next(others)])
    assert list(processes.lockstep(iter([["a"], ["b"]]))) == [["a"], ["b"], []]


def test_an_error_of_one_is_raised_by_all(among):
    def fail():
        raise types.InputError("no folder")

    among(0, 2, lambda data: [data, b'"no folder"'])
    with pytest.raises(types.InputError, match="process 1: no folder"):
        processes.run_on_all(lambda: 5)
    among(0, 2, lambda data: [data, b'""'])
    with pytest.raises(types.InputError, match="process 0: no folder"):
        processes.run_on_all(fail)
    # The others wait for the first, and do not act.
    among(1, 2, lambda data: [b'""', data])
    processes.run_on_first(fail)


def test_the_key_that_differs_is_named(among):
    among(1, 2, lambda data: [b'{"seed": 1, "steps": 3}', data])
    with pytest.raises(types.InputError, match=r"the config of process 1 differs .* steps is 4, not 3"):
        processes.check_same("the config", {"seed": 1, "steps": 4})
