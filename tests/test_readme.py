"""Every command and all Python of the README and the guides runs, at a small size, on pictures as they describe."""

import importlib.util
import json
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import gqst
from tests import conftest, site

# The README, then the guides as the site has them; what a guide repeats runs once.
PAGES = ("README.md", *(f"docs/{page}" for page in site.pages() if not page.startswith("api/")))
TEXT = "\n".join((conftest.ROOT / page).read_text(encoding="utf-8") for page in PAGES)
COMMANDS = list(
    dict.fromkeys(c for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S) for c in block.strip().splitlines())
)
PYTHON = list(dict.fromkeys(re.findall(r"```python\n(.*?)```", TEXT, re.S)))
TRAINING = [c for c in COMMANDS if c.startswith("python -m gqst.train ")]
ALL_SMALL = [
    "metrics=()",
    "image_size=32",
    "batch_size=2",
    "preprocess.load_size=40",
    "generator.filters=4",
    "round_size=None",
]
FEW_STEPS = ["discriminator.filters=4", "steps=2", "log_every=1", "samples=1"]
ONE_LAYER = ["discriminator.layers=1"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> pathlib.Path:
    """A folder with what the pages name: mine, photos, paintings, pairs, inputs, truths."""
    root = tmp_path_factory.mktemp("readme")
    demo = conftest.ROOT / "gqst/data/demo"
    photos = [_small(p) for p in sorted((demo / "photos/train").glob("*.jpg"))[:4]]
    prints = [_small(p) for p in sorted((demo / "ukiyoe/train").glob("*.jpg"))[:4]]
    pairs = [Image.fromarray(np.hstack([a, b])) for a, b in zip(photos, prints, strict=True)]
    for folder, pictures in {
        "mine/trainA": photos,
        "mine/trainB": prints,
        "photos": photos,
        "paintings": prints,
        "pairs/train": pairs,
        "pairs/test": pairs[:1],
        "inputs": photos,
        "truths": prints,
    }.items():
        (root / folder).mkdir(parents=True)
        for i, picture in enumerate(pictures):
            picture.save(root / folder / f"{i}.png")
    prints[0].save(root / "painting.jpg")
    photos[0].save(root / "photo.jpg")
    return root


def test_the_readme_has_the_two_commands_and_the_ci_runs_the_second():
    setup, tests = COMMANDS[:2]
    assert "python3 -m venv .venv" in setup and "configs/quickstart.py" in setup and "gqst.stylize" in setup
    ci = (conftest.ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert tests.split("&&")[1].split(".venv/bin/")[1].strip() in ci


@pytest.mark.slow
def test_the_first_command_trains_and_stylises(folders, environment):
    first = COMMANDS[0].split(" && ")
    train, stylise = [part.replace(".venv/bin/python", "python") for part in first[2:]]
    train = train.replace("configs/quickstart.py", str(conftest.ROOT / "configs/quickstart.py"))
    # The generator stays as it is: it starts with a style.
    small = [change for change in ALL_SMALL if not change.startswith("generator.")]
    _run(train, folders, environment, more=["--set", *small, *FEW_STEPS])
    _run(stylise, folders, environment)
    assert len(list((folders / "runs/demo/stylised").glob("*.jpg"))) == 4


@pytest.mark.slow
def test_every_other_command(folders, environment, buckets):
    for command in COMMANDS[2:]:
        if "data=tfds" in command:
            continue  # downloads; tests/data/test_tfds.py covers the source
        more = []
        if command in TRAINING:
            unet = "pix2pix" in command
            more = ["--set", *ALL_SMALL, *FEW_STEPS, "generator.depth=3" if unet else "generator.blocks=1"]
            more += ONE_LAYER if any(name in command for name in ("restore", "pix2pix", "cyclegan")) else []
            more += ["steps=4"] if "steps=" in command else []
            if "start_from=" in command or "quickstart" in command:
                more = [change for change in more if not change.startswith("generator.")]
        if "--dry-run" in command:
            more = []
        if "gqst.doctor" in command:
            more = ["--size", "32"]
        if "gqst.sweep" in command:
            more = ["--set", *ALL_SMALL, *FEW_STEPS, "round_every=1", "--trials", "1"]
        if "--coordinator" in command:
            command = command.replace("host0:8476 --processes 2", f"127.0.0.1:{conftest.free_port()} --processes 1")
        if "gqst.plan" in command:
            small = ["--no-search", "--set", *ALL_SMALL, *FEW_STEPS, *ONE_LAYER, "generator.blocks=1"]
            done = _call(command, folders, environment | buckets, small)
            installed = importlib.util.find_spec("libtpu") is not None
            assert done.returncode == (0 if installed else 2), done.stderr
            assert installed or done.stderr.endswith("pip install 'gqst[plan]'\n")
            continue
        # Small pictures: the first command of all stylises the bundled ones.
        command = command.replace("--input demo:photos/test", "--input photos")
        # The last --set wins, so the size of the command itself is shrunk too.
        _run(command, folders, environment | buckets, more=more)
    assert len(list((folders / "stylised").glob("*.png"))) == 4
    assert (folders / "runs/painting/checkpoints/4").is_dir()


@pytest.mark.slow
def test_the_tfds_command_says_what_is_missing_offline_or_trains(folders, environment):
    command = next(c for c in COMMANDS if "data=tfds" in c)
    done = _call(command, folders, {**environment, "HTTPS_PROXY": "http://127.0.0.1:9"}, ["data.data_dir=tfds"])
    assert done.returncode == 2 and "cycle_gan/horse2zebra" in done.stderr.splitlines()[-1], done.stderr


@pytest.mark.slow
def test_the_python_of_the_pages(folders, environment, monkeypatch):
    """The blocks in their order and in one folder, since later ones read what earlier ones write."""
    command = "python -m gqst.train --config style_image --workdir runs/python"
    _run(command, folders, environment, more=["--set", *ALL_SMALL, *FEW_STEPS, "generator.blocks=1"])
    monkeypatch.chdir(folders)
    for family in (gqst.metrics.METRICS, gqst.losses.TERMS):
        monkeypatch.setattr(family, "_members", dict(family._members))  # what a guide registers is forgotten again
    # One picture for each of the eight devices of the tests.
    small = [*ALL_SMALL[1:], *FEW_STEPS, *ONE_LAYER, "generator.blocks=1", "round_every=2", "batch_size=8"]
    small += ["start_from=None"]
    spaces = []
    for block in PYTHON:
        code = block.replace('"runs/painting"', '"runs/python"')
        code = re.sub(r"(load_config\(.*)\)", r"\1, *small)", code)
        spaces.append({"__name__": "guide", "small": small})
        exec(compile(code, "docs", "exec"), spaces[-1])
    stylise, own_loop, alone, extended = spaces

    assert stylise["fake"].shape == stylise["photo"].shape == (48, 64, 3)
    assert 0 <= stylise["fake"].min() <= stylise["fake"].max() <= 1

    assert int(own_loop["state"].step) == 2
    written = gqst.read_picture("styled.png")
    np.testing.assert_allclose(written, own_loop["fake"][0], atol=0.5 / 255 + 1e-6)

    gap = np.abs(written - stylise["photo"])
    np.testing.assert_allclose(alone["distance"], [gap.mean()], rtol=1e-5)
    assert alone["similarity"].shape == (1,) and 0 < alone["similarity"][0] < 1

    lines = [json.loads(line) for line in pathlib.Path("runs/own/metrics.jsonl").read_text().splitlines()]
    assert any("eval/vividness" in line for line in lines) and any("loss/brightness" in line for line in lines)
    named = ("targets.vividness=0.4", "losses.brightness.goal=0.6")
    assert all(f"`{change}`" in TEXT for change in named)
    recipe = gqst.Recipe(gqst.load_config("quickstart", *named))
    assert [(target.metric, target.value) for target in recipe.targets if target.labels] == [("vividness", 0.4)]
    assert next(entry.term.goal for entry in recipe.objective if entry.label == "brightness") == 0.6
    assert extended["cfg"].losses["brightness"].weight == 2


@pytest.mark.slow
def test_an_installed_wheel_works_from_any_folder(tmp_path, environment):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", tmp_path / "dist", conftest.ROOT], check=True)
    wheel = next((tmp_path / "dist").glob("gqst-*.whl"))
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel]
    subprocess.run(install, check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    installed = {**environment, "PYTHONPATH": str(site)}
    where = "import gqst, pathlib; print(pathlib.Path(gqst.__file__).parent)"
    done = subprocess.run([sys.executable, "-c", where], env=installed, cwd=elsewhere, capture_output=True)
    assert done.stdout.decode().strip() == str(site / "gqst")
    said = _run("python -m gqst.train --config quickstart --dry-run", elsewhere, installed)
    assert "train/source: 10 pictures" in said


def _small(path: pathlib.Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB").resize((64, 48))


def _call(
    command: str, folder: pathlib.Path, environment: dict[str, str], more: list[str]
) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, *shlex.split(command)[1:], *more]
    return subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True)


def _run(command: str, folder: pathlib.Path, environment: dict[str, str], more: list[str] | None = None) -> str:
    done = _call(command, folder, environment, more or [])
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout
