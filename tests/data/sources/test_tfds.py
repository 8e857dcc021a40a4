"""TFDS without TensorFlow: a dataset prepared on disk from real pictures, and cycle_gan mocked."""

import dataclasses
import functools
import hashlib
import http.server
import io
import subprocess
import sys
import textwrap
import threading
import zipfile
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from gqst import config, types
from gqst.data import sources
from gqst.data.sources import file_functions

tfds = pytest.importorskip("tensorflow_datasets")


class GqstTestPictures(tfds.core.GeneratorBasedBuilder):
    """Photographs in colour and in grey, made from what the test hands in."""

    # TFDS looks for the code's package, and fails where that has no __init__.py, as that of tests.
    __module__ = "test_tfds"
    VERSION = tfds.core.Version("1.0.0")
    pictures: ClassVar[list] = []

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "grey": tfds.features.Image(shape=(None, None, 1)),
            "deep": tfds.features.Image(shape=(None, None, 1), dtype=np.uint16),
            "label": np.int64,
            "title": tfds.features.Text(),
            "boxes": tfds.features.Sequence(tfds.features.BBoxFeature()),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": self._generate_examples(0, 4), "test": self._generate_examples(4, 6)}

    def _generate_examples(self, first, last):
        for index in range(first, last):
            grey = self.pictures[index].convert("L")
            deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
            # As files: to encode arrays, TFDS would need TensorFlow.
            yield (
                index,
                {
                    "image": _png(self.pictures[index]),
                    "grey": _png(grey),
                    "deep": _png(deep),
                    "label": index,
                    "title": f"picture {index}",
                    "boxes": [tfds.features.BBox(0.0, 0.0, 0.5, 1.0)],
                },
            )


def _png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return io.BytesIO(buffer.getvalue())


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, pictures):
    """A folder in which TFDS has prepared the dataset."""
    folder = tmp_path_factory.mktemp("tfds")
    GqstTestPictures.pictures = pictures
    # Numbers, texts and boxes would be handled in other ways if TFDS found a TensorFlow.
    file_functions.give_to_tfds()
    builder = GqstTestPictures(data_dir=folder, file_format="array_record")
    builder.download_and_prepare(file_format="array_record")
    return folder


OPTIONS = {
    "dataset": "gqst_test_pictures",
    "train_source": "train",
    "train_target": "train",
    "test_source": "test",
    "test_target": "test",
}


def _build(data_dir, validation=0, **options):
    choice = config.choice("tfds", data_dir=str(data_dir), **{**OPTIONS, **options})
    return sources.build(choice, validation=validation)


def _pixels(domain):
    return {np.asarray(domain.load(i)).tobytes() for i in range(len(domain))}


def test_a_dataset_on_disk_is_read_back(prepared, pictures):
    dataset = _build(prepared)
    assert not dataset.paired
    assert dataset.train.sizes == (4, 4) and dataset.test.sizes == (2, 2)
    assert _pixels(dataset.train.source) == {np.asarray(p).tobytes() for p in pictures[:4]}
    assert dataset.train.source.name(3) == "000003"
    assert dataset.train.source.origin == "gqst_test_pictures train"
    assert sources.check(dataset)["test/target"] == (2, 0)


def test_slices_of_splits(prepared):
    dataset = _build(prepared, train_source="train[:3]", train_target="train[3:]")
    assert dataset.train.sizes == (3, 1)


@pytest.mark.parametrize("feature", ["grey", "deep"])
def test_paired_features_of_one_example(prepared, feature):
    dataset = _build(prepared, paired=True, source_feature=feature, validation=1)
    assert dataset.paired and dataset.train.sizes == (3, 3) and dataset.validation.sizes == (1, 1)
    for index in range(3):
        source, target = dataset.train.source.load(index), dataset.train.target.load(index)
        assert source.mode == "RGB"
        assert np.array_equal(np.asarray(source)[..., 0], np.asarray(target.convert("L")))


def test_without_a_test_split(prepared):
    assert _build(prepared, test_source=None, test_target=None).test is None


def _sentence(data_dir, **options):
    with pytest.raises(types.InputError) as caught:
        _build(data_dir, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400
    return text


def test_each_complaint_is_one_sentence(prepared):
    assert _sentence(prepared, dataset="cycle_gam/horse2zebra") == (
        f"TFDS has no dataset 'cycle_gam' (did you mean 'cycle_gan'?), neither its own nor prepared in {prepared}"
    )
    unknown_config = _sentence(prepared, dataset="cycle_gan/horse2zebr")
    assert unknown_config.startswith("TFDS has no 'cycle_gan/horse2zebr': ")
    assert "horse2zebr not found" in unknown_config and "horse2zebra" in unknown_config
    assert _sentence(prepared, train_source="trainA") == (
        "gqst_test_pictures has no pictures in split 'trainA'; its splits are: test, train"
    )
    assert _sentence(prepared, source_feature="imag") == (
        "data option 'source_feature': gqst_test_pictures has no picture feature 'imag' "
        "(did you mean 'image'?); there are: deep, grey, image"
    )
    assert "no picture feature 'label'" in _sentence(prepared, target_feature="label")
    assert _sentence(prepared, paired=True, train_target="test") == (
        "paired data of gqst_test_pictures comes from one split, not from 'train' and 'test'"
    )
    assert _sentence("gs://bucket/data") == (
        "data option 'data_dir': TFDS keeps datasets on disk, not in gs://bucket/data"
    )
    assert "test_source and test_target together" in _sentence(prepared, test_target=None)
    assert _sentence(prepared, train_source="train[:0]") == (
        "gqst_test_pictures has no pictures in split 'train[:0]'; its splits are: test, train"
    )


def test_a_failed_download_is_one_sentence(tmp_path, monkeypatch):
    def fail(self, **options):
        cause = ConnectionError("no route to host\nand a stack of details")
        raise RuntimeError("Failed to prepare") from cause

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    text = _sentence(tmp_path, dataset="cycle_gan/horse2zebra")
    assert text == ("TFDS cannot download and prepare 'cycle_gan/horse2zebra': ConnectionError: no route to host")


@pytest.fixture
def archive(tmp_path, pictures, monkeypatch):
    """The archive of cycle_gan/horse2zebra with a few pictures, as its builder expects it."""
    path = tmp_path / "mirror" / "horse2zebra.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for index, picture in enumerate(pictures[:6]):
            for domain in ("trainA", "trainB", "testA", "testB")[: 4 if index < 2 else 2]:
                archive.writestr(f"horse2zebra/{domain}/{index}.png", _png(picture).getvalue())
    content = path.read_bytes()
    info = tfds.core.download.checksums.UrlInfo(len(content), hashlib.sha256(content).hexdigest(), path.name)
    builder = type(tfds.builder("cycle_gan/horse2zebra", data_dir=tmp_path / "none"))
    host = "https://efrosgans.eecs.berkeley.edu/cyclegan/datasets"
    maps = tfds.core.download.checksums.UrlInfo(3, hashlib.sha256(b"abc").hexdigest(), "maps.zip")
    monkeypatch.setattr(builder, "url_infos", {f"{host}/horse2zebra.zip": info, f"{host}/maps.zip": maps})
    return path


def _served(folder):
    """A server of a folder on this machine, to be shut down."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _build_horses(tmp_path, url):
    choice = config.choice("tfds", dataset="cycle_gan/horse2zebra", data_dir=str(tmp_path / "data"), url=url)
    return sources.build(choice, validation=0)


def test_a_mirror_is_prepared_without_tensorflow(tmp_path, archive, pictures):
    server = _served(archive.parent)
    url = f"http://127.0.0.1:{server.server_port}/horse%32zebra.zip?version=1"
    # What somebody has put there is checked, too.
    (tmp_path / "data" / "downloads" / "manual").mkdir(parents=True)
    (tmp_path / "data" / "downloads" / "manual" / "horse2zebra.zip").write_bytes(b"a part")
    dataset = _build_horses(tmp_path, url)
    server.shutdown()
    assert dataset.train.sizes == (6, 6) and dataset.test.sizes == (2, 2)
    assert _pixels(dataset.train.target) == {np.asarray(p).tobytes() for p in pictures[:6]}
    assert "tensorflow" not in sys.modules
    # What is prepared is not fetched again.
    assert _build_horses(tmp_path, url).train.sizes == (6, 6)


def test_a_mirror_on_disk_that_holds_something_else_leaves_nothing(tmp_path, archive):
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    with pytest.raises(types.InputError, match=r"is not the archive of cycle_gan/horse2zebra: [\d,]+ bytes with SHA"):
        _build_horses(tmp_path, str(archive))
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_no_more_is_copied_than_the_archive_has(tmp_path, archive, monkeypatch):
    size = archive.stat().st_size
    archive.write_bytes(bytes(10 * size))
    with pytest.raises(types.InputError, match=f"is not the archive of cycle_gan/horse2zebra: {size + 1:,} bytes"):
        _build_horses(tmp_path, str(archive))


def test_a_mirror_that_cannot_be_used_is_one_sentence(tmp_path, archive):
    with pytest.raises(
        types.InputError, match=r"no archive 'maps.zip'; a mirror names it as TFDS does: horse2zebra.zip$"
    ):
        _build_horses(tmp_path, "https://mirror.example/maps.zip")
    for wrong in ("http://[bad/horse2zebra.zip", "http://mirror.example/é/horse2zebra.zip"):
        with pytest.raises(types.InputError, match=r"is no address|cannot be copied"):
            _build_horses(tmp_path, wrong)
    with pytest.raises(types.InputError, match=r"no archive 'horses.zip' \(did you mean 'horse2zebra.zip'\?\)"):
        _build_horses(tmp_path, "https://mirror.example/horses.zip")
    server = _served(tmp_path)
    url = f"http://127.0.0.1:{server.server_port}/horse2zebra.zip"
    with pytest.raises(types.InputError, match=r"horse2zebra.zip cannot be copied: HTTP Error 404: File not found$"):
        _build_horses(tmp_path, url)
    server.shutdown()
    server.server_close()
    with pytest.raises(types.InputError, match=r"cannot be copied: .*refused"):
        _build_horses(tmp_path, url)


def test_what_datasets_find_in_place_of_tensorflow(tmp_path):
    from tensorflow_datasets.core.utils.lazy_imports_utils import tensorflow as tf

    file_functions.give_to_tfds()
    (tmp_path / "b.txt").write_text("é", encoding="utf-8")
    tf.io.gfile.copy(tmp_path / "b.txt", tmp_path / "a.txt")
    with pytest.raises(FileExistsError, match=r"a\.txt exists"):
        tf.io.gfile.copy(tmp_path / "b.txt", tmp_path / "a.txt")
    with tf.io.gfile.GFile(tmp_path / "a.txt") as file:
        assert file.read() == "é"
    assert tf.io.gfile.glob([f"{tmp_path}/*.txt"]) == [f"{tmp_path}/a.txt", f"{tmp_path}/b.txt"]
    tf.io.gfile.makedirs(tmp_path / "c" / "d")
    tf.io.gfile.makedirs(tmp_path / "c" / "d")
    assert tf.compat.as_text(b"x") == tf.compat.as_text("x") == "x" and tf.compat.as_bytes("x") == b"x"
    with pytest.raises(AttributeError, match=r"more of TensorFlow than files \(tf\.io\.gfile\.stat\): pip install"):
        _ = tf.io.gfile.stat
    assert not hasattr(tf, "image")


def test_other_libraries_still_find_no_tensorflow():
    """As etils, which would write to buckets through it."""
    script = """
        import importlib.util, sys
        from gqst.data.sources import file_functions
        file_functions.give_to_tfds()
        from etils import enp, epath
        from etils.epath import backend
        assert importlib.util.find_spec("tensorflow") is None and not enp.lazy.has_tf
        assert epath.Path("gs://runs/x")._backend is backend.fsspec_backend
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120)


def test_a_format_without_random_access_is_one_sentence(prepared, monkeypatch):
    def fail(self, **options):
        raise NotImplementedError("Random access data source is not supported.\nAnd more.")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_data_source", fail)
    assert "in a format without random access" in _sentence(prepared)


def test_mocked_cycle_gan():
    with tfds.testing.mock_data(num_examples=3):
        dataset = sources.build(config.choice("tfds"), validation=1)
        assert dataset.train.sizes == (2, 2) and dataset.test.sizes == (3, 3)
        picture = dataset.train.source.load(0)
        assert picture.mode == "RGB" and min(picture.size) > 0


def test_a_damaged_record_is_skipped(prepared):
    dataset = _build(prepared)
    domain = dataset.train.source.pictures
    whole = domain.read

    def read(index):
        if index == 0:
            raise ValueError("a broken record")
        return {"image": b"no picture"} if index == 1 else whole(index)

    broken = dataclasses.replace(domain, read=read)
    with pytest.raises(sources.UnreadableError, match="pictures train 000000: a broken record"):
        broken.load(0)
    with pytest.raises(sources.UnreadableError, match="pictures train 000001: it is not a picture"):
        broken.load(1)
    assert broken.load(2).mode == "RGB"


def test_no_tensorflow_is_imported(prepared):
    script = f"""
        import sys
        from gqst import config
        from gqst.data import pipeline, sources
        choice = config.choice("tfds", data_dir={str(prepared)!r}, **{OPTIONS!r})
        dataset = sources.build(choice, validation=1)
        cfg = config.Config(image_size=16)
        next(pipeline.make_iterator(dataset, cfg, batch_size=2))
        assert "tensorflow_datasets" in sys.modules
        assert not [m for m in sys.modules if m.split(".")[0] in ("tensorflow", "torch")]
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120)


def test_other_sources_do_not_import_tfds():
    script = """
        import sys
        from gqst import config
        from gqst.data import pipeline, sources
        sources.build(config.choice("demo"))
        assert "tensorflow_datasets" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120)
