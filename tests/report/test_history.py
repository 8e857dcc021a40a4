"""A run's files, read."""

import json
import pathlib

import pytest

from gqst import types
from gqst.report import history


def test_all_that_a_run_has_left(workdir: pathlib.Path):
    run = history.read(workdir)
    assert (run.step, run.best, run.name) == (40, [10, 30], "a<b&c")
    assert run.losses["loss/content"][:2] == [(2, 0.5), (4, 0.25)]
    assert run.rounds["style_distance"] == [
        (step, pytest.approx(0.5 + 0.1 * abs(step / 10 - 3))) for step in range(0, 50, 10)
    ]
    assert sorted(run.samples) == [0, 10, 20, 30, 40]
    assert [line.get("alarm", line.get("rollback")) for line in run.alarms] == ["collapse", "collapse"]
    assert list(run.steered) == ["structure"] and run.data["train/source"][0] == 12


def test_the_nearest_bundled_config_and_what_differs_from_it(workdir: pathlib.Path):
    run = history.read(workdir)
    assert run.base == "style_image"
    assert run.differences["image_size"][1] == 64 and set(run.differences) == {
        "steps",
        "image_size",
        "targets.contrast_structure",
    }


def test_steps_that_were_taken_again_count_once(workdir: pathlib.Path):
    with (workdir / "metrics.jsonl").open("a") as file:
        for line in ({"step": 20, "loss/content": 9.0}, {"step": 20, "eval/style_distance": 0.1, "eval/best": True}):
            file.write(json.dumps(line) + "\n")
    run = history.read(workdir)
    assert run.losses["loss/content"][-2:] == [(18, pytest.approx(1 / 18)), (20, 9.0)]
    assert run.rounds["style_distance"][-1] == (20, 0.1) and run.best == [10, 20]


def test_lines_that_are_cut_off_and_values_that_are_no_numbers_are_left_out(workdir: pathlib.Path):
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 41, "loss/content": NaN, "loss/style": 3.0}\n[1]\n{"step": 42, "loss/sty')
    run = history.read(workdir)
    assert run.losses["loss/content"][-1][0] == 40 and run.losses["loss/style"][-1] == (41, 3.0)


def test_a_run_that_has_only_begun(workdir: pathlib.Path):
    for path in [
        *workdir.glob("*.jsonl"),
        workdir / "data.json",
        workdir / "environment.json",
        *workdir.glob("samples/*"),
    ]:
        path.unlink()
    run = history.read(workdir)
    assert (run.step, run.best, run.samples, run.data, run.alarms) == (0, [], {}, {}, [])


def test_a_folder_without_a_run_is_refused(tmp_path: pathlib.Path):
    with pytest.raises(types.InputError, match="holds no run"):
        history.read(tmp_path)
