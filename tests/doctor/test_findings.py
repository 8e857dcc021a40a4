"""What is wrong, from numbers."""

import pathlib

import numpy as np
import pytest

from gqst.doctor import examine, findings
from gqst.pictures import folders

SIZE = 256
RNG = np.random.default_rng(0)


def _look(thumbnail=None, features=None, **changes) -> examine.Look:
    thumbnail = RNG.random((32, 32)).astype(np.float32) if thumbnail is None else thumbnail
    given = {"width": 300, "height": 300, "hash": thumbnail.tobytes().hex()[:64], "deviation": 0.2}
    features = RNG.normal(size=16).astype(np.float32) if features is None else features
    return examine.Look(**{**given, **changes}, thumbnail=thumbnail, features=features)


def _set(name: str, looks: dict[str, examine.Look], domain: str = "A", split: str = "train") -> examine.PictureSet:
    root = pathlib.Path("/data") / name
    files = folders.Files(root, [root / picture for picture in looks])
    return examine.PictureSet(name, split, domain, files, dict(enumerate(looks.values())))


def _found(*sets: examine.PictureSet) -> dict[str, list[tuple[str, ...]]]:
    kinds: dict[str, list[tuple[str, ...]]] = {}
    for each in findings.of_sets(sets, size=SIZE):
        kinds.setdefault(each.kind, []).append(each.pictures)
    return kinds


def test_sound_pictures_have_no_findings():
    assert _found(_set("a", {f"{i}.png": _look() for i in range(30)})) == {}


@pytest.mark.parametrize(
    "changes, kind",
    [
        ({"width": 255}, "small"),
        ({"height": 255}, "small"),
        ({"width": 901}, "elongated"),
        ({"height": 901}, "elongated"),
        ({"deviation": 0.0099}, "blank"),
    ],
)
def test_what_is_wrong_with_one(changes, kind):
    assert _found(_set("a", {"x.png": _look(), "y.png": _look(**changes)})) == {kind: [("a/y.png",)]}


@pytest.mark.parametrize("changes", [{"width": 256}, {"width": 900}, {"deviation": 0.01}])
def test_at_the_bound_nothing_is_wrong(changes):
    assert _found(_set("a", {"x.png": _look(**changes)})) == {}


def test_unreadable_pictures_are_named_with_the_reason():
    chosen = _set("a", {"x.png": _look(), "y.png": _look()})
    chosen.looks.pop(1)
    chosen.unreadable[1] = "it is truncated"
    assert findings.of_sets([chosen], size=SIZE) == [findings.Finding("unreadable", ("a/y.png",), "it is truncated")]


def test_copies_changed_copies_and_mirrored_ones():
    one, other = _look(), _look()
    noisy = np.clip(other.thumbnail + RNG.normal(size=(32, 32)) * 0.01, 0, 1).astype(np.float32)
    turned = np.ascontiguousarray(noisy[:, ::-1])
    looks = {
        "a.png": one,
        "b.png": one,
        "c.png": other,
        "d.png": _look(noisy),
        "e.png": _look(turned),
        "f.png": _look(),
    }
    assert _found(_set("s", looks)) == {
        "duplicate": [("s/a.png", "s/b.png")],
        "near-duplicate": [("s/c.png", "s/d.png", "s/e.png")],
    }


def test_scenes_of_the_same_layout_are_no_copies():
    sky = np.linspace(1, 0, 32, dtype=np.float32)[:, None] * np.ones((1, 32), np.float32)
    looks = {f"{i}.png": _look(sky + RNG.normal(size=(32, 32)).astype(np.float32) * 0.01) for i in range(3)}
    assert _found(_set("s", looks)) == {}


def test_blank_pictures_are_no_copies_of_each_other():
    flat = np.ones((32, 32), np.float32)
    assert list(_found(_set("s", {f"{i}.png": _look(flat, deviation=0.0) for i in range(3)}))) == ["blank"]


def test_copies_across_splits_leak_and_across_domains_teach_nothing():
    one, other = _look(), _look()
    sets = (
        _set("trainA", {"a.png": one, "b.png": other}),
        _set("testA", {"c.png": one}, split="test"),
        _set("trainB", {"d.png": other}, domain="B"),
    )
    assert _found(*sets) == {
        "leak": [("trainA/a.png", "testA/c.png")],
        "two domains": [("trainA/b.png", "trainB/d.png")],
    }


def _cloud(centre: float, count: int) -> list[np.ndarray]:
    return [(centre + RNG.normal(size=16)).astype(np.float32) for _ in range(count)]


def test_one_that_is_far_from_all_and_one_in_the_wrong_folder():
    photos = {f"{i}.png": _look(features=row) for i, row in enumerate(_cloud(0.0, 40))}
    paintings = {f"{i}.png": _look(features=row) for i, row in enumerate(_cloud(6.0, 40))}
    photos["page.png"] = _look(features=np.full(16, -40.0, np.float32))
    paintings["photo.png"] = _look(features=_cloud(0.0, 1)[0])
    found = _found(_set("trainA", photos), _set("trainB", paintings, domain="B"))
    assert found == {"outlier": [("trainA/page.png",)], "stray": [("trainB/photo.png",)]}


def test_copies_do_not_hide_an_outlier():
    looks = {f"{i}.png": _look(features=row) for i, row in enumerate(_cloud(0.0, 40))}
    far = _look(features=np.full(16, 40.0, np.float32))
    looks |= {f"far{i}.png": far for i in range(8)}
    assert _found(_set("s", looks))["outlier"] == [("s/far0.png",)]


def test_few_pictures_have_no_outliers():
    looks = {f"{i}.png": _look(features=row) for i, row in enumerate(_cloud(0.0, 18))}
    looks["far.png"] = _look(features=np.full(16, 40.0, np.float32))
    assert _found(_set("s", looks)) == {}


def test_influences_are_those_of_leaving_each_out():
    own, other = RNG.normal(size=(7, 5)), 0.5 + RNG.normal(size=(9, 5))

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / 5 + 1) ** 3

    def kid(a: np.ndarray, b: np.ndarray) -> float:
        within = [
            sum(kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j) / (len(x) * (len(x) - 1))
            for x in (a, b)
        ]
        return 1000 * (sum(within) - 2 * sum(kernel(x, y) for x in a for y in b) / (len(a) * len(b)))

    expected = [kid(own, other) - kid(np.delete(own, i, axis=0), other) for i in range(len(own))]
    np.testing.assert_allclose(findings.influences(own, other), expected, rtol=1e-9)
