"""Packed pictures as a data source."""

import pathlib
import shutil

import numpy as np
import pytest

from gqst import config, types
from gqst.data import packing, pipeline, sources
from gqst.pictures import folders
from tests import conftest


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> pathlib.Path:
    """A data set as folders in `plain`, and packed in `packed`."""
    root = tmp_path_factory.mktemp("records")
    for name, place in (("trainA", "photos/train"), ("trainB", "ukiyoe/train"), ("testA", "photos/test")):
        (root / "plain" / name).mkdir(parents=True)
        for path in sorted(folders.resolve(f"demo:{place}").glob("*.jpg"))[:4]:
            conftest.thumbnail(path).save(root / "plain" / name / path.name)
        packing.pack(root / "plain" / name, root / "packed" / name, shard=3, workers=1)
    shutil.copytree(root / "plain/testA", root / "plain/testB")
    shutil.copytree(root / "packed/testA", root / "packed/testB")
    return root


def _config(root: pathlib.Path, name: str) -> config.Config:
    place = root / ("packed" if name == "records" else "plain")
    return conftest.small("photo2painting", f"data={name}", f"data.root={place}", "validation=1")


def test_batches_are_those_of_the_folders(root: pathlib.Path):
    batches = []
    for name in ("folders", "records"):
        cfg = _config(root, name)
        dataset = sources.load(cfg)
        iterator = pipeline.make_iterator(dataset, cfg)
        batches.append([next(iterator) for _ in range(3)])
        state = iterator.get_state()
        batches[-1].append(next(iterator))
        iterator.close()
        again = pipeline.make_iterator(dataset, cfg)
        again.set_state(state)
        # Gone on with from a noted position, it is the same batch.
        np.testing.assert_array_equal(next(again)["source"], batches[-1][-1]["source"])
        again.close()
    for one, other in zip(*batches, strict=True):
        np.testing.assert_array_equal(one["source"], other["source"])
        np.testing.assert_array_equal(one["target"], other["target"])


def test_names_and_numbers_are_those_of_the_folders(root: pathlib.Path):
    prints = [sources.fingerprint(sources.load(_config(root, name))) for name in ("folders", "records")]
    assert prints[0] == prints[1] and prints[0]["test/source"][0] == 4


def test_a_folder_that_is_not_packed_says_how_to_pack_it(root: pathlib.Path):
    cfg = conftest.small("photo2painting", "data=records", f"data.root={root / 'plain'}")
    with pytest.raises(types.InputError, match=r"holds no packed pictures.*trainA.*run python -m gqst\.pack"):
        sources.load(cfg)
