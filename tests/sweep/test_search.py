"""A search: its spaces, its trials, and how it resumes."""

import csv
import sys

import pytest
from PIL import Image

from gqst import cli, types
from gqst.sweep import __main__ as sweep_main
from gqst.sweep import search
from gqst.training import loop
from tests import conftest


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("a.b=0.1..2", search.Space("a.b", 0.1, 2)),
        ("a=1..8", search.Space("a", 1, 8)),
        ("a=1e-4..1e-2:log", search.Space("a", 1e-4, 1e-2, True)),
        ("a=3,4.5,resnet", search.Space("a", choices=(3, 4.5, "resnet"))),
    ],
)
def test_spaces(text, space):
    assert search.parse(text) == space


@pytest.mark.parametrize("text", ["a", "a=", "a=2..1", "a=0..1:log", "a=1..x", "a=1..2:cube"])
def test_what_is_no_space(text):
    with pytest.raises(types.InputError, match="--search"):
        search.parse(text)


@pytest.fixture
def pretended(monkeypatch):
    """Training in no time: two rounds whose figures follow from the content weight and the seed of the config."""
    trained = []

    def train(cfg, workdir, *, on_round, quiet):
        trained.append(cfg)
        weight = cfg.losses["content"].weight
        for step in (0, 10, 20):
            metrics = {"eval/style_distance": 1.0 + weight, "eval/contrast_structure": weight / (1 + weight)}
            on_round(step, {**metrics, "eval/shortfall": 0.0}, workdir)

    monkeypatch.setattr(loop, "fit", train)
    return trained


SEARCH = ("--search", "losses.content.weight=0.01..1:log", "generator.blocks=3,4")


def _call(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: sweep_main.main([str(a) for a in arguments]))
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


def test_a_search_goes_on_and_tells_its_front(capsys, pretended, tmp_path):
    flags = ["--config", "photo2painting", "--study", tmp_path / "s", *SEARCH]
    code, _, _ = _call(capsys, *flags, "--trials", 3)
    assert code == 0 and len(pretended) == 3
    code, said, _ = _call(capsys, *flags, "--trials", 5)
    assert code == 0 and len(pretended) == 5
    rows = list(csv.DictReader((tmp_path / "s" / "table.csv").open()))
    assert len(rows) == 5
    for row, cfg in zip(rows, pretended, strict=True):
        weight = float(row["losses.content.weight"])
        assert cfg.losses["content"].weight == pytest.approx(weight) and 0.01 <= weight <= 1
        assert cfg.generator.options["blocks"] == int(row["generator.blocks"])
        assert float(row["style_distance"]) == pytest.approx(1 + weight)
        # More weight is worse style and better quality: every trial is on the front.
        assert row["front"] == "1" and row["state"] == "complete"
    assert said.count("*") == 6 and Image.open(tmp_path / "s" / "front.png").size[0] > 600
    code, _, said = _call(capsys, *flags[:-1], "generator.blocks=3,4,5", "--trials", 6)
    assert code == 2 and "another config or other ranges" in said and len(pretended) == 5


def test_a_trial_that_falls_behind_is_pruned(monkeypatch, tmp_path):
    calls = []

    def train(cfg, workdir, *, on_round, quiet):
        calls.append(0)
        bad = len(calls) == 4
        for step in (0, 10, 20):
            calls[-1] += 1
            found = {"eval/style_distance": 9.0 if bad else 1.0, "eval/contrast_structure": 0.1 if bad else 0.5}
            on_round(step, {**found, "eval/shortfall": 0.0}, workdir)

    monkeypatch.setattr(loop, "fit", train)
    cfg = conftest.small("photo2painting")
    trials = search.run(cfg, [search.parse("seed=0..9")], tmp_path / "s", trials=5)
    assert [t.state for t in trials] == ["complete"] * 3 + ["pruned", "complete"]
    assert calls == [3, 3, 3, 2, 3] and not trials[3].front


def test_the_best_round_of_a_trial_meets_the_targets_first(monkeypatch, tmp_path):
    def train(cfg, workdir, *, on_round, quiet):
        for step, distance, quality, shortfall in [
            (0, 0.1, 0.9, 0.0),  # the untrained generator does not count
            (10, 0.5, 0.3, 0.2),
            (20, 3.0, 0.6, 0.0),
            (30, 2.0, 0.5, 0.0),
            (40, 2.0, 0.8, 0.0),  # equals do not replace the first
        ]:
            metrics = {"eval/style_distance": distance, "eval/contrast_structure": quality}
            on_round(step, {**metrics, "eval/shortfall": shortfall}, workdir)

    monkeypatch.setattr(loop, "fit", train)
    cfg = conftest.small("photo2painting")
    (trial,) = search.run(cfg, [search.parse("seed=0..9")], tmp_path / "s", trials=1)
    assert (trial.style_distance, trial.quality, trial.front) == (2.0, 0.5, True)


def test_bad_input(capsys, monkeypatch, tmp_path, pretended):
    flags = ["--config", "photo2painting", "--study", tmp_path / "s"]
    code, _, said = _call(capsys, *flags, "--search", "stesp=1..2")
    assert code == 2 and "unknown config key 'stesp'" in said and "Traceback" not in said
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, said = _call(capsys, *flags, *SEARCH)
    assert code == 2 and "pip install 'gqst[sweep]'" in said
