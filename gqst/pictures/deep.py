"""Pictures with 16 bits or floats in each channel, which Pillow cannot hold: PNG and TIFF by the extra `deep`."""

import importlib.util
import io
import struct
import zlib
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from jaxtyping import UInt16
from PIL import Image

from gqst import types
from gqst.pictures import levels

_PNG_COLOURS = {0: ("L", False), 2: ("RGB", False), 4: ("L", True), 6: ("RGB", True)}
_PNG_HEAD = 33  # bytes of the signature and IHDR
_TIFF_MODES = {0: "L", 1: "L", 2: "RGB", 5: "CMYK"}
_TIFF_ASSOCIATED, _TIFF_UNASSOCIATED = 1, 2
_ORIENTATION, _EXTRA_SAMPLES, _PROFILE = 274, 338, 34675
# ASCII tags about the picture that tifffile can carry over.
_TEXTS = {271: "make", 272: "model", 305: "software", 306: "date", 315: "artist", 33432: "copyright"}


def available() -> bool:
    """Returns whether the extra `deep` is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("imagecodecs", "tifffile"))


def require() -> None:
    """Raises an InputError with the command that installs the extra `deep`, if it is not."""
    if not available():
        raise types.InputError('16 bits a channel need more packages: pip install "gqst[deep]"')


def png_depth(head: bytes) -> int:
    """Returns the bits per channel of a PNG file, of which the first 26 bytes are given; 0 for another file."""
    return head[24] if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) > 25 else 0


def read_png(file: bytes) -> levels.Samples:
    """Returns the data of a 16-bit PNG file."""
    import imagecodecs

    mode, has_alpha = _PNG_COLOURS[file[25]]
    values = imagecodecs.png_decode(file)
    values = values.reshape(*values.shape[:2], -1)
    chunks = dict(_png_chunks(file))
    channels = len(mode) if mode == "RGB" else 1
    if b"tRNS" in chunks and not has_alpha:
        key = np.frombuffer(chunks[b"tRNS"], ">u2")
        opaque = (values[..., :channels] != key).any(axis=2, keepdims=True)
        values = np.concatenate([values[..., :channels], opaque * np.uint16(65535)], axis=2)
        has_alpha = True
    bits = max(chunks[b"sBIT"][:channels], default=16) if b"sBIT" in chunks else 16
    return levels.Samples(values, mode, has_alpha, bits=bits if 8 <= bits < 16 else None)


def read_tiff(file: IO[bytes]) -> levels.Samples | None:
    """Returns the data of the first picture in a TIFF file; None for palettes, YCbCr and volumes."""
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page: Any = tiff.pages[0]
        tags = {tag.code: tag.value for tag in page.tags}
        mode = _TIFF_MODES.get(int(page.photometric))
        if mode is None or page.axes not in ("YX", "YXS", "SYX"):
            return None
        _check_size(page.imagewidth * page.imagelength)
        values = page.asarray()
    if page.axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    values = values.reshape(*values.shape[:2], -1)
    channels = {"L": 1, "RGB": 3, "CMYK": 4}[mode]
    extra = tags.get(_EXTRA_SAMPLES, ())
    kind = int((extra if isinstance(extra, tuple) else (extra,))[0]) if extra else 0
    has_alpha = mode != "CMYK" and values.shape[2] > channels and kind in (_TIFF_ASSOCIATED, _TIFF_UNASSOCIATED)
    return levels.Samples(
        values[..., : channels + has_alpha],
        mode,
        has_alpha,
        premultiplied=has_alpha and kind == _TIFF_ASSOCIATED,
        profile=tags.get(_PROFILE),
        orientation=int(tags.get(_ORIENTATION, 1)),
        **levels.declared(tags),
    )


def convert(values: UInt16[np.ndarray, "h w c"], mode: str, profile: bytes, to: bytes) -> UInt16[np.ndarray, "h w 3"]:
    """Returns a picture converted from one ICC profile to another, of RGB, by LittleCMS at 16 bits."""
    import imagecodecs

    cms = imagecodecs.CMS
    converted = imagecodecs.cms_transform(
        values[..., 0] if mode == "L" else values,
        profile,
        to,
        colorspace={"L": "gray", "RGB": "rgb", "CMYK": "cmyk"}[mode],
        outcolorspace="rgb",
        intent=cms.INTENT.PERCEPTUAL,
        # As at 8 bits: curves and matrices are exact, where by default a table of 16 bits is 20/255 off at the borders
        # of the gamut; inks go by LittleCMS's table.
        flags=0 if mode == "CMYK" else cms.FLAGS.NOOPTIMIZE,
    )
    return np.asarray(converted, np.uint16)


def write_png(pixels: UInt16[np.ndarray, "h w c"], exif: bytes | None) -> bytes:
    """Returns a 16-bit sRGB picture, with 3 channels or 4, as a PNG file."""
    import imagecodecs

    file = bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))
    more = _png_chunk(b"sRGB", b"\0")
    if exif is not None:
        more += _png_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    return file[:_PNG_HEAD] + more + file[_PNG_HEAD:]


def write_tiff(pixels: UInt16[np.ndarray, "h w c"], profile: bytes, tags: Mapping[int, Any]) -> bytes:
    """Returns a 16-bit picture, with 3 channels or 4, as a TIFF file; of EXIF tags it takes those of text."""
    import tifffile

    buffer = io.BytesIO()
    texts = [(code, "s", 0, tags[code], True) for code in _TEXTS if isinstance(tags.get(code), str)]
    tifffile.imwrite(
        buffer,
        pixels,
        photometric="rgb",
        extrasamples=["unassalpha"] if pixels.shape[2] == 4 else None,
        compression="adobe_deflate",
        predictor=True,
        iccprofile=profile,
        description=tags.get(270),
        extratags=texts,
        software=False,
        metadata=None,
    )
    return buffer.getvalue()


def _check_size(pixels: int) -> None:
    """Raises what Pillow does for a picture of too many pixels."""
    if Image.MAX_IMAGE_PIXELS is not None and pixels > 2 * Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{pixels} pixels, of at most {2 * Image.MAX_IMAGE_PIXELS}")


def _png_chunks(file: bytes) -> list[tuple[bytes, bytes]]:
    """Returns the chunks of a PNG file before its pixels."""
    chunks = []
    position = 8
    while position + 8 <= len(file):
        length, kind = struct.unpack_from(">I4s", file, position)
        if kind == b"IDAT":
            break
        chunks.append((kind, file[position + 8 : position + 8 + length]))
        position += 12 + length
    return chunks


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
