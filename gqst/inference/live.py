"""A run as it goes: its curves, and in a notebook one output that follows it."""

import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from gqst import types

_PLAYERS = ("loss/generator", "loss/discriminator")
_UNPLOTTED = ("eval/pictures", "eval/seconds", "eval/share", "eval/best")
_PANELS_A_ROW = 3


def read_metrics(workdir: str | pathlib.Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every metric in `<workdir>/metrics.jsonl` by name; empty where there is none yet.

    A line that a kill has cut off is passed over.
    """
    path = pathlib.Path(workdir) / "metrics.jsonl"
    series: dict[str, list[tuple[int, float]]] = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
            step = int(line.pop("step"))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        for name, value in line.items():
            if isinstance(value, int | float):
                series.setdefault(name, []).append((step, float(value)))
    return series


def curves(workdir: str | pathlib.Path) -> Image.Image | None:
    """The losses and the held-out metrics of a run over its steps; None where nothing is logged yet.

    The first panel holds both players' losses, the second the terms of the forward direction before their
    weights, then one for each held-out metric, with a star at the best round.

    Raises:
      InputError: matplotlib is not installed.
    """
    try:
        from matplotlib import figure, ticker
    except ImportError as error:
        raise _missing("matplotlib") from error
    series = read_metrics(workdir)
    panels = _panels(series)
    if not panels:
        return None
    best = [step for step, value in series.get("eval/best", []) if value]
    across = 2 if len(panels) == 4 else min(len(panels), _PANELS_A_ROW)
    down = -(-len(panels) // across)
    drawing = figure.Figure(figsize=(3.6 * across, 2.5 * down), dpi=100, layout="constrained")
    for place, (title, names) in enumerate(panels.items(), start=1):
        axes = drawing.add_subplot(down, across, place)
        for name in names:
            steps, values = zip(*series[name], strict=True)
            marker = "o" if len(steps) < 20 else None
            axes.plot(steps, values, marker=marker, markersize=3, label=_label(name))
            if name.startswith("eval/") and best and best[-1] in steps:
                axes.plot(best[-1], dict(series[name])[best[-1]], "*", color="tab:orange", markersize=11)
        axes.set_title(title, fontsize=10)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(nbins=5, integer=True))
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend(fontsize=7)
        if place > len(panels) - across:
            axes.set_xlabel("step", fontsize=9)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


class Live:
    """The newest sample grid and the curves of a run in one notebook output, to be given as `on_round`.

    It is shown at once with what an earlier start of the run has left, and after every round anew.
    """

    def __init__(self, workdir: str | pathlib.Path):
        """Opens the output of the cell; `workdir` is the folder of the run.

        Raises:
          InputError: IPython or matplotlib is not installed.
        """
        try:
            from IPython import display
        except ImportError as error:
            raise _missing("IPython") from error
        self._workdir = pathlib.Path(workdir)
        self._outputs = [display.display(shown, display_id=True) for shown in (_Nothing(), _Nothing())]
        earlier = sorted((self._workdir / "samples").glob("[0-9]*.png"))
        self._show(earlier[-1] if earlier else None)

    def __call__(self, step: int, metrics: Mapping[str, Any], samples: pathlib.Path) -> None:
        """Shows a round: the sample grid in the file `samples`, and the curves up to it."""
        del step, metrics  # the curves have them, and those of the rounds before
        self._show(samples)

    def _show(self, samples: pathlib.Path | None) -> None:
        drawn = curves(self._workdir)
        grid = None
        if samples is not None:
            with Image.open(samples) as image:
                grid = image.convert("RGB")
        for output, picture in zip(self._outputs, (grid, drawn), strict=True):
            if picture is not None:
                output.update(picture)


class _Nothing:
    """What an output holds before there is a picture."""

    def __repr__(self) -> str:
        return ""


def _panels(series: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
    """The names of the metrics by the title of the panel that shows them."""
    losses = [name for name in _PLAYERS if name in series]
    # A term that is all of a player's loss says nothing new.
    shown = [series[name] for name in losses]
    terms = [name for name, values in series.items() if _is_term(name) and values not in shown]
    held_out = [name for name in series if name.startswith("eval/") and name not in _UNPLOTTED]
    panels = {"losses": losses, f"term: {_label(terms[0])}" if len(terms) == 1 else "terms": terms}
    panels |= {f"held out: {_label(name)}": [name] for name in held_out}
    return {title: names for title, names in panels.items() if names}


def _is_term(name: str) -> bool:
    return name.startswith("loss/") and name not in _PLAYERS and not name.endswith("_backward")


def _label(name: str) -> str:
    return name.partition("/")[2].replace("_", " ")


def _missing(package: str) -> types.InputError:
    return types.InputError(f'{package} is not installed: pip install "gqst[notebook]"')
