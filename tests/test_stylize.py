"""Stylising as a user does it, with a run trained for two steps."""

import io
import json
import pathlib
import subprocess
import sys

import imagecodecs
import numpy as np
import pytest
from PIL import Image

import gqst
from gqst import cli, stylize, types
from gqst.inference import styles
from gqst.training import loop
from tests import conftest


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> pathlib.Path:
    """A run of style_image with checkpoints of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("stylise") / "run"
    changes = ["steps=2", "round_every=1", "checkpoint_every=1", "log_every=1", "generator.filters=4"]
    loop.fit(conftest.small("style_image", *changes), folder, devices=1, quiet=True)
    return folder


def test_every_picture_of_a_folder_at_its_own_size(capsys, workdir, photos, tmp_path):
    with pytest.raises(SystemExit) as end:
        arguments = ["--workdir", str(workdir), "--input", str(photos), "--output", str(tmp_path / "out")]
        cli.run(lambda: stylize.main(arguments))
    said = capsys.readouterr()
    assert end.value.code == 1  # one was left out
    assert "4 pictures written" in said.out and "1 left out" in said.out
    sizes = {
        p.relative_to(tmp_path / "out").as_posix(): Image.open(p).size for p in sorted((tmp_path / "out").rglob("*.*"))
    }
    assert sizes == {
        "alpha.webp": (61, 47),
        "deep/again.png": (61, 47),
        "odd.jpg": (61, 47),
        "turned.JPG": (47, 61),
    }
    before = np.asarray(Image.open(photos / "alpha.webp"))[..., 3]
    after = np.asarray(Image.open(tmp_path / "out" / "alpha.webp"))[..., 3]
    np.testing.assert_array_equal(after, before)


def test_shares_are_all_pictures_once(capsys, workdir, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(5):
        Image.new("RGB", (32, 32), (50 * i, 90, 120)).save(tmp_path / "in" / f"{i}.png")
    for share, count in (("0/2", 3), ("1/2", 2)):
        where = ["--workdir", str(workdir), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
        stylize.main([*where, "--share", share, "--skip-existing"])
        assert f"{count} pictures written" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{i}.png" for i in range(5)]
    for wrong in ("2/2", "1", "a/b", "0/0"):
        with pytest.raises(SystemExit):
            stylize.main([*where, "--share", wrong])
        assert "is not I/N" in capsys.readouterr().err


def test_existing_results_are_replaced_or_left_alone_as_the_user_says(capsys, workdir, tmp_path):
    Image.new("RGB", (32, 32), "green").save(tmp_path / "a.png")
    where = ["--workdir", str(workdir), "--input", str(tmp_path / "a.png"), "--output", str(tmp_path / "out")]
    assert stylize.main(where) == 0
    capsys.readouterr()
    with pytest.raises(types.InputError, match=r"the result exists already .*--overwrite"):
        stylize.main(where)
    assert stylize.main([*where, "--skip-existing"]) == 0 and "1 already existed" in capsys.readouterr().out
    assert stylize.main([*where, "--overwrite"]) == 0 and "1 picture written" in capsys.readouterr().out


def test_a_dry_run_loads_no_network(capsys, photos, tmp_path):
    arguments = ["--input", str(photos), "--output", str(tmp_path / "out"), "--json", str(tmp_path / "plan.json")]
    assert stylize.main(["--workdir", str(tmp_path / "none"), *arguments, "--dry-run"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert f"{photos / 'turned.JPG'} (47x61) -> {tmp_path / 'out' / 'turned.JPG'}" in said
    assert said[-1] == "4 pictures of 2 sizes would be stylised, 1 cannot be read"
    assert json.loads((tmp_path / "plan.json").read_text())["totals"] == {"pictures": 5, "planned": 4, "failed": 1}
    assert not (tmp_path / "out").exists()


def test_standard_input_and_output(environment, workdir, tmp_path):
    picture = Image.new("RGB", (40, 32), "teal")
    buffer = io.BytesIO()
    picture.save(buffer, "BMP")
    command = [sys.executable, "-m", "gqst.stylize", "--workdir", str(workdir), "--input", "-", "--output", "-"]
    done = subprocess.run(command, input=buffer.getvalue(), env=environment, capture_output=True)
    assert done.returncode == 0 and done.stderr == b""
    result = Image.open(io.BytesIO(done.stdout))
    assert result.format == "PNG" and result.size == (40, 32)
    broken = subprocess.run(command, input=b"no picture", env=environment, capture_output=True, text=False)
    assert broken.returncode == 2 and broken.stdout == b""
    assert broken.stderr.decode().strip() == "gqst: error: standard input: it is not a picture"


def test_the_report_and_16_bits(workdir, tmp_path):
    Image.fromarray(np.full((32, 40), 40_000, np.uint16)).save(tmp_path / "deep.png")
    arguments = ["--input", str(tmp_path / "deep.png"), "--output", str(tmp_path / "out"), "--depth", "16"]
    assert stylize.main(["--workdir", str(workdir), *arguments, "--json", str(tmp_path / "report.json")]) == 0
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["totals"] == {"pictures": 1, "written": 1} and content["options"]["depth"] == 16
    assert content["pictures"][0]["size"] == [40, 32]
    written = imagecodecs.png_decode((tmp_path / "out" / "deep.png").read_bytes())
    assert written.dtype == np.uint16 and written.shape == (32, 40, 3) and len(np.unique(written % 257)) > 1


@pytest.mark.slow
def test_a_seed_gives_variants(capsys, workdir, tmp_path):
    changes = ["steps=1", "generator.filters=4", "generator.noise=True"]
    noisy = tmp_path / "noisy"
    loop.fit(conftest.small("style_image", *changes), noisy, devices=1, quiet=True)
    styles.pack(noisy, tmp_path / "noisy.safetensors")
    Image.new("RGB", (48, 40), (90, 120, 150)).save(tmp_path / "flat.png")

    def styled(origin, name, *seed):
        out = tmp_path / f"{name}.png"
        stylize.main([*origin, "--input", str(tmp_path / "flat.png"), "--output", str(out), *seed])
        return np.asarray(Image.open(out)).astype(int)

    run, style = ["--workdir", str(noisy)], ["--style", str(tmp_path / "noisy.safetensors")]
    plain, zero, other = styled(run, "a"), styled(run, "b", "--seed", "0"), styled(run, "c", "--seed", "7")
    assert np.abs(plain - zero).max() <= 1 and np.abs(plain - other).max() > 3
    assert np.abs(styled(style, "d", "--seed", "7") - other).max() <= 2  # in float16
    with pytest.raises(types.InputError, match=r"no noise .* generator\.noise=True"):
        styled(["--workdir", str(workdir)], "e", "--seed", "7")
    for wrong in (str(2**32), "x"):
        with pytest.raises(SystemExit):
            styled(run, "f", "--seed", wrong)
        assert f"argument --seed: {wrong!r} is not a seed" in capsys.readouterr().err


def test_values_that_are_none(capsys):
    for flag, value in (("--strength", "1.1"), ("--min-structure", "x"), ("--quality", "0"), ("--memory", "2X")):
        with pytest.raises(SystemExit):
            stylize.main(["--workdir", "w", "--input", "i", "--output", "o", flag, value])
        assert f"argument {flag}: {value!r} is not a" in capsys.readouterr().err


def test_the_best_round_is_the_one_that_is_loaded(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    best = max(line["step"] for line in lines if line.get("eval/best"))
    assert gqst.load_generator(workdir).step == best
    assert gqst.load_generator(workdir, which="last").step == 2
