"""Packed pictures without counterparts, written by `python -m gqst.pack`."""

from gqst.data import records as packed
from gqst.data.sources import base, folders


@base.SOURCES.register("records")
def records(
    *,
    root: str | None = None,
    source: str | None = None,
    target: str | None = None,
    test_source: str | None = None,
    test_target: str | None = None,
) -> base.Dataset:
    """Two unpaired domains in folders of packed pictures; options as those of `folders`.

    Args:
      root: Folder with trainA (source), trainB (target) and, optionally, testA and testB, each packed.
      source: Folder of packed source pictures, instead of root.
      target: Folder of packed target pictures, instead of root.
      test_source: Folder of packed source pictures for the test split.
      test_target: Folder of packed target pictures for the test split.
    """
    return folders.unpaired(
        "records", packed.Records, root, source=source, target=target, test_source=test_source, test_target=test_target
    )
