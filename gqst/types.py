"""Types that every part shares.

Pictures are NHWC float32 with values in [0, 1] everywhere outside the networks; a network centres its
input to [-1, 1] inside itself. Sizes are in pixels.
"""

from collections.abc import Mapping
from typing import Any, TypedDict

import jaxtyping


class Batch(TypedDict):
    """One training batch in [0, 1]: content pictures, and pictures of the style domain or paired truths."""

    source: jaxtyping.Float[Any, "b h w c"]
    target: jaxtyping.Float[Any, "b h w c"]


Metrics = Mapping[str, Any]
"""Scalars by path-like name, as in `loss/cycle` or `eval/psnr`."""


class InputError(ValueError):
    """What the user gave cannot be used: one sentence that names it and says what to do.

    Entry points print the sentence and exit with code 2.
    """


class RunError(RuntimeError):
    """A run cannot go on: one sentence that says why, where, and what to do. Entry points exit with 1."""
