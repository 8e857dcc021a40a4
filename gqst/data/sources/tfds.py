"""Any dataset of TensorFlow Datasets with picture features, read without TensorFlow."""

import dataclasses
import functools
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from gqst import registry, types
from gqst.data.sources import base
from gqst.pictures import decode

_FORMAT = "array_record"
# With paired features both come out of one record, asked for one after the other.
_REMEMBERED = 8


@base.SOURCES.register("tfds")
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
) -> base.Dataset:
    """Two domains of a TFDS dataset; downloaded and prepared on the first use.

    Args:
      dataset: the builder, as in `cycle_gan/monet2photo` or `my_dataset/my_config:1.0.0`.
      train_source: the split of source pictures, in the notation of TFDS, as in `train[:80%]`.
      train_target: the split of target pictures.
      test_source: the same for the test split; None for none.
      test_target: the same for the test split; None for none.
      source_feature: the feature that holds the source pictures.
      target_feature: the feature that holds the target pictures.
      paired: whether both features of one example belong together; source and target then name
        one split.
      data_dir: where prepared datasets lie; None is the place that TFDS uses.
    """
    builder = _prepared(dataset, data_dir)
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
        """As in `Pictures`."""
        return len(self.examples)

    def name(self, index: int) -> str:
        """As `Pictures.name`."""
        return f"{index:06d}"

    def load(self, index: int, *, shorter: int | None = None) -> Image.Image:
        """As `Pictures.load`."""
        name = f"{self.origin} {self.name(index)}"
        try:
            picture = self.read(index)[self.feature]
        # Damaged records fail with exceptions of the format and of protobuf.
        except Exception as error:
            raise decode.UnreadableError(name, _first_line(error)) from error
        if isinstance(picture, bytes):
            return decode.decode(io.BytesIO(picture), shorter=shorter, name=name)
        # tfds.testing.mock_data makes up arrays, not files.
        return Image.fromarray(np.squeeze(picture)).convert("RGB")


def _prepared(dataset: str, data_dir: str | None) -> Any:
    # Slow to import, and needed by this source alone.
    import tensorflow_datasets

    try:
        builder = tensorflow_datasets.builder(dataset, data_dir=data_dir)
    except tensorflow_datasets.core.registered.DatasetNotFoundError as error:
        known = tensorflow_datasets.list_builders(with_community_datasets=False)
        name = str(dataset).split("/")[0].split(":")[0]
        raise types.InputError(
            f"TFDS has no dataset {name!r}{registry.hint(name, known)}, neither its own nor "
            f"prepared in {data_dir or 'its data folder'}"
        ) from error
    # What a wrong config or version raises differs: ValueError, AssertionError, AttributeError.
    except Exception as error:
        raise types.InputError(f"TFDS has no {dataset!r}: {_first_line(_root_cause(error))}") from error
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
    """The examples of a split, and a reader of them that remembers the last few."""
    import tensorflow_datasets

    try:
        examples = builder.as_data_source(split=split)
    except NotImplementedError as error:
        raise types.InputError(
            f"{dataset} is prepared in {builder.data_dir} in a format without random access; "
            f"prepare it again with file_format={_FORMAT!r} or give another data_dir"
        ) from error
    # An unknown split, or a slice of one with nothing in it.
    except (ValueError, KeyError) as error:
        known = ", ".join(sorted(builder.info.splits))
        raise types.InputError(
            f"{dataset} has no pictures in split {split!r}; its splits are: {known or 'none'}"
        ) from error
    # Pictures come as the files that they are. TFDS itself would, without TensorFlow, decode no 16
    # bits, turn no picture upright and decode large ones whole. Set afterwards, because mock_data
    # fails on any decoders given.
    skip = tensorflow_datasets.decode.SkipDecoding()
    examples.decoders = dict.fromkeys(_picture_features(builder), skip)
    return examples, functools.lru_cache(_REMEMBERED)(examples.__getitem__)


def _check_feature(builder: Any, dataset: str, feature: str, option: str) -> None:
    known = _picture_features(builder)
    if feature not in known:
        raise types.InputError(
            f"data option {option!r}: {dataset} has no picture feature {feature!r}"
            f"{registry.hint(str(feature), known)}; there are: {', '.join(sorted(known)) or 'none'}"
        )


def _picture_features(builder: Any) -> list[str]:
    import tensorflow_datasets

    image = tensorflow_datasets.features.Image
    # Floats are stored as the bytes of pictures that mean something else.
    return [
        key
        for key, feature in builder.info.features.items()
        if isinstance(feature, image) and feature.np_dtype in (np.uint8, np.uint16)
    ]


def _root_cause(error: BaseException) -> BaseException:
    """What went wrong first, where TFDS wraps errors in errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
