import json
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from gqst import types
from gqst.inference import live


def _write(workdir: pathlib.Path, lines: list[dict], tail: str = "") -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (workdir / "metrics.jsonl").write_text(text + tail)


def _run(workdir: pathlib.Path, steps: int, terms: tuple[str, ...] = ("cycle",)) -> None:
    lines: list[dict] = []
    for step in range(1, steps + 1):
        names = ("generator", "discriminator", *terms)
        losses = {f"loss/{name}": i + 1 / step for i, name in enumerate(names)}
        lines.append({"step": step, **losses})
        lines.append({"step": step, "eval/palette_distance": 1 / step, "eval/pictures": 2, "eval/best": True})
    _write(workdir, lines)


def test_metrics_are_read_by_name_and_a_cut_line_is_passed_over(tmp_path: pathlib.Path):
    _write(tmp_path, [{"step": 1, "loss/l1": 0.5}, {"step": 2, "loss/l1": 0.25}], tail='{"step": 3, "loss/')
    assert live.read_metrics(tmp_path) == {"loss/l1": [(1, 0.5), (2, 0.25)]}


def test_without_metrics_there_are_no_curves(tmp_path: pathlib.Path):
    assert live.read_metrics(tmp_path) == {}
    assert live.curves(tmp_path) is None


@pytest.mark.parametrize(("terms", "panels"), [((), 2), (("cycle",), 3), (("cycle", "identity"), 3)])
def test_curves_have_a_panel_for_losses_terms_and_each_held_out_metric(
    tmp_path: pathlib.Path, terms: tuple[str, ...], panels: int
):
    _run(tmp_path, 5, terms)
    drawn = live.curves(tmp_path)
    assert drawn is not None
    assert drawn.size == (360 * panels, 250)
    assert len(np.unique(np.asarray(drawn).reshape(-1, 3), axis=0)) > 10


def test_a_term_that_is_the_whole_loss_and_backward_terms_are_not_drawn_twice():
    series = {
        "loss/generator": [(1, 1.0)],
        "loss/discriminator": [(1, 2.0)],
        "loss/adversarial_discriminator": [(1, 2.0)],
        "loss/cycle": [(1, 0.5)],
        "loss/cycle_backward": [(1, 0.6)],
        "eval/psnr": [(1, 20.0)],
        "eval/seconds": [(1, 3.0)],
    }
    assert live._panels(series) == {
        "losses": ["loss/generator", "loss/discriminator"],
        "term: cycle": ["loss/cycle"],
        "held out: psnr": ["eval/psnr"],
    }


def test_a_missing_package_is_named_with_the_command(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(types.InputError, match=r'^matplotlib is not installed: .*"gqst\[notebook\]"$'):
        live.curves(tmp_path)
    monkeypatch.setitem(sys.modules, "IPython", None)
    with pytest.raises(types.InputError, match="IPython is not installed"):
        live.Live(tmp_path)


class _Output:
    """Stands for IPython's display handle: keeps what it is given."""

    def __init__(self) -> None:
        self.shown: list[object] = []

    def update(self, picture: object) -> None:
        self.shown.append(picture)


def test_live_updates_two_outputs_and_shows_an_earlier_start_at_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    from IPython import display

    outputs: list[_Output] = []
    monkeypatch.setattr(display, "display", lambda *a, **k: outputs.append(_Output()) or outputs[-1])
    show = live.Live(tmp_path)
    assert [o.shown for o in outputs] == [[], []]
    _run(tmp_path, 2)
    (tmp_path / "samples").mkdir()
    path = tmp_path / "samples" / "0000002.png"
    Image.new("RGB", (40, 30), "red").save(path)
    show(2, {"eval/palette_distance": 0.5}, path)
    assert [len(o.shown) for o in outputs] == [1, 1]
    assert outputs[0].shown[0].size == (40, 30)  # type: ignore[attr-defined]
    live.Live(tmp_path)
    assert [len(o.shown) for o in outputs[2:]] == [1, 1]
