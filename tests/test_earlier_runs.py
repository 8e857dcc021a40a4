"""A run that an earlier version wrote goes on, is evaluated and stylises as it did there."""

import json
import math
import pathlib
import zipfile

import numpy as np
import pytest

import gqst
from gqst import overrides
from gqst.evaluation import comparisons, evaluator
from gqst.pictures import files
from tests import conftest

TIMES = {"eval/seconds", "eval/share"}

# Metrics that the version of the fixture did not have.
SINCE = ("style_gain", "repetition")


@pytest.fixture
def earlier(tmp_path) -> pathlib.Path:
    """A folder with `run` and `expected`, as tests/fixtures/README.md describes them."""
    with zipfile.ZipFile(conftest.ROOT / "tests/fixtures/run_of_a302aa7.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path


def _lines(path: pathlib.Path) -> list[dict]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


@pytest.mark.slow
def test_it_goes_on(earlier):
    text = (earlier / "run/config.json").read_text(encoding="utf-8")
    cfg = overrides.override(overrides.from_json(text, origin="run"), ["steps=6"])
    assert gqst.fit(cfg, earlier / "run", devices=1, quiet=True).step == 6
    for name in ("metrics.jsonl", "decisions.jsonl"):
        lines, expected = _lines(earlier / "run" / name), _lines(earlier / "expected" / name)
        assert [line.keys() for line in lines] == [line.keys() for line in expected]
        for line, wanted in zip(lines, expected, strict=True):
            # Another machine rounds otherwise, and Adam's first steps make much of it.
            numbers = {k: v for k, v in wanted.items() if isinstance(v, float)}
            assert {k: line[k] for k in numbers} == pytest.approx(numbers, rel=0.02, abs=2e-3)
            assert {k: v for k, v in line.items() if k not in numbers} == {
                k: v for k, v in wanted.items() if k not in numbers
            }


@pytest.mark.parametrize(("direction", "folder"), [("forward", "styl"), ("backward", "styl_back")])
def test_it_stylises_the_same(earlier, direction, folder):
    generator = gqst.load_generator(earlier / "run", direction=direction)
    assert generator.step == 4
    for path in sorted((earlier / "expected" / folder).glob("*.png")):
        source = conftest.ROOT / "gqst/data/demo/photos/test" / f"{path.stem}.jpg"
        picture = files.read(source, max_size=48).pixels / np.float32(255)
        np.testing.assert_allclose(generator(picture), gqst.read_picture(path), atol=1.0 / 255, err_msg=path.name)


def test_a_direction_that_it_has_not_is_named(earlier):
    with pytest.raises(gqst.InputError, match=r"no direction 'sideways'; it has: forward, backward"):
        gqst.load_generator(earlier / "run", direction="sideways")


@pytest.mark.slow
def test_it_is_evaluated_the_same(monkeypatch, earlier):
    monkeypatch.setattr(evaluator, "FEWEST", 2)  # the fixture has fewer pictures than now make a set
    generator = gqst.load_generator(earlier / "run")
    comparison = comparisons.from_generator(generator, generator.config, about={})
    outputs = evaluator.evaluate(comparison, with_baselines=False)["outputs"]
    expected = json.loads((earlier / "expected/eval.json").read_text(encoding="utf-8"))
    assert (outputs.count, outputs.style_count) == (expected["count"], expected["style_count"])
    means = {name: value for name, value in outputs.means.items() if name not in SINCE}
    for name, value in means.items():
        assert value == pytest.approx(expected[name], rel=1e-3, abs=1e-4), name
    assert set(means) == {name for name, value in expected.items() if isinstance(value, float)}
    assert all(math.isfinite(value) for value in outputs.means.values())
