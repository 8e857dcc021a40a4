"""Small real pictures, made from the bundled demo set."""

import pathlib
from collections.abc import Callable, Sequence
from importlib import resources

import pytest
from PIL import Image

from tests import conftest

DEMO = pathlib.Path(str(resources.files("gqst.data") / "demo"))
PHOTOS = sorted((DEMO / "photos" / "train").glob("*.jpg"))
PRINTS = sorted((DEMO / "ukiyoe" / "train").glob("*.jpg"))


@pytest.fixture(scope="session")
def prints() -> list[Image.Image]:
    """Four prints, at most 96 pixels wide or high."""
    return [conftest.thumbnail(path) for path in PRINTS[:4]]


@pytest.fixture
def fill() -> Callable[..., pathlib.Path]:
    """Writes pictures into a folder, as 0.png and so on or under given names."""

    def write(folder: pathlib.Path, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> pathlib.Path:
        names = names or [f"{i}.png" for i in range(len(images))]
        for name, image in zip(names, images, strict=True):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
        return folder

    return write


@pytest.fixture
def unpaired(tmp_path, pictures, prints, fill) -> pathlib.Path:
    """A folder with trainA (6), trainB (4), testA (2) and testB (1)."""
    root = tmp_path / "unpaired"
    fill(root / "trainA", pictures)
    fill(root / "trainB", prints)
    fill(root / "testA", pictures[:2])
    fill(root / "testB", prints[:1])
    return root
