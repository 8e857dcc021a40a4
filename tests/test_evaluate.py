"""Evaluation as a user does it: of folders, and of a run."""

import csv
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import skimage.metrics
from PIL import Image

from gqst import cli, evaluate
from gqst.evaluation import evaluator, networks
from gqst.metrics import sets
from gqst.models.features import base as features_base
from gqst.training import loop
from tests import conftest

DEMO = conftest.ROOT / "gqst/data/demo"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Five photographs as sources, darker ones as truths, outputs in between, and four prints; 48 x 40 px."""
    root = tmp_path_factory.mktemp("evaluate")
    for name in ("sources", "truths", "outputs", "style"):
        (root / name).mkdir()
    for i, path in enumerate(sorted((DEMO / "photos/train").glob("*.jpg"))[:5]):
        photo = np.asarray(Image.open(path).convert("RGB").resize((48, 40)))
        Image.fromarray(photo).save(root / "sources" / f"{i}.png")
        Image.fromarray((0.6 * photo).astype(np.uint8)).save(root / "truths" / f"{i}.png")
        Image.fromarray((0.7 * photo).astype(np.uint8)).save(root / "outputs" / f"{i}.png")
    for i, path in enumerate(sorted((DEMO / "ukiyoe/train").glob("*.jpg"))[:4]):
        Image.open(path).convert("RGB").save(root / "style" / f"print{i}.png")
    (root / "outputs" / "broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture
def few(monkeypatch):
    """Metrics of sets for as few pictures as tests have."""
    monkeypatch.setattr(evaluator, "FEWEST", 2)


def _call(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: evaluate.main([str(a) for a in arguments]))
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


def _read(folder, i):
    return np.asarray(Image.open(folder / f"{i}.png"), np.float32) / np.float32(255)


@pytest.mark.slow
def test_folders_of_truths(few, capsys, folders, tmp_path):
    where = {name: folders / name for name in ("outputs", "truths", "sources")}
    flags = ["--outputs", where["outputs"], "--references", where["truths"], "--sources", where["sources"]]
    code, said, warned = _call(capsys, *flags, "--json", tmp_path / "a.json", "--csv", tmp_path / "deep" / "a.csv")
    assert code == 0 and "pictures: 5" in said and "matched by name" in said and "size: 48x40" in said
    if "broken.png" in warned:
        assert "left out" in warned
    report = json.loads((tmp_path / "a.json").read_text())
    pairs = [(_read(where["outputs"], i), _read(where["truths"], i)) for i in range(5)]
    psnr = [skimage.metrics.peak_signal_noise_ratio(t, o, data_range=1.0) for o, t in pairs]
    assert report["psnr"] == pytest.approx(np.mean(psnr), abs=1e-3)
    assert report["pixel_accuracy"] == pytest.approx(
        np.mean([(np.abs(o - t) <= 0.05 + 1e-6).all(-1).mean() for o, t in pairs]), abs=1e-4
    )
    assert report["count"] == 5 and report["against"]["psnr"] == "truths" and report["against"]["lpips"] == "truths"
    assert report["intervals"]["psnr"][0] <= report["psnr"] <= report["intervals"]["psnr"][1]
    # The outputs' colours are nearer to the truths than the sources'; the edges are the sources'.
    assert report["baselines"]["untouched sources"]["psnr"] < report["psnr"]
    assert report["contrast_structure"] > 0.9 and report["baselines"]["untouched sources"]["contrast_structure"] > 0.999
    assert "kid" in report and "colour transfer" in report["baselines"]
    rows = list(csv.DictReader((tmp_path / "deep" / "a.csv").open()))
    assert [row["picture"] for row in rows] == [*(f"{i}.png" for i in range(5)), "(all)"]
    np.testing.assert_allclose([float(row["psnr"]) for row in rows[:5]], psnr, atol=1e-3)
    assert rows[0]["kid"] == "" and math.isfinite(float(rows[-1]["kid"]))


@pytest.mark.slow
def test_a_folder_against_a_style(few, capsys, folders, tmp_path):
    flags = ["--outputs", folders / "outputs", "--references", folders / "style", "--size", "48"]
    code, said, _ = _call(capsys, *flags, "--json", tmp_path / "a.json", "--no-baselines")
    assert code == 0 and "against 4 of the style" in said and "biased" in said and "psnr" not in said
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["baselines"] == {} and report["about"]["size"] == "48x48"
    embed = networks.Embedder(features_base.load("efficientnet_lite0"))
    features = []
    for name in ("outputs", "style"):
        paths = sorted((folders / name).glob("[!b]*.png"))
        images = [Image.open(p).convert("RGB") for p in paths]
        sides = [min(i.size) for i in images]
        # A centre crop and Lanczos, as documented.
        cut = [
            i.resize((48, 48), Image.Resampling.LANCZOS, box=_middle(i.size, s))
            for i, s in zip(images, sides, strict=True)
        ]
        features.append(embed(np.stack([np.asarray(i, np.float32) / 255 for i in cut])))
    assert report["kid"] == pytest.approx(sets.kid(*features).value, rel=1e-3, abs=1e-2)


def test_one_style_picture_is_no_set(capsys, folders, tmp_path):
    (tmp_path / "one").mkdir()
    Image.open(folders / "style" / "print0.png").save(tmp_path / "one" / "a.png")
    flags = ["--outputs", folders / "outputs", "--references", tmp_path / "one", "--sources", folders / "sources"]
    code, said, _ = _call(capsys, *flags, "--no-baselines")
    assert code == 0 and "contrast_structure" in said
    assert "kid, frechet: not reported, 1 pictures of a set are fewer than 10" in said


def test_a_style_that_cannot_be_read_has_no_figures(capsys, folders, tmp_path):
    (tmp_path / "style").mkdir()
    (tmp_path / "style" / "a.png").write_bytes(b"no picture")
    flags = ["--outputs", folders / "outputs", "--references", tmp_path / "style", "--sources", folders / "sources"]
    code, said, _ = _call(capsys, *flags, "--no-baselines")
    assert code == 0 and "contrast_structure" in said and "style_gain" not in said
    assert "kid, frechet: not reported, 0 pictures of a set are fewer than 10" in said


@pytest.mark.slow
def test_statistics_of_a_style_take_the_place_of_its_pictures(few, capsys, folders, tmp_path):
    flags = ["--outputs", folders / "outputs", "--no-baselines", "--json", tmp_path / "a.json", "--references"]
    file = tmp_path / "deep" / "style.npz"
    report = []
    for more in ([folders / "style", "--save-statistics", file], [file]):
        code, said, warned = _call(capsys, *flags, *more)
        assert code == 0, warned
        report.append(json.loads((tmp_path / "a.json").read_text()))
    assert report[0]["style_count"] == report[1]["style_count"] == 4 and "style.npz (statistics)" in said
    assert report[1]["kid"] == pytest.approx(report[0]["kid"], rel=1e-6)
    assert report[1]["frechet"] == pytest.approx(report[0]["frechet"], rel=1e-6)
    code, _, said = _call(capsys, *flags, file, "--size", "32")
    assert code == 2 and "holds statistics for size 48x40, not 32x32" in said


@pytest.mark.parametrize(
    ("content", "words"), [(None, "there is no file"), (b"PK no statistics", "holds no statistics"), ({}, "holds no")]
)
def test_what_holds_no_statistics_is_said(capsys, folders, tmp_path, content, words):
    path = tmp_path / "a.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, rows=np.zeros((2, 3)))
    code, _, said = _call(capsys, "--outputs", folders / "outputs", "--references", path)
    assert code == 2 and words in said and "a.npz" in said


def _middle(size, side):
    left, top = ((n - side) / 2 for n in size)
    return left, top, left + side, top + side


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--outputs", "nowhere"], "there is no folder nowhere"),
        (["--outputs", "{}/outputs", "--sources", "{}/style"], "matched by name"),
        (["--workdir", "nowhere"], "nowhere is not the folder of a run"),
        (["--workdir", "nowhere", "--size", "3"], "go with --outputs"),
        (["--outputs", "{}/outputs", "--network", "inception_v3"], "name a file of the published network"),
        (["--outputs", "{}/outputs", "--save-statistics", "a.npz"], "no pictures of a style"),
        (["--outputs", "a", "--save-statistics", "a.txt"], "ends in .npz"),
        (["--outputs", "a", "--size", "0"], "'0' is not a number of pixels"),
    ],
)
def test_what_cannot_be_measured_is_said(capsys, monkeypatch, tmp_path, folders, flags, words):
    monkeypatch.chdir(tmp_path)
    code, _, said = _call(capsys, *(flag.format(folders) for flag in flags))
    assert code == 2 and words in said and "Traceback" not in said


@pytest.mark.slow
def test_a_run_on_a_split_of_its_data(few, capsys, tmp_path):
    changes = ["steps=2", "round_every=2", "checkpoint_every=2", "log_every=1", "generator.filters=4", "validation=2"]
    cfg = conftest.small("quickstart", *changes)
    loop.fit(cfg, tmp_path / "run", devices=1, quiet=True)
    moved = ["--set", "data.source=photos"]  # where they are already
    code, said, _ = _call(capsys, "--workdir", tmp_path / "run", "--json", tmp_path / "a.json", *moved)
    assert code == 0 and "real style pictures" in said and "data: data.source=photos" in said, said
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["about"]["checkpoint"] == 2 and report["about"]["split"] == "test"
    assert report["count"] == len(report["pictures"]) == len(list((DEMO / "photos/test").glob("*.jpg")))
    assert {"contrast_structure", "lpips", "content_retention", "kid", "art_fid"} <= set(report)
    assert report["art_fid"] == pytest.approx((1 + report["lpips"]) * (1 + report["frechet"]))
    note = tmp_path / "run" / "config.json"
    note.write_text(note.read_text().replace('"validation": 2', '"validation": 0'))
    code, _, said = _call(capsys, "--workdir", tmp_path / "run", "--split", "validation")
    assert code == 2 and "has no split 'validation'; it has: train, test" in said


def test_equal_pictures_give_no_nonsense(capsys, folders, tmp_path):
    """As case "same" of clean-fid#36: a KID of -295, a PSNR of inf [nan, nan]."""
    flags = ["--outputs", folders / "truths", "--references", folders / "truths", "--no-baselines"]
    code, said, _ = _call(capsys, *flags, "--json", tmp_path / "a.json")
    assert code == 0 and "nan" not in said
    assert "psnr: infinite, since 5 of 5 pictures equal what they are compared with" in said
    assert "kid, frechet: not reported, 5 pictures of a set are fewer than 10" in said
    report = json.loads((tmp_path / "a.json").read_text(), parse_constant=None)
    assert report["psnr"] is None and "psnr" not in report["intervals"] and "kid" not in report
    assert set(report["notes"]) == {"psnr", "kid", "frechet"}


def test_what_references_are_is_the_users_choice_and_told(capsys, folders, tmp_path):
    flags = ["--outputs", folders / "outputs", "--references", folders / "truths", "--no-baselines"]
    for more, told, metric in (
        ([], "(matched by name, truths of 5 of 6 outputs; --unpaired takes them as a set of the style)", True),
        (["--paired"], "(matched by name, truths of 5 of 6 outputs)", True),
        (["--unpaired"], "(a set)", False),
    ):
        code, said, _ = _call(capsys, *flags, *more)
        assert code == 0 and f"references: {folders / 'truths'} {told}" in said
        assert ("ssim +" in said) == metric
    said = _call(capsys, *flags[:2], "--references", folders / "style", "--paired")
    assert said[0] == 2 and "no picture in" in said[2] and "--paired matches by name" in said[2]


def test_outputs_without_a_partner_are_counted(capsys, folders, tmp_path):
    for i in range(3):
        Image.open(folders / "sources" / f"{i}.png").save(tmp_path / (f"{i}.png" if i else "0_fake.png"))
    code, said, _ = _call(capsys, "--outputs", tmp_path, "--sources", folders / "sources", "--no-baselines")
    where = folders / "sources"
    assert code == 0 and "pictures: 2" in said
    assert (
        f"without sources: 1 of 3 outputs have no picture of their name in {where}, and are not measured: 0_f" in said
    )
    assert f"unused sources: 3 of 5 pictures in {where} have no output of their name" in said


def test_two_references_of_one_name_are_an_error(capsys, folders, tmp_path):
    for suffix in ("jpg", "png"):
        Image.open(folders / "truths" / "0.png").save(tmp_path / f"0.{suffix}")
    code, _, said = _call(capsys, "--outputs", tmp_path / ".." / tmp_path.name, "--sources", tmp_path)
    assert code == 2 and f"{tmp_path} has two pictures for one name, 0.jpg and 0.png (--sources): remove one" in said


def test_figures_are_written_whatever_the_console_and_the_names(environment, folders, tmp_path):
    (tmp_path / "in").mkdir()
    for name in (b"caf\xe9.png", "写.png".encode()):
        (tmp_path / "in" / os.fsdecode(name)).write_bytes((folders / "truths" / "0.png").read_bytes())
    arguments = ["--outputs", "in", "--sources", "in", "--no-baselines", "--csv", "a.csv", "--json", "a.json"]
    done = subprocess.run(
        [sys.executable, "-m", "gqst.evaluate", *arguments],
        env={**environment, "PYTHONIOENCODING": "ascii"},
        cwd=tmp_path,
        capture_output=True,
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert json.loads((tmp_path / "a.json").read_text())["count"] == 2
    assert "caf\\udce9.png" in (tmp_path / "a.csv").read_text("utf-8")


def test_only_where_the_data_of_a_run_is_can_be_set(capsys, tmp_path):
    for flags in (["--workdir", tmp_path, "--set", "steps=3"], ["--outputs", tmp_path, "--set", "data.root=x"]):
        code, _, said = _call(capsys, *flags)
        assert code == 2 and "only keys of data of a run (--workdir) can be set here" in said
