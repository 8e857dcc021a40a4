"""Curves and points."""

import re
import xml.etree.ElementTree as ET

import pytest

from gqst.report import charts


def _tree(text: str) -> ET.Element:
    return ET.fromstring(text)


def _places(chart: str, kind: str) -> list[tuple[float, float]]:
    path = next(e for e in _tree(chart).iter("path") if kind in e.get("class", "").split())
    return [tuple(map(float, pair.split())) for pair in re.findall(r"[\d.]+ [\d.]+", path.get("d", ""))]


def test_a_line_goes_through_its_points():
    chart = charts.lines("loss", [charts.Line("run", [(10, 1.0), (20, 3.0), (30, 2.0)])])
    # Values lie between 94 % (the lowest) and 6 % (the highest) of the height.
    assert _places(chart, "line") == [(0, 94), (50, 6), (100, 50)]


def test_levels_widen_the_range():
    chart = charts.lines("x", [charts.Line("run", [(0, 1.0), (10, 2.0)])], levels={"target": 3.0})
    assert _places(chart, "line") == [(0, 94), (100, 50)]
    assert 'd="M0 6.00H100"' in chart and "target <b>3</b>" in chart


def test_many_points_become_a_mean_within_their_range():
    points = [(step, float(step % 2)) for step in range(100_000)]
    chart = charts.lines("noise", [charts.Line("run", points)])
    assert len(chart) < 20_000
    assert all(abs(y - 50) < 0.3 for _, y in _places(chart, "line"))
    assert {y for _, y in _places(chart, "band")} == {6, 94}


def test_a_constant_and_a_single_point_have_a_place():
    assert _places(charts.lines("x", [charts.Line("run", [(0, 2.0), (5, 2.0)])]), "line") == [(0, 50), (100, 50)]
    assert 'style="left:0.00%;top:50.00%"' in charts.lines("x", [charts.Line("run", [(7, 0.0)])])


def test_names_cannot_break_the_page():
    chart = charts.lines('<b>"', [charts.Line("<script>", [(0, 1.0)])], marks={0: "</title>"}, levels={"&": 1.0})
    assert "<script>" not in chart and _tree(chart).find(".//h3").text == '<b>"'


def test_nothing_to_draw_is_nothing():
    assert charts.lines("x", [charts.Line("run", [])]) == "" and charts.scatter("x", [], x="a", y="b") == ""


def test_dots_lie_at_their_values_and_the_marked_ones_are_reached_by_keyboard():
    dots = [charts.Dot(1, 0, "best", "step 1"), charts.Dot(3, 4, "", "step 2"), charts.Dot(2, 2, "front", "step 3")]
    found = {e.get("title"): e for e in _tree(charts.scatter("rounds", dots, x="a", y="b")).iter("i")}
    assert {title: e.get("style") for title, e in found.items()} == {
        "step 1": "left:0.00%;top:94.00%",
        "step 2": "left:100.00%;top:6.00%",
        "step 3": "left:50.00%;top:50.00%",
    }
    assert {title for title, e in found.items() if e.get("tabindex") == "0"} == {"step 1", "step 3"}


@pytest.mark.parametrize(
    "value, text",
    [(0.0, "0"), (0.12345, "0.123"), (12.345, "12.3"), (1234.5, "1,234"), (3e-5, "3e-5"), (-2.56e6, "-2.56e6")],
)
def test_numbers_have_three_digits(value: float, text: str):
    assert charts.short(value) == text


@pytest.mark.parametrize(
    "low, high, ticks",
    [
        (0.0, 1.0, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (0.52, 0.88, ["0.6", "0.7", "0.8"]),
        (3.0, 210.0, ["50", "100", "150", "200"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, ticks: list[str]):
    chart = charts.lines("x", [charts.Line("run", [(0, low), (1, high)])])
    assert [e.text for e in _tree(chart).iter("span") if e.get("class") == "y"] == ticks
