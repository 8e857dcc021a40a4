"""Faults that are put into a run, and what becomes of it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from gqst import overrides, types
from gqst.models import base as models
from gqst.training import loop, setup
from tests import conftest

NAME = "contrast_of_the_loop_tests"


class Contrast(nn.Module):
    """A generator of one number: 1 is the identity, 0 one grey for all, -1 the negative."""

    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, pictures):
        factor = self.param("factor", nn.initializers.constant(0.8), ())
        return 0.5 + factor * (pictures - 0.5)


@pytest.fixture(scope="module", autouse=True)
def registered():
    models.GENERATORS.register(NAME)(Contrast)
    yield
    models.GENERATORS._members.pop(NAME)


def _config(*changes):
    cfg = conftest.small("style_image", "steps=40", "round_every=10", "checkpoint_every=10", "batch_size=2")
    cfg = overrides.override(
        cfg, [f"generator={NAME}", "discriminator.layers=1", "discriminator.filters=4", "validation=4"]
    )
    # The losses of a generator that learns next to nothing by itself.
    rates = [f"{player}_optimizer.learning_rate=1e-6" for player in ("generator", "discriminator")]
    return overrides.override(cfg, [*rates, *changes])


@pytest.fixture
def poisoned(monkeypatch):
    """Makes one call of the step something else: `poisoned(15, f)` calls f on state and metrics after call 15."""
    build = setup.parallel.build

    def arrange(call, change):
        def build_spoilt(*args, **kwargs):
            trainer = build(*args, **kwargs)
            step, calls = trainer.step, []

            def spoilt(train_state, batch):
                train_state, metrics = step(train_state, batch)
                calls.append(1)
                with jax.transfer_guard("allow"):
                    return change(train_state, metrics) if len(calls) == call else (train_state, metrics)

            trainer.step = spoilt
            return trainer

        monkeypatch.setattr(setup.parallel, "build", build_spoilt)

    return arrange


def _forced(factor):
    """The generator and its running average with another factor."""

    def change(train_state, metrics):
        forced = jax.tree.map(lambda x: x * 0 + factor, (train_state.gen.params, train_state.ema))
        return train_state.replace(gen=train_state.gen.replace(params=forced[0]), ema=forced[1]), metrics

    return change


def _run(tmp_path, *changes):
    result = loop.fit(_config(*changes), tmp_path / "run", devices=1, quiet=True)
    lines = (tmp_path / "run" / "decisions.jsonl").read_text().splitlines()
    return result, [json.loads(line) for line in lines]


def _rates(tmp_path):
    """The generator's learning rates by step, as logged."""
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["learning_rate/generator"]) for line in lines if "learning_rate/generator" in line]


def test_a_batch_that_is_not_finite_costs_the_steps_since_the_checkpoint(tmp_path, monkeypatch):
    make = setup.pipeline.make_iterator

    class Spoilt:
        def __init__(self, batches):
            self._batches, self._count = batches, 0

        def __next__(self):
            self._count += 1
            batch = next(self._batches)
            return {k: x * np.float32(np.nan) for k, x in batch.items()} if self._count == 16 else batch

        def __getattr__(self, name):
            return getattr(self._batches, name)

    monkeypatch.setattr(setup.pipeline, "make_iterator", lambda *a, **k: Spoilt(make(*a, **k)))
    result, said = _run(tmp_path)
    assert (result.step, result.finished, result.traces) == (40, True, 1)
    (back,) = (line for line in said if "rollback" in line)
    assert back == {"step": 10, "rollback": "not_finite", "from": 16, "rate": 0.5}
    rates = _rates(tmp_path)
    assert rates[0] == (5, pytest.approx(1e-6)) and rates[-1] == (40, pytest.approx(0.5e-6))


def _dead(train_state, metrics):
    """The metrics of a step in which only biases had a gradient."""
    return train_state, {
        **metrics,
        "without_gradient/generator": jnp.float32(1.0),
        "gradient_norm/generator": jnp.float32(1.0),
    }


@pytest.mark.parametrize(
    ("call", "change", "kind"),
    [(25, _forced(-1.0), "inversion"), (25, _forced(0.02), "collapse"), (30, _dead, "dead")],
)
def test_a_spoilt_generator_is_taken_back_to_the_last_good_round(tmp_path, poisoned, call, change, kind):
    poisoned(call, change)
    result, said = _run(tmp_path)
    assert (result.step, result.finished, result.traces) == (40, True, 1)
    alarm, back = (line for line in said if "alarm" in line or "rollback" in line)
    assert (alarm["step"], alarm["alarm"]) == (30, kind)
    assert back == {"step": 20, "rollback": kind, "from": 30, "rate": 0.5}
    # What is left is good.
    final = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [x["eval/contrast_structure"] for x in final if "eval/contrast_structure" in x][-1] > 0.9


def test_a_generator_spoilt_before_the_first_checkpoint_starts_again(tmp_path, poisoned):
    poisoned(5, _forced(0.02))
    result, said = _run(tmp_path)
    assert (result.step, result.finished, result.traces) == (40, True, 1)
    (back,) = (line for line in said if "rollback" in line)
    assert back == {"step": 0, "rollback": "collapse", "from": 10, "rate": 0.5}
    assert _rates(tmp_path)[-1] == (40, pytest.approx(0.5e-6))


def test_a_start_that_is_not_sound_is_left_to_learn(tmp_path, poisoned, monkeypatch):
    monkeypatch.setattr(loop, "SOUND_START", 1.0)
    poisoned(5, _forced(0.02))
    result, said = _run(tmp_path)
    assert result.finished and not any("rollback" in line for line in said)
    assert {line["alarm"] for line in said if "alarm" in line} == {"collapse"}


def test_going_back_too_often_ends_the_run_with_the_reason(tmp_path, poisoned):
    poisoned(25, _forced(-1.0))
    with pytest.raises(types.RunError, match=r"light and dark have changed places.*the last checkpoint is of step 20"):
        _run(tmp_path, "rollbacks=0")
    # Every weight is as it was: the run can be gone on with.
    result = loop.fit(_config("rollbacks=0"), tmp_path / "run", devices=1, quiet=True)
    assert result.finished and result.step == 40


def test_doing_nothing_and_a_discriminator_that_wins_are_told_and_change_nothing(tmp_path, poisoned):
    def change(train_state, metrics):
        train_state, _ = _forced(1.0)(train_state, metrics)
        return train_state, metrics

    poisoned(3, change)
    result, said = _run(tmp_path)
    assert result.finished and not any("rollback" in line for line in said)
    assert {(line["step"], line["alarm"]) for line in said if "alarm" in line} == {
        (step, "does_nothing") for step in (10, 20, 30, 40)
    }


def test_a_discriminator_that_wins_is_told(tmp_path, monkeypatch):
    read = loop.Mean.add

    def won(self, values):
        read(self, {**values, "loss/adversarial_discriminator": 0.001})

    monkeypatch.setattr(loop.Mean, "add", won)
    result, said = _run(tmp_path)
    assert result.finished and {line.get("alarm") for line in said if "alarm" in line} == {"discriminator_wins"}


def test_nothing_better_for_long_ends_the_run_early(tmp_path):
    changes = ("stop_after=2", "steps=200", "losses.structure=off", *["losses.adversarial.weight=1e-9"])
    result, _ = _run(tmp_path, *changes)
    assert result.finished and result.step < 200
    again = loop.fit(_config(*changes), tmp_path / "run", devices=1, quiet=True)
    assert again.finished and again.step == result.step


def test_targets_leave_a_trail_and_a_resumed_run_decides_the_same(tmp_path):
    changes = ("targets.contrast_structure=0.9", "generator_optimizer.learning_rate=1e-2")
    _run(tmp_path / "whole", *changes)
    loop.fit(_config(*changes, "steps=20"), tmp_path / "halves" / "run", devices=1, quiet=True)
    loop.fit(_config(*changes), tmp_path / "halves" / "run", devices=1, quiet=True)
    trails = [(tmp_path / name / "run" / "decisions.jsonl").read_text() for name in ("whole", "halves")]
    assert trails[0] == trails[1]
    said = [json.loads(line) for line in trails[0].splitlines()]
    assert [line["step"] for line in said if "target" in line] == [10, 20, 30, 40]
    one, two = [line for line in said if "target" in line][:2]
    assert one["target"] == 0.9 and one["label"] == "structure" and two["old"] == pytest.approx(one["new"])


def test_the_share_of_the_rounds_is_reported_and_told_once_where_it_is_large(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "MAX_ROUND_SHARE", 0.0)
    loop.fit(_config(), tmp_path / "run", devices=1)
    assert capsys.readouterr().err.count("of the time: a larger round_every") == 1
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    rounds = {line["step"]: line for line in lines if "eval/seconds" in line}
    assert "eval/share" not in rounds[0]
    assert all(0.0 < rounds[step]["eval/share"] <= 1.0 for step in (10, 20, 30, 40))


def test_a_trace_of_some_steps(tmp_path):
    loop.fit(_config("steps=10"), tmp_path / "run", devices=1, quiet=True, profile_calls=2)
    (trace,) = (tmp_path / "run" / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 10_000
    assert len(list((tmp_path / "run" / "profile").rglob("*.trace.json.gz"))) == 1


def test_a_trace_of_more_steps_than_there_are(tmp_path):
    loop.fit(_config("steps=10"), tmp_path / "run", devices=1, quiet=True, profile_calls=100)
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
