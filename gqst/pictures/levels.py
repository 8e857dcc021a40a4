"""Levels of picture data that are wider than 8 bits: which value is white."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Integer, Num, Shaped, UInt

# TIFF tags.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE, _SAMPLE_FORMAT = 258, 262, 281, 339
_S_MIN_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE = 340, 341
_WHITE_IS_ZERO, _SIGNED = 0, 2

_FLOAT_WHITES = (1.0, 255.0, 65535.0)


@dataclasses.dataclass(frozen=True)
class Samples:
    """Data of a picture as its file stores them, and what the file says about them.

    Attributes:
      values: Colours and, if any, alpha as the last channel.
      mode: Pillow's mode of the colours: "L", "RGB" or "CMYK".
      has_alpha: Whether the last channel is alpha.
      premultiplied: Whether colours have been multiplied by alpha.
      bits: Significant bits of integers where the file declares them, fewer than their type has; else None.
      limits: Black and white of floats where the file declares them; else None.
      inverted: Whether the lowest value is white.
      profile: ICC profile.
      orientation: EXIF orientation, 1 to 8.
    """

    values: Num[np.ndarray, "h w c"]
    mode: str
    has_alpha: bool = False
    premultiplied: bool = False
    bits: int | None = None
    limits: tuple[float, float] | None = None
    inverted: bool = False
    profile: bytes | None = None
    orientation: int = 1


def declared(tags: Mapping[int, Any]) -> dict[str, Any]:
    """Returns what TIFF tags declare, as arguments of `Samples`: `bits`, `limits` and `inverted`."""
    stored = _first(tags.get(_BITS_PER_SAMPLE), 1) - (_first(tags.get(_SAMPLE_FORMAT), 1) == _SIGNED)
    bits = stored if stored % 8 and stored != 15 and stored != 31 else None
    # Most files have statistics in these tags, and TIFF 6.0 forbids to scale by them: only 2^n - 1 tells a bit depth,
    # and only a range of whole numbers from 0 or below that of floats.
    for tag in (_MAX_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE):
        top = _first(tags.get(tag), 0)
        if 255 <= top < 2**stored - 1 and math.log2(top + 1).is_integer():
            bits = int(math.log2(top + 1))
    low, high = (_first(tags.get(tag), None) for tag in (_S_MIN_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE))
    limits = None
    if (
        low is not None
        and high is not None
        and float(low).is_integer()
        and float(high).is_integer()
        and low <= 0 < high
    ):
        limits = (float(low), float(high))
    return {"bits": bits, "limits": limits, "inverted": _first(tags.get(_PHOTOMETRIC), 1) == _WHITE_IS_ZERO}


def integer_type(tags: Mapping[int, Any]) -> np.dtype:
    """Returns the type of integers in a file with these TIFF tags, of which Pillow makes signed ones of 32 bits."""
    signed = _first(tags.get(_SAMPLE_FORMAT), _SIGNED if not tags else 1) == _SIGNED
    if _first(tags.get(_BITS_PER_SAMPLE), 32) <= 16:
        return np.dtype(np.int16 if signed else np.uint16)
    return np.dtype(np.int32 if signed else np.uint32)


def scale(samples: Samples, depth: Literal[8, 16]) -> tuple[UInt[np.ndarray, "h w c"], list[str]]:
    """Returns data with white at 255 or 65535, and what the user should be told.

    White is, for unsigned and signed integers:
      - what the file declares, by TIFF's BitsPerSample (12, for example), MaxSampleValue or SMaxSampleValue (of the
        form 2^n - 1, since other values are statistics) or PNG's sBIT, unless a value is above it;
      - else 255 if no value is above it, else 4095 if no value is above it, else the largest value of 16-bit data. In
        32-bit data 65535, and where a value is above that, too, the next 2^n - 1.
    For floats:
      - TIFF's SMaxSampleValue where that and SMinSampleValue are whole numbers; the latter is then black;
      - else the first of 1, 255 and 65535 that at least half of the positive values do not exceed, else the largest.
    What lies above white is clipped, and told; negative values and those that are no numbers are 0.
    """
    channels = samples.values.shape[2] - samples.has_alpha
    colours, opacity = samples.values[..., :channels], samples.values[..., channels:]
    if np.issubdtype(colours.dtype, np.integer):
        bits, notes = _bits(colours, samples.bits)
        black, white = 0.0, float(2**bits - 1)
        # Of the same depth, unless it is larger: data of 12 bits may come with an alpha of 16.
        opaque = float(2 ** _bits(opacity, bits)[0] - 1)
    else:
        black, white, notes = _limits(colours, samples.limits)
        _, opaque, _ = _limits(opacity, None)
    top = 2**depth - 1
    scaled = np.empty(samples.values.shape, np.uint8 if depth == 8 else np.uint16)
    # By parts, since each needs eight bytes a value.
    rows = max(1, 2**20 // max(1, scaled[0].size))
    for start in range(0, len(scaled), rows):
        part = slice(start, start + rows)
        unit = _unit(colours[part], black, white)
        if samples.has_alpha:
            alpha = _unit(opacity[part], 0.0, opaque)
            scaled[part, :, channels:] = np.round(alpha * top)
            if samples.premultiplied:
                unit = np.minimum(unit / np.maximum(alpha, 1e-9), 1.0)
        if samples.inverted:
            unit = 1.0 - unit
        scaled[part, :, :channels] = np.round(unit * top)
    return scaled, notes


def _unit(values: Num[np.ndarray, "rows w c"], black: float, white: float) -> Float[np.ndarray, "rows w c"]:
    scaled = (values.astype(np.float64) - black) / (white - black)
    return np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)


def _bits(values: Integer[np.ndarray, "h w c"], declared: int | None) -> tuple[int, list[str]]:
    """Returns the bits of which the largest value is white, and what to tell."""
    largest = int(values.max(initial=0))
    width = 8 * values.dtype.itemsize
    whole = width - (values.dtype.kind == "i")
    notes = []
    if declared is not None and largest < 2**declared:
        bits = declared
    else:
        ladder = (8, 12, min(whole, 16))
        bits = next((n for n in ladder if largest < 2**n), largest.bit_length())
        if bits not in (whole, 16):
            notes.append(f"no value is above {largest}: its {width} bits are taken as {bits}-bit data")
    if values.min(initial=0) < 0:
        notes.append("values below 0 are taken as 0")
    return bits, notes


def _limits(values: Float[np.ndarray, "h w c"], limits: tuple[float, float] | None) -> tuple[float, float, list[str]]:
    """Returns black and white of floats, and what to tell."""
    notes = []
    with np.errstate(invalid="ignore", over="ignore"):  # NaN, and halves, which end below 65535
        if limits is not None:
            black, white = limits
            if limits != (0.0, 1.0):
                notes.append(f"floats are scaled between {black:g} and {white:g}, as the file says")
        else:
            half = np.count_nonzero(values > 0) / 2
            fitting = [white for white in _FLOAT_WHITES if np.count_nonzero(values > white) <= half]
            black, white = 0.0, fitting[0] if fitting else float(np.max(values, where=np.isfinite(values), initial=0.0))
            if white != 1.0:
                notes.append(f"floats are scaled by {white:g}, since most are above 1")
        above = np.count_nonzero(values > white)
        dropped = np.count_nonzero(values < black) + np.count_nonzero(np.isnan(values))
    if above:
        notes.append(f"{_percent(above, values)} of the values are above {white:g} and clipped to it")
    if dropped:
        notes.append(f"{_percent(dropped, values)} of the values are below {black:g} or no numbers, and become black")
    return black, white, notes


def _percent(count: int | np.integer, values: Shaped[np.ndarray, "..."]) -> str:
    return f"{100 * count / values.size:.2g} %"


def _first(value: Any, default: Any) -> Any:
    """Returns the value of a tag, or the first of those of all channels."""
    if isinstance(value, tuple | list):
        value = value[0] if value else None
    return default if value is None or isinstance(value, str | bytes) else value
