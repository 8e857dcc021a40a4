"""A metric from outside the package: one registration makes it known everywhere."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gqst import cli, config, evaluate, metrics, types
from gqst.quality import targets
from gqst.runtime import devices
from gqst.training import loop, state, summary
from gqst.training.recipe import Recipe
from gqst.training.rounds import Round
from tests import conftest

CHANGES = ("targets.closeness=0.995",)


@pytest.fixture
def closeness():
    """One minus the mean absolute difference, registered for one test."""

    @metrics.register(
        name="closeness",
        better="higher",
        range=(0.0, 1.0),
        definition="one minus the mean difference of a channel; 1 is equal",
        aim=metrics.Aim(unit=0.5),
    )
    def closeness(output, reference):
        return 1.0 - jnp.mean(jnp.abs(output - reference), axis=(1, 2, 3))

    yield closeness
    del metrics.METRICS._members["closeness"]


@pytest.fixture
def lightness():
    """A distance of sets, registered for one test."""

    @metrics.register(name="lightness", better="lower", definition="difference of the mean", reference="style")
    def lightness(output, reference):
        return abs(float(output.mean() - reference.mean()))

    yield lightness
    del metrics.METRICS._members["lightness"]


def _round(*changes):
    cfg = conftest.small("style_image", *changes)
    recipe = Recipe(cfg, paired=False)
    ema = jax.jit(lambda: state.create(recipe, jax.random.key(0)).ema)()
    rng = np.random.default_rng(0)
    held_out = {key: rng.random((3, 32, 32, 3), np.float32) for key in ("source", "target")}
    measure = Round(recipe, held_out, devices.DeviceMesh(jax.devices()[:1]))
    return held_out, measure(jax.tree.map(lambda x: x + 0.05, ema), 1)


def test_a_round_measures_it_when_it_is_named(closeness, lightness):
    held_out, result = _round("metrics=('closeness','lightness')")
    fake = result.columns["fake"]
    expected = 1.0 - np.abs(fake - held_out["source"]).mean()
    assert result.metrics["closeness"] == pytest.approx(expected, abs=1e-5) and 0.1 < expected < 0.999
    assert result.metrics["lightness"] == pytest.approx(abs(fake.mean() - held_out["target"].mean()), abs=1e-6)
    assert "closeness" not in _round()[1].metrics


def test_a_target_steers_it(closeness):
    cfg = conftest.small("style_image", *CHANGES)
    recipe = Recipe(cfg, paired=False)
    target = next(target for target in recipe.targets if target.metric == "closeness")
    assert (target.value, target.labels) == (0.995, ("target_closeness",))
    train_state, trained = summary.trace(recipe)
    assert "loss/target_closeness" in trained and "target_closeness" in train_state.multipliers
    _, result = _round(*CHANGES)
    measured = result.metrics["closeness"]
    assert result.standing.shortfall >= (0.995 - measured) / 0.5 > targets.TOLERANCE
    multipliers = dict.fromkeys(train_state.multipliers, 1.0)
    new, _, _ = targets.decide(recipe.targets, result.metrics, multipliers, {}, config.Control())
    assert new["target_closeness"] > 1.0


@pytest.mark.slow  # a step is compiled
def test_a_run_logs_it(closeness, tmp_path):
    changes = ("steps=2", "round_every=2", "checkpoint_every=2", "log_every=1", "validation=2")
    seen = []
    cfg = conftest.small("style_image", *CHANGES, *changes)
    loop.fit(cfg, tmp_path, devices=1, quiet=True, on_round=lambda step, values, path: seen.append(values))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rounds = [line["eval/closeness"] for line in lines if "eval/closeness" in line]
    assert len(rounds) == 2 and rounds == [values["eval/closeness"] for values in seen]
    assert any(b"eval/closeness" in path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    decisions = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    assert [d["label"] for d in decisions if d.get("metric") == "closeness"] == ["target_closeness"]


def test_an_evaluation_reports_it(closeness, capsys, tmp_path):
    rng = np.random.default_rng(0)
    expected = []
    for folder in ("sources", "outputs"):
        (tmp_path / folder).mkdir()
    for i in range(2):
        pair = [rng.integers(0, 256, (32, 40, 3), np.uint8) for _ in range(2)]
        for folder, picture in zip(("sources", "outputs"), pair, strict=True):
            Image.fromarray(picture).save(tmp_path / folder / f"{i}.png")
        expected.append(1.0 - np.abs(np.float64(pair[0]) - pair[1]).mean() / 255)
    paths = ["--outputs", tmp_path / "outputs", "--sources", tmp_path / "sources", "--no-baselines"]
    files = ["--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv"]
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: evaluate.main([str(argument) for argument in (*paths, *files)]))
    table = capsys.readouterr().out
    assert end.value.code == 0 and "closeness +" in table
    assert "closeness: one minus the mean difference of a channel; 1 is equal" in table
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["closeness"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert content["against"]["closeness"] == "sources" and "closeness" in content["definitions"]
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    np.testing.assert_allclose([float(row["closeness"]) for row in rows[:2]], expected, atol=1e-5)


def test_what_no_metric_is_named_is_said():
    with pytest.raises(types.InputError, match=r"unknown metric 'kidd' \(did you mean 'kid'\?\)"):
        Recipe(conftest.small("style_image", "metrics=('kidd',)"), paired=False)
