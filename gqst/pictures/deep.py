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


def png_depth(file: IO[bytes]) -> int:
    """Returns the bits per channel of a PNG file."""
    file.seek(24)
    return file.read(1)[0]


def png_bits(file: IO[bytes]) -> int | None:
    """Returns the significant bits of colours in a 16-bit PNG file where it declares fewer than 16, at least 8."""
    significant = max(_png_chunks(file).get(b"sBIT", b"\x10")[:3])
    return significant if 8 <= significant < 16 else None


def read_png(file: IO[bytes]) -> levels.Samples:
    """Returns the data of a 16-bit PNG file."""
    import imagecodecs

    file.seek(0)
    content = file.read()
    mode, has_alpha = _PNG_COLOURS[content[25]]
    values = imagecodecs.png_decode(content)
    values = values.reshape(*values.shape[:2], -1)
    key = _png_chunks(file).get(b"tRNS")
    if key is not None and not has_alpha:
        values = values[..., : len(key) // 2]
        opaque = (values != np.frombuffer(key, ">u2")).any(axis=2, keepdims=True)
        values = np.concatenate([values, opaque * np.uint16(65535)], axis=2)
        has_alpha = True
    return levels.Samples(values, mode, has_alpha, bits=png_bits(file))


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


def _png_chunks(file: IO[bytes]) -> dict[bytes, bytes]:
    """Returns the chunks of a PNG file before its pixels."""
    chunks = {}
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT":
            break
        chunks[kind] = file.read(length)
        file.seek(4, 1)  # the checksum
    return chunks


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
