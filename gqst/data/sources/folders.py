"""Pictures in folders without counterparts: two domains, the bundled demo set, one style image."""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

from gqst import registry, types
from gqst.data.sources import base
from gqst.pictures import decode, folders

_STYLES = "styles"  # folder of the bundled style pictures


@base.SOURCES.register("folders")
def two_folders(
    *,
    root: str | None = None,
    source: str | None = None,
    target: str | None = None,
    test_source: str | None = None,
    test_target: str | None = None,
) -> base.Dataset:
    """Two unpaired domains in folders, nested ones included.

    Args:
      root: Folder with trainA (source), trainB (target) and, optionally, testA and testB.
      source: Folder of source pictures, instead of root.
      target: Folder of target pictures, instead of root.
      test_source: Folder of source pictures for the test split.
      test_target: Folder of target pictures for the test split.
    """
    return unpaired(
        "folders",
        folders.listing,
        root,
        source=source,
        target=target,
        test_source=test_source,
        test_target=test_target,
    )


def unpaired(
    name: str,
    read: Callable[..., base.Pictures],
    root: str | None,
    *,
    source: str | None,
    target: str | None,
    test_source: str | None,
    test_target: str | None,
) -> base.Dataset:
    """Returns the dataset of two unpaired domains, each in a folder.

    Args:
      name: Name of the data source, for messages.
      read: Function of a folder and the name of its `option` that returns its pictures.
      root: Folder with trainA, trainB and, optionally, testA and testB; None if the others are given.
      source: Folder of source pictures.
      target: Folder of target pictures.
      test_source: Folder of source pictures for the test split.
      test_target: Folder of target pictures for the test split.

    Raises:
      InputError: The options do not go together.
    """
    if (root is None) == (source is None and target is None):
        raise types.InputError(f"data source {name!r} takes either root, or source and target")
    if root is None:
        given = {"test_source": test_source, "test_target": test_target}
        return base.Dataset(
            train=_split(name, read, source=source, target=target),
            test=None if all(path is None for path in given.values()) else _split(name, read, **given),
        )
    if test_source is not None or test_target is not None:
        raise types.InputError(f"data source {name!r} takes test_source only without root")
    inside = {name: os.path.join(root, name) for name in ("trainA", "trainB", "testA", "testB")}
    tests = [inside[name] for name in ("testA", "testB")]
    has_test = any(folders.resolve(path).exists() for path in tests)
    return base.Dataset(
        train=_split(name, read, trainA=inside["trainA"], trainB=inside["trainB"]),
        test=_split(name, read, testA=tests[0], testB=tests[1]) if has_test else None,
    )


@base.SOURCES.register("demo")
def demo(*, source: str = "photos", target: str = "ukiyoe") -> base.Dataset:
    """The bundled pictures: photographs and ukiyo-e prints, with a test split.

    Args:
      source: Name of the source domain.
      target: Name of the target domain.
    """
    bundled = folders.resolve("demo:")
    domains = sorted(path.parent.name for path in bundled.glob("*/train"))
    for option, name in (("source", source), ("target", target)):
        if name not in domains:
            hint = registry.hint(str(name), domains)
            raise types.InputError(
                f"data option {option!r}: the demo set has no {name!r}{hint}, only {', '.join(domains)}"
            )
    return base.Dataset(
        train=_split("demo", folders.listing, source=f"demo:{source}/train", target=f"demo:{target}/train"),
        test=_split("demo", folders.listing, source=f"demo:{source}/test", target=f"demo:{target}/test"),
    )


@base.SOURCES.register("style_image")
def style_image(*, image: str, photos: str, test_photos: str | None = None) -> base.Dataset:
    """Photographs, and a single picture as the style domain: every target is another crop of it.

    Args:
      image: The style picture; `demo:styles/...` names a bundled one.
      photos: Folder of photographs.
      test_photos: Folder of photographs for the test split.
    """
    path = folders.resolve(image)
    if path.is_dir():
        raise types.InputError(f"the style image {image} is a folder: give a single picture")
    try:
        decode.decode(path)
    except decode.UnreadableError as error:
        raise types.InputError(
            f"the style image {image} cannot be read: {error.reason}{_bundled_styles(image)}"
        ) from error
    style = folders.Files(path.parent, [path])
    train = base.Split(folders.listing(photos, option="photos"), style)
    if test_photos is None:
        return base.Dataset(train=train)
    test = dataclasses.replace(train, source=folders.listing(test_photos, option="test_photos"))
    return base.Dataset(train=train, test=test)


def _split(origin: str, read: Callable[..., base.Pictures], **options: Any) -> base.Split:
    """Returns the unpaired split of two folders, source first, each under the name of its option."""
    for option, path in options.items():
        if path is None:
            raise types.InputError(f"data source {origin!r} needs the option {option!r} too")
    source, target = (read(path, option=option) for option, path in options.items())
    return base.Split(source, target)


def _bundled_styles(image: str) -> str:
    if not image.startswith("demo:"):
        return ""
    folder = folders.resolve(f"demo:{_STYLES}")
    names = ", ".join(f"demo:{_STYLES}/{pathlib.PurePath(p).name}" for p in sorted(folder.iterdir()))
    return f" (there are {names})"
