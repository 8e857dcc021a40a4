"""Types shared by all parts of the package.

Pictures are NHWC, float32 and in [0, 1] everywhere outside the networks; a network maps its input to [-1, 1] itself.
Sizes are in pixels.
"""

from collections.abc import Mapping
from typing import Any, TypedDict

import jaxtyping


class Batch(TypedDict):
    """A training batch of pictures in [0, 1].

    Attributes:
      source: Pictures to be translated.
      target: Pictures of the style domain, or the ground truths of `source` in paired data.
    """

    source: jaxtyping.Float[Any, "b h w c"]
    target: jaxtyping.Float[Any, "b h w c"]


Metrics = Mapping[str, Any]
"""Scalars by path-like name, such as `loss/cycle` or `eval/psnr`."""


class InputError(ValueError):
    """Raised for unusable input, with one sentence that names it and says what to do.

    Entry points print the sentence and exit with code 2.
    """


class RunError(RuntimeError):
    """Raised when a run cannot continue, with one sentence that says why, where and what to do.

    Entry points print the sentence and exit with code 1.
    """
