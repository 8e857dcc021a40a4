"""Curves and points as HTML with hand-written SVG, which takes the width of its place on the page.

Lines lie in an SVG that is stretched with its place; labels and points are elements above it, at places in percent, so
that they keep their shape.
"""

import dataclasses
import html
import math
from collections.abc import Callable, Mapping, Sequence

from gqst.report import history

_MOST_POINTS = 240
_TICKS = 4
_TOP, _BOTTOM = 6.0, 94.0  # percent of the height between which values lie


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
      name: Name in the legend.
      points: Steps and values.
      color: Number of its colour, from 1 to 4.
      dashed: Whether it is dashed, as lines of another run are.
    """

    name: str
    points: history.Points
    color: int = 1
    dashed: bool = False


@dataclasses.dataclass(frozen=True)
class Dot:
    """One point of a scatter plot.

    Attributes:
      x: Horizontal value.
      y: Vertical value.
      kind: Class of the point: "front", "best", "last" or empty.
      title: What is shown where it is pointed at.
    """

    x: float
    y: float
    kind: str
    title: str


def lines(
    title: str,
    drawn: Sequence[Line],
    *,
    levels: Mapping[str, float] | None = None,
    marks: Mapping[int, str] | None = None,
    note: str = "",
) -> str:
    """Returns a chart of values over steps.

    Lines of many points are shown as the mean and the range of short spans.

    Args:
      title: Heading.
      drawn: Lines, of which those without points are left out.
      levels: Horizontal lines by name, such as targets.
      marks: Vertical lines by step, and their names.
      note: One sentence below the heading.
    """
    drawn = [line for line in drawn if line.points]
    if not drawn:
        return ""
    levels, marks = levels or {}, marks or {}
    values = [value for line in drawn for _, value in line.points] + list(levels.values())
    low, high = _range(min(values), max(values))
    last = max(line.points[-1][0] for line in drawn) or 1
    first = min(line.points[0][0] for line in drawn)
    across = max(last - first, 1)

    def x_of(step: float) -> float:
        return 100 * (step - first) / across

    def y_of(value: float) -> float:
        return _height(value, low, high)

    shapes, over = _grid(low, high)
    for step, name in marks.items():
        shapes.append(f'<path class="mark" d="M{x_of(step):.2f} 0V100"><title>{html.escape(name)}</title></path>')
    for name, level in levels.items():
        shapes.append(f'<path class="level" d="M0 {y_of(level):.2f}H100"><title>{html.escape(name)}</title></path>')
    for line in drawn:
        means, lowest, highest = _reduced(line.points)
        style = f"line c{line.color}{' dashed' if line.dashed else ''}"
        if len(line.points) > _MOST_POINTS:
            edge = [*highest, *reversed(lowest)]
            shapes.append(f'<path class="band c{line.color}" d="{_path(edge, x_of, y_of)}Z"/>')
        shapes.append(f'<path class="{style}" d="{_path(means, x_of, y_of)}"/>')
        if len(means) == 1:
            (step, value) = means[0]
            over.append(f'<i class="dot c{line.color}" style="left:{x_of(step):.2f}%;top:{y_of(value):.2f}%"></i>')
    over += [f'<span class="x" style="left:{x_of(step):.2f}%">{step:,}</span>' for step in (first, last)]
    legend = "".join(
        f'<li class="c{line.color}{" dashed" if line.dashed else ""}">{html.escape(line.name)} '
        f"<b>{short(line.points[-1][1])}</b></li>"
        for line in drawn
    )
    legend += "".join(
        f'<li class="level">{html.escape(name)} <b>{short(value)}</b></li>' for name, value in levels.items()
    )
    return (
        f'<figure class="chart"><figcaption><h3>{html.escape(title)}</h3>{_note(note)}</figcaption>'
        f'<div class="plot" role="img" aria-label="{html.escape(_spoken(title, drawn))}">'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{"".join(shapes)}</svg>'
        f'{"".join(over)}</div><ul class="legend">{legend}</ul></figure>'
    )


def scatter(title: str, dots: Sequence[Dot], *, x: str, y: str, note: str = "") -> str:
    """Returns a plot of points, each of which tells its title by pointer and by keyboard; x and y name the axes."""
    if not dots:
        return ""
    left, right = _range(min(d.x for d in dots), max(d.x for d in dots))
    low, high = _range(min(d.y for d in dots), max(d.y for d in dots))
    shapes, over = _grid(low, high)
    over += [
        f'<span class="x" style="left:{place}%">{short(value)}</span>' for place, value in ((0, left), (100, right))
    ]
    for dot in sorted(dots, key=lambda d: bool(d.kind)):
        place = f"left:{100 * (dot.x - left) / (right - left):.2f}%"
        place += f";top:{_height(dot.y, low, high):.2f}%"
        told = html.escape(dot.title)
        kind = f' {dot.kind}" tabindex="0' if dot.kind else ""
        over.append(f'<i class="dot{kind}" style="{place}" title="{told}" aria-label="{told}"></i>')
    return (
        f'<figure class="chart"><figcaption><h3>{html.escape(title)}</h3>{_note(note)}</figcaption>'
        f'<div class="plot"><svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{"".join(shapes)}'
        f'</svg>{"".join(over)}</div><p class="axes">across: {html.escape(x)}; up: {html.escape(y)}</p></figure>'
    )


def short(value: float) -> str:
    """Returns a number with three digits."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def _grid(low: float, high: float) -> tuple[list[str], list[str]]:
    """Lines across a plot at round values, and the labels above them."""
    places = [(tick, _height(tick, low, high)) for tick in _ticks(low, high)]
    shapes = [f'<path class="grid" d="M0 {y:.2f}H100"/>' for _, y in places]
    return shapes, [f'<span class="y" style="top:{y:.2f}%">{short(tick)}</span>' for tick, y in places]


def _height(value: float, low: float, high: float) -> float:
    """Place of a value in percent from the top."""
    return _BOTTOM - (_BOTTOM - _TOP) * (value - low) / (high - low)


def _note(note: str) -> str:
    return f"<p>{html.escape(note)}</p>" if note else ""


def _spoken(title: str, drawn: Sequence[Line]) -> str:
    """The chart in words."""
    ends = (
        f"{line.name} from {short(line.points[0][1])} at step {line.points[0][0]:,} "
        f"to {short(line.points[-1][1])} at step {line.points[-1][0]:,}"
        for line in drawn
    )
    return f"{title}: {'; '.join(ends)}"


def _reduced(points: history.Points) -> tuple[history.Points, history.Points, history.Points]:
    """Means, lowest and highest values of at most `_MOST_POINTS` spans of equal numbers of points."""
    if len(points) <= _MOST_POINTS:
        return points, points, points
    means, lowest, highest = [], [], []
    for number in range(_MOST_POINTS):
        span = points[number * len(points) // _MOST_POINTS : (number + 1) * len(points) // _MOST_POINTS]
        step, values = span[len(span) // 2][0], [value for _, value in span]
        means.append((step, sum(values) / len(values)))
        lowest.append((step, min(values)))
        highest.append((step, max(values)))
    return means, lowest, highest


def _path(points: Sequence[tuple[int, float]], x_of: Callable[[float], float], y_of: Callable[[float], float]) -> str:
    return "M" + "L".join(f"{x_of(step):.2f} {y_of(value):.2f}" for step, value in points)


def _range(low: float, high: float) -> tuple[float, float]:
    """A range that is not empty."""
    if high > low:
        return low, high
    room = abs(low) / 10 or 1.0
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range: multiples of 1, 2 or 5 times a power of ten, some `_TICKS` of them."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    unit = min((factor * power for factor in (1, 2, 5, 10)), key=lambda size: abs(size - rough))
    return [n * unit for n in range(math.ceil(low / unit - 1e-9), math.floor(high / unit + 1e-9) + 1)]
