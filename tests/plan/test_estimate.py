"""Estimates: the search for the largest batch, what is cached, and what is printed."""

import dataclasses
import json

import pytest

from gqst import overrides
from gqst.plan import __main__ as plan_main
from gqst.plan import estimate, hardware, report
from gqst.plan.compiled import Compiled
from tests import conftest

SMALL = (*conftest.SMALL_RESNET, "generator.filters=4")
GIB = 2**30


def _linear(fixed: float, each: float, *, limit: float = 1e12):
    """A compiler whose steps take this many bytes and refuses those above the limit; and the batches compiled."""
    batches: list[int] = []

    def compile_batch(batch: int) -> Compiled:
        batches.append(batch)
        needed = round(fixed + each * batch)
        return Compiled(refused=needed) if needed > limit else Compiled(temporaries=needed)

    return compile_batch, batches


@pytest.mark.parametrize(
    ("fixed", "each", "unit", "expected"),
    [
        (1.0, 0.5, 1, 29),
        (1.0, 0.5, 4, 28),
        (1.0, 0.013, 1, 1134),
        (16.0, 1.0, 1, 0),
        (3.0, 9.0, 1, 1),
        (1.0, 9.0, 2, 0),
    ],
)
@pytest.mark.parametrize("refuses", [False, True])
def test_the_largest_batch(fixed, each, unit, expected, refuses):
    usable = 15.75 * GIB
    compile_batch, batches = _linear(fixed * GIB, each * GIB, limit=usable if refuses else 1e15)
    assert estimate.largest_batch(compile_batch, usable, unit=unit) == expected
    # The smallest, two that tell how memory grows, the largest, and the next one, which does not fit.
    assert len(set(batches)) <= 5
    assert expected + unit in batches


def test_the_largest_batch_where_memory_jumps():
    def compile_batch(batch: int) -> Compiled:
        return Compiled(temporaries=round(GIB * (1 + 0.1 * batch + 2 * (batch > 20))))

    assert estimate.largest_batch(compile_batch, 10 * GIB, unit=1) == 70


def test_the_largest_batch_where_memory_grows_less_and_less():
    """Once the line says that nothing more fits, that is tried."""

    def compile_batch(batch: int) -> Compiled:
        return Compiled(temporaries=round(GIB * (batch if batch < 10 else 10 + 0.5 * (batch - 10))))

    assert estimate.largest_batch(compile_batch, 12.4 * GIB, unit=1) == 14


@pytest.mark.parametrize("limit", [10, 11, 15, 16, 23, 40])
def test_the_largest_batch_where_the_compiler_saves_memory(limit):
    """As a TPU's does: near its memory it takes no more for a larger batch, until it cannot."""
    batches: list[int] = []

    def compile_batch(batch: int) -> Compiled:
        batches.append(batch)
        linear = round(GIB * (1.6 + 1.4 * batch))
        if batch > limit:
            return Compiled(refused=linear)
        return Compiled(temporaries=min(linear, round(14.5 * GIB)))

    assert estimate.largest_batch(compile_batch, 15.75 * GIB, unit=1) == limit
    assert max(batches) <= 2 * limit and limit + 1 in batches and len(set(batches)) <= 12


def test_a_bracket_follows_the_line_through_its_last_two_sizes():
    bracket = estimate.Bracket(Compiled(state=10, temporaries=30), usable=100)
    assert bracket.propose() == 3  # 40, and 30 more for each
    bracket.record(3, Compiled(state=10, temporaries=40))  # 5 more for each
    assert bracket.propose() == 3 + 10
    bracket.record(13, Compiled(temporaries=100))
    assert bracket.fitting == 13 and not bracket.closed


def test_a_bracket_doubles_its_strides_where_the_line_says_that_nothing_fits():
    bracket = estimate.Bracket(Compiled(temporaries=90), usable=100)
    proposed = []
    for _ in range(4):
        proposed.append(bracket.propose())
        bracket.record(proposed[-1], Compiled(temporaries=99))
    assert proposed == [2, 4, 8, 16]


def test_a_bracket_bisects_after_a_refusal_and_after_two_misses():
    refused = estimate.Bracket(Compiled(temporaries=10), usable=100)
    assert refused.propose() == 10
    refused.record(10, Compiled(refused=101))
    assert refused.propose() == (1 + 10) // 2
    missed = estimate.Bracket(Compiled(temporaries=1), usable=100)
    missed.record(100, Compiled(temporaries=101))
    assert missed.propose() == 99  # still by the line
    missed.record(99, Compiled(temporaries=101))
    assert missed.propose() == (1 + 99) // 2


def test_a_closed_bracket():
    bracket = estimate.Bracket(Compiled(temporaries=60), usable=100)
    bracket.record(2, Compiled(temporaries=120))
    assert bracket.closed and (bracket.fitting, bracket.failing) == (1, 2)


@pytest.mark.slow
def test_an_estimate_for_this_machine(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    arguments = ["--config", "cyclegan", "--set", *SMALL, "--target", "cpu", "--no-search"]
    assert plan_main.main([*arguments, "--json", str(tmp_path / "estimate.json")]) == 0
    first = capsys.readouterr()
    assert "fits:     yes" in first.out and "compiling the step for cpu" in first.err
    figures = json.loads((tmp_path / "estimate.json").read_text())
    assert figures["batch_size"] == 2 and figures["fits"] is True
    assert figures["compiled"]["memory"] == sum(figures["compiled"][k] for k in ("state", "temporaries", "program"))
    # The second time nothing is compiled.
    assert plan_main.main(arguments) == 0
    again = capsys.readouterr()
    assert again.out == first.out and "compiling" not in again.err


def test_an_estimate_needs_no_pictures(monkeypatch):
    """The declaration of the data source says whether the step is paired."""
    declared = []

    def compile_step(cfg, target, *, paired, **others):
        declared.append(paired)
        return Compiled(state=1)

    monkeypatch.setattr(estimate.compiled, "compile_step", compile_step)
    cfg = conftest.small("pix2pix", "data=pairs", "data.root=/nowhere")
    estimate.estimate(cfg, hardware.find("cpu"), find_largest=False)
    estimate.estimate(overrides.override(cfg, ["data=demo"]), hardware.find("cpu"), find_largest=False)
    assert declared == [True, False]


def _estimate(**changes) -> estimate.Estimate:
    fields = dict.fromkeys(f.name for f in dataclasses.fields(estimate.Estimate))
    usual = {
        "target": "v5e",
        "devices": 1,
        "kind": "TPU v5 lite",
        "image_size": 256,
        "batch_size": 8,
        "compute_dtype": "float32",
        "remat": "none",
        "accumulate": 1,
        "steps": 3600,
        "usable": 15.75 * GIB,
    }
    return estimate.Estimate(**{**fields, **usual, **changes})


def test_what_does_not_fit_says_by_how_much():
    estimated = _estimate(compiled=Compiled(refused=20 * GIB), largest_batch=0)
    assert estimated.fits is False
    text = report.text(estimated)
    assert "no, 20.00 GiB of 15.75 GiB a device: 4.25 GiB too much" in text and "largest:  none fits" in text


def test_the_time_at_best_is_the_longer_of_two():
    estimated = _estimate(
        compiled=Compiled(state=GIB, flops=1e12, traffic=1e9), seconds_compute=0.002, seconds_memory=0.003
    )
    assert estimated.seconds == 0.003 and estimated.to_dict()["hours"] == pytest.approx(0.003)
    assert "3 ms a step, bound by memory (computing 2 ms, memory 3 ms); 3600 steps in 0.003 h" in report.text(estimated)
    assert _estimate(compiled=Compiled(), seconds_compute=0.002).seconds is None
