"""Settings of every test: CPU, 8 fake devices, strict JAX; and small forms of the real configs."""

import logging
import os
import tempfile

# Before JAX is imported. Level 0: the tests compile far more than they run.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=8"
# What is kept between runs is kept between tests of one session alone: programs too, which many tests share.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="gqst-cache-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(os.environ["XDG_CACHE_HOME"], "programs")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

import pathlib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
import pytest
from PIL import Image

from gqst import config, overrides, storage, types

jax.config.update("jax_numpy_rank_promotion", "raise")
ROOT = pathlib.Path(__file__).parent.parent

SMALL = (
    "image_size=32",
    "batch_size=2",
    "preprocess.load_size=40",
    "generator.filters=8",
    "discriminator.filters=8",
    "discriminator.layers=2",
    "checkpoint_every=20",
    "round_every=20",
    "log_every=5",
    "metrics=()",
    "round_size=None",
)
# The frozen features of the real one would be most of the time of a test.
PIXELS = (
    "discriminator=patch",
    "discriminator.norm=none",
    "discriminator.spectral_norm=True",
    "generator.norm=instance",
    "generator_optimizer.schedule=constant",
    "generator_optimizer.warmup_steps=0",
)
# A game, which most tests are about.
GAME = (
    "losses.adversarial=1",
    "losses.adversarial.form=hinge",
    "losses.structure.floor=0.6",
    "generator.start_at_identity=True",
    "generator_optimizer.learning_rate=5e-4",
    "generator_optimizer.options={}",
    "ema_decay=0.999",
)
# Two folders, and a generator without a norm.
FOLDERS = (
    "start_from=None",
    "generator=resnet",
    "data=demo",
    "data.source=photos",
    "data.target=ukiyoe",
    "discriminator=multiscale",
    "discriminator.layers=1",
    "discriminator.scales=2",
    "discriminator.norm=none",
    "discriminator.spectral_norm=True",
    "generator.norm=none",
    "generator.start_at_identity=True",
    "generator_optimizer.learning_rate=2.5e-4",
    "losses.adversarial=1.5",
    "losses.adversarial.form=hinge",
    "losses.identity=1",
    "losses.content=off",
    "losses.wide_style=off",
    "losses.style=0.1",
    "losses.style.form=moments",
    "losses.style.distance=l2",
    "losses.style.halvings=(0,)",
    "losses.style.layers=('relu1_1', 'relu2_1', 'relu3_1')",
    "losses.structure.floor=0.7",
    "ema_decay=0.995",
    "round_pictures=64",
    "validation=2",
)
WITHOUT_FEATURES = ("losses.content=off", "losses.style=off")
SMALL_RESNET = (*SMALL, "generator.blocks=1")


def small(name: str, *changes: str) -> config.Config:
    """A real config shrunk to what a test can train."""
    shrink = [*SMALL, "generator.depth=3"] if name == "pix2pix" else [*SMALL_RESNET]
    if name == "style_image":
        shrink = [*PIXELS, *GAME, *WITHOUT_FEATURES, *shrink]
    if name == "any_style":
        shrink = [*WITHOUT_FEATURES, "losses.wide_style=off", "losses.asked_structure=1", *shrink]
    if name == "quickstart":
        shrink = [*FOLDERS, *(change for change in shrink if not change.startswith("discriminator.layers"))]
    return overrides.override(overrides.load(name), [*shrink, *changes])


@pytest.fixture
def batch() -> types.Batch:
    """Eight pictures of each domain, 32 px."""
    rng = np.random.default_rng(0)
    return {key: rng.random((8, 32, 32, 3), np.float32) for key in ("source", "target")}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder of compiled programs that the subprocesses of one session share."""
    return tmp_path_factory.mktemp("xla")


@pytest.fixture(scope="session")
def environment(cache: pathlib.Path) -> dict[str, str]:
    """The environment of subprocesses: one CPU device, compiled programs kept."""
    return {
        **os.environ,
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }


@pytest.fixture(scope="session")
def buckets() -> Iterator[dict[str, str]]:
    """The environment in which gs://runs and s3://runs are buckets of this machine."""
    from gcp_storage_emulator import server
    from moto.server import ThreadedMotoServer

    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    ports = {name: free_port() for name in ("gs", "s3")}
    google = server.create_server("127.0.0.1", ports["gs"], in_memory=True, default_bucket="runs")
    amazon = ThreadedMotoServer(ip_address="127.0.0.1", port=ports["s3"], verbose=False)
    spoken = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{ports['gs']}",
        "TENSORSTORE_GCS_HTTP_URL": f"http://127.0.0.1:{ports['gs']}",
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in spoken.items():
            patch.setenv(name, value)
        google.start()
        amazon.start()
        storage.filesystem("s3://runs").mkdir("runs")
        yield spoken
        amazon.stop()
        google.stop()


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Six photographs, at most 96 pixels wide or high."""
    return [thumbnail(path) for path in sorted((ROOT / "gqst/data/demo/photos/train").glob("*.jpg"))[:6]]


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with a picture in every form: nested, odd sizes, alpha, EXIF, and one that is none."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    photo = Image.open(ROOT / "gqst/data/demo/photos/test/china.jpg").resize((61, 47))
    photo.save(folder / "odd.jpg")
    photo.save(folder / "deep" / "again.png")
    alpha = photo.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(photo.size))
    alpha.save(folder / "alpha.webp", lossless=True)
    exif = photo.getexif()
    exif[0x0112] = 6  # to be turned a quarter
    photo.save(folder / "turned.JPG", exif=exif)
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def thumbnail(path: pathlib.Path) -> Image.Image:
    """The picture in a file, at most 96 pixels wide or high."""
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((96, 96))
    return small


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(environment: dict[str, str], tmp_path: pathlib.Path) -> Run:
    """Runs `python -m MODULE ARGS` in an empty folder and gives what it said and its exit code."""

    def call(module: str, *args: str, more: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", module, *map(str, args), *more]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    return call
