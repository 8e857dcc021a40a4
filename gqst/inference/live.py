"""Curves of a run, and a notebook output that follows it while it trains."""

import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from gqst import storage, types

_PLAYERS = ("loss/generator", "loss/discriminator")
_UNPLOTTED = ("eval/pictures", "eval/seconds", "eval/share", "eval/best")
_PANELS_PER_ROW = 3


def read_metrics(workdir: str | pathlib.Path) -> dict[str, list[tuple[int, float]]]:
    """Returns the steps and values of every metric in `<workdir>/metrics.jsonl`, by name; empty without that file.

    Incomplete lines, such as the last one of a killed run, are ignored.
    """
    path = storage.path(workdir) / "metrics.jsonl"
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
    """Returns a drawing of the losses and held-out metrics of a run over its steps; None while nothing is logged.

    The first panel shows the losses of generator and discriminator, the second the unweighted terms of the forward
    direction. A panel for each held-out metric follows, with a star at the best round.

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
    columns = 2 if len(panels) == 4 else min(len(panels), _PANELS_PER_ROW)
    rows = -(-len(panels) // columns)
    drawing = figure.Figure(figsize=(3.6 * columns, 2.5 * rows), dpi=100, layout="constrained")
    for position, (title, names) in enumerate(panels.items(), start=1):
        axes = drawing.add_subplot(rows, columns, position)
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
        if position > len(panels) - columns:
            axes.set_xlabel("step", fontsize=9)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


class Live:
    """The newest sample grid and the curves of a run in the output of a notebook cell.

    Pass it as `on_round`: it is updated after every round. Samples and metrics from an earlier start of the run are
    shown at once.
    """

    def __init__(self, workdir: str | pathlib.Path):
        """Opens the output in the current cell.

        Args:
          workdir: Folder of the run.

        Raises:
          InputError: IPython or matplotlib is not installed.
        """
        try:
            from IPython import display
        except ImportError as error:
            raise _missing("IPython") from error
        self._workdir = storage.path(workdir)
        self._outputs = [display.display(_Empty(), display_id=True) for _ in range(2)]
        earlier = sorted((self._workdir / "samples").glob("[0-9]*.png"))
        self._show(earlier[-1] if earlier else None)

    def __call__(self, step: int, metrics: Mapping[str, Any], samples: pathlib.Path) -> None:
        """Shows the sample grid of a round, in the file `samples`, and the curves so far."""
        del step, metrics  # the curves are drawn from the log, which holds them
        self._show(samples)

    def _show(self, samples: pathlib.Path | None) -> None:
        drawing = curves(self._workdir)
        grid = None
        if samples is not None:
            with Image.open(samples) as image:
                grid = image.convert("RGB")
        for output, picture in zip(self._outputs, (grid, drawing), strict=True):
            if picture is not None:
                output.update(picture)


class _Empty:
    """Placeholder in an output until there is a picture."""

    def __repr__(self) -> str:
        return ""


def _panels(series: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
    """Returns the names of the metrics in each panel, by its title."""
    losses = [name for name in _PLAYERS if name in series]
    # A term that makes up a player's whole loss would be drawn twice.
    loss_values = [series[name] for name in losses]
    terms = [name for name, values in series.items() if _is_term(name) and values not in loss_values]
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
