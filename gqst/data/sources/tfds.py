"""Any dataset of TensorFlow Datasets with picture features, read without TensorFlow."""

import dataclasses
import functools
import io
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from gqst import registry, storage, types
from gqst.data.sources import base, file_functions, mirrors
from gqst.pictures import decode

_FORMAT = "array_record"
# Paired features come from one record, which is read for one after the other.
_REMEMBERED = 8


@base.SOURCES.register("tfds", paired=lambda options: options["paired"])
def tfds(
    *,
    dataset: str = "cycle_gan/horse2zebra",
    train_source: str = "trainA",
    train_target: str = "trainB",
    test_source: str | None = "testA",
    test_target: str | None = "testB",
    source_feature: str = "image",
    target_feature: str = "image",
    paired: bool = False,
    data_dir: str | None = None,
    url: str | None = None,
) -> base.Dataset:
    """Two domains of a TFDS dataset; downloaded and prepared on the first use.

    Args:
      dataset: Builder, as in `cycle_gan/monet2photo` or `my_dataset/my_config:1.0.0`.
      train_source: Split of source pictures in TFDS notation, as in `train[:80%]`.
      train_target: Split of target pictures.
      test_source: Split of source pictures for testing; None for no test split.
      test_target: Split of target pictures for testing; None for no test split.
      source_feature: Feature that holds the source pictures.
      target_feature: Feature that holds the target pictures.
      paired: Whether both features of an example belong together; source and target then name one split.
      data_dir: Folder of prepared datasets; None is TFDS's own.
      url: Mirror of the dataset's archive, named as the original: an address with http or https, or a file on disk or
        in a bucket; its content is checked. None downloads from where TFDS says.
    """
    builder = _prepared(dataset, data_dir, url)
    _check_feature(builder, dataset, source_feature, "source_feature")
    _check_feature(builder, dataset, target_feature, "target_feature")

    def split(source: str, target: str) -> base.Split:
        if paired and source != target:
            raise types.InputError(f"paired data of {dataset} comes from one split, not from {source!r} and {target!r}")
        first = _open(builder, dataset, source)
        second = first if source == target else _open(builder, dataset, target)
        return base.Split(
            Examples(f"{dataset} {source}", *first, source_feature),
            Examples(f"{dataset} {target}", *second, target_feature),
            paired=paired,
        )

    if (test_source is None) != (test_target is None):
        raise types.InputError("data source 'tfds' takes test_source and test_target together")
    test = None
    if test_source is not None and test_target is not None:
        test = split(test_source, test_target)
    return base.Dataset(train=split(train_source, train_target), test=test)


@dataclasses.dataclass(frozen=True)
class Examples:
    """One picture feature of the examples of a split."""

    origin: str
    examples: Sequence[Any]
    read: Callable[[int], Any]
    feature: str

    def __len__(self) -> int:
        """Number of pictures, readable or not."""
        return len(self.examples)

    def name(self, index: int) -> str:
        """See `Pictures.name`."""
        return f"{index:06d}"

    def load(self, index: int, *, shorter: int | None = None) -> Image.Image:
        """See `Pictures.load`."""
        name = f"{self.origin} {self.name(index)}"
        try:
            picture = self.read(index)[self.feature]
        # Damaged records fail with exceptions of the format and of protobuf.
        except Exception as error:
            raise decode.UnreadableError(name, _first_line(error)) from error
        if isinstance(picture, bytes):
            return decode.decode(io.BytesIO(picture), shorter=shorter, name=name)
        # tfds.testing.mock_data generates arrays, not files.
        return Image.fromarray(np.squeeze(picture)).convert("RGB")


def _prepared(dataset: str, data_dir: str | None, url: str | None) -> Any:
    if data_dir is not None and storage.is_remote(data_dir):
        raise types.InputError(f"data option 'data_dir': TFDS keeps datasets on disk, not in {data_dir}")
    # Slow to import, and needed by this source alone.
    import tensorflow_datasets

    try:
        builder = tensorflow_datasets.builder(dataset, data_dir=data_dir)
    except tensorflow_datasets.core.registered.DatasetNotFoundError as error:
        datasets = tensorflow_datasets.list_builders(with_community_datasets=False)
        name = str(dataset).split("/")[0].split(":")[0]
        raise types.InputError(
            f"TFDS has no dataset {name!r}{registry.hint(name, datasets)}, neither its own nor "
            f"prepared in {data_dir or 'its data folder'}"
        ) from error
    # A wrong config or version raises ValueError, AssertionError or AttributeError.
    except Exception as error:
        raise types.InputError(f"TFDS has no {dataset!r}: {_first_line(_root_cause(error))}") from error
    if url is not None and not builder.is_prepared():
        # Where TFDS looks for files that were downloaded by hand.
        mirrors.copy(builder, dataset, url, pathlib.Path(builder.data_dir_root, "downloads", "manual"))
    file_functions.give_to_tfds()
    try:
        builder.download_and_prepare(file_format=_FORMAT)
    # Downloads fail with exceptions of requests, the disk, checksums and the builder's own code.
    except Exception as error:
        raise types.InputError(
            f"TFDS cannot download and prepare {dataset!r}: "
            f"{type(_root_cause(error)).__name__}: {_first_line(_root_cause(error))}"
        ) from error
    return builder


def _open(builder: Any, dataset: str, split: str) -> tuple[Sequence[Any], Callable[[int], Any]]:
    """Returns the examples of a split, and a reader of them that caches the last few."""
    import tensorflow_datasets

    try:
        examples = builder.as_data_source(split=split)
    except NotImplementedError as error:
        raise types.InputError(
            f"{dataset} is prepared in {builder.data_dir} in a format without random access; "
            f"prepare it again with file_format={_FORMAT!r} or give another data_dir"
        ) from error
    # An unknown split, or an empty slice of one.
    except (ValueError, KeyError) as error:
        splits = ", ".join(sorted(builder.info.splits))
        raise types.InputError(
            f"{dataset} has no pictures in split {split!r}; its splits are: {splits or 'none'}"
        ) from error
    # Pictures stay encoded. Without TensorFlow, TFDS's own decoder handles no 16 bits, turns no picture
    # upright and decodes large ones whole. Set afterwards, because mock_data fails on any decoders given.
    skip = tensorflow_datasets.decode.SkipDecoding()
    examples.decoders = dict.fromkeys(_picture_features(builder), skip)
    return examples, functools.lru_cache(_REMEMBERED)(examples.__getitem__)


def _check_feature(builder: Any, dataset: str, feature: str, option: str) -> None:
    features = _picture_features(builder)
    if feature not in features:
        raise types.InputError(
            f"data option {option!r}: {dataset} has no picture feature {feature!r}"
            f"{registry.hint(str(feature), features)}; there are: {', '.join(sorted(features)) or 'none'}"
        )


def _picture_features(builder: Any) -> list[str]:
    import tensorflow_datasets

    image = tensorflow_datasets.features.Image
    # Float features are stored as the bytes of pictures with another meaning.
    return [
        key
        for key, feature in builder.info.features.items()
        if isinstance(feature, image) and feature.np_dtype in (np.uint8, np.uint16)
    ]


def _root_cause(error: BaseException) -> BaseException:
    """Returns the first error of a chain, since TFDS wraps errors in errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
