"""Picture files with transparency and EXIF data, read and written, and atomic writing of any file."""

import contextlib
import dataclasses
import hashlib
import io
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any, Literal

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import ExifTags, Image, PngImagePlugin

from gqst import storage, types
from gqst.pictures import decode, deep, profiles

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
"""Pillow's names of the formats that can be written, by file suffix."""

# Without loss of colour resolution, which strokes and edges of a style show at once.
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"quality": 95},
    "AVIF": {"quality": 90, "subsampling": "4:4:4"},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "PNG": {},
}
# Largest sides in pixels; libjpeg stops below the 65,535 of its format.
_LARGEST = {"JPEG": 65500, "WEBP": 16383, "AVIF": 65536}
_NAMES = {"WEBP": "WebP"}

# Of a file system's 255 bytes, less what the name of a temporary file adds.
_LONGEST_NAME = 240

# Rows that are converted at once, in pixels: Pillow and NumPy each make a copy or two.
_PART = 2**22

# From pixels of a picture that is upright to those that its file stores, without a copy.
_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],
}

# Tags of EXIF data that describe the file, not the picture: the layout of a TIFF, orientation, colour profile, previews
# within XMP and Photoshop's data.
_OF_THE_FILE = frozenset(
    {*range(254, 260), 262, 263, 266, 273, 274, 277, 278, 279, 280, 281, 284, 290, 291, 292, 293, 297, 301, 317, 318}
    | {319, 320, 321, *range(322, 334), 336, 338, 339, 340, 341, 342, 347, *range(512, 533), 700, 33723, 34377, 34675}
    | {37724, 50341}
)
_COLOR_SPACE, _WIDTH, _HEIGHT, _INTEROPERABILITY = 0xA001, 0xA002, 0xA003, 0xA005


class UnwritableError(types.InputError):
    """Raised for a picture that a format cannot hold.

    Attributes:
      reason: One clause that says why, and what to do.
    """

    def __init__(self, reason: str, name: str | None = None):
        """Makes an error with the message "name: reason"."""
        super().__init__(f"{name}: {reason}" if name else reason)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture in sRGB, with the parts of its file that a result should keep.

    Attributes:
      pixels: Colours, u8[h w 3] or u16[h w 3], upright; transparent parts are composited over white.
      alpha: Transparency of the same type, [h w]; None for an opaque picture.
      exif: EXIF data without orientation, thumbnail and what describes the file; None if there is none or it is
        damaged.
      notes: What the user should be told about the picture, such as "first of 12 frames".
    """

    pixels: UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"]
    alpha: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"] | None = None
    exif: bytes | None = None
    notes: tuple[str, ...] = ()


def read(
    file: str | os.PathLike[str] | IO[bytes],
    *,
    max_size: int | None = None,
    depth: Literal[8, 16] = 8,
    name: str | None = None,
) -> Picture:
    """Returns the picture in a file, decoded as `decode.decode` does.

    Args:
      file: Path or open binary file.
      max_size: Longer side in pixels to which a larger picture is scaled down; None keeps its size.
      depth: Bits per channel. 16 needs the extra `deep`; it keeps all bits of grey pictures, PNG and TIFF, and converts
        colour profiles at 16 bits. Other files have their 8 bits multiplied by 257.
      name: Name of the picture in error messages; the path by default.

    Raises:
      UnreadableError: The file is missing, damaged, not a picture or too large.
      InputError: Depth is 16 and the extra `deep` is missing.
    """
    name = name or str(file)
    loaded = decode.load(file, depth=depth, name=name)
    notes = list(loaded.notes)
    with decode.explained(name):
        pixels, alpha = _eight(loaded, max_size) if loaded.image is not None else _sixteen(loaded, max_size)
    exif = None
    if loaded.exif is not None:
        try:
            exif = _exif(loaded.exif, pixels.shape)
        # Values that cannot be written are read without complaint.
        except Exception:
            notes.append("its EXIF data is damaged and left out")
    return Picture(pixels, alpha, exif, tuple(notes))


def encode(picture: Picture, format: str, *, quality: int | None = None) -> bytes:
    """Returns a picture as a file's content, in sRGB and saying so: by ICC profile, or in PNG by its sRGB chunk.

    Where the picture is partly transparent, the colours written are those that give `pixels` over white. JPEG has no
    transparency and shows `pixels`.

    Args:
      picture: Picture of 8 bits; or of 16 for PNG and TIFF, which needs the extra `deep`. A TIFF of 16 bits keeps only
        those tags of `exif` that are text.
      format: Name of a format, a suffix of `FORMATS` with or without its dot: "png", ".jpg".
      quality: Quality, 1 to 100, of JPEG (default 95, always at full colour resolution), WebP (95) and AVIF (90); PNG
        and TIFF are without loss.

    Raises:
      UnwritableError: The format cannot hold the picture: it is too large, or has 16 bits.
      InputError: No such format, or the extra `deep` is missing.
    """
    suffix = f".{format.lower().removeprefix('.')}"
    if suffix not in FORMATS:
        raise types.InputError(f"{format} is no format that can be written: choose one of {', '.join(_choices())}")
    kind = FORMATS[suffix]
    height, width = picture.pixels.shape[:2]
    shown = _NAMES.get(kind, kind)
    if max(width, height) > (limit := _LARGEST.get(kind, 2**31 - 1)):
        raise UnwritableError(
            f"{shown} takes at most {limit:,} pixels a side, this picture is {width}x{height}; choose --format png"
        )
    pixels = picture.pixels
    if picture.alpha is not None and kind != "JPEG":
        pixels = np.concatenate([_uncomposited(pixels, picture.alpha), picture.alpha[..., None]], axis=2)
    if pixels.dtype == np.uint16:
        if kind not in ("PNG", "TIFF"):
            raise UnwritableError(f"{shown} takes 8 bits a channel, this picture has 16; choose --format png or tif")
        deep.require()
        if kind == "PNG":
            return deep.write_png(pixels, picture.exif)
        exif = Image.Exif()
        exif.load(picture.exif or b"")
        return deep.write_tiff(pixels, profiles.srgb(), exif)
    options = dict(_OPTIONS[kind])
    if quality is not None and "quality" in options:
        options["quality"] = quality
    if kind == "PNG":
        # Says the same as a profile, in one byte.
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add(b"sRGB", b"\0")
    else:
        options["icc_profile"] = profiles.srgb()
    if picture.exif is not None:
        options["exif"] = picture.exif
        # Pillow writes EXIF data into an uncompressed TIFF alone.
        options.pop("compression", None)
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, format=kind, **options)
    except MemoryError:
        raise
    except KeyError:
        raise UnwritableError(f"this Pillow was built without {shown}; choose --format png") from None
    # Encoders raise almost anything, and most often for EXIF data: that of a JPEG, for one, is at most 64 KiB.
    except Exception as error:
        if picture.exif is not None:
            return encode(dataclasses.replace(picture, exif=None), format, quality=quality)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnwritableError(f"it cannot be written as {shown} ({reason}); choose --format png") from error
    return buffer.getvalue()


def write(path: pathlib.Path, picture: Picture, *, quality: int | None = None) -> None:
    """Writes a picture atomically in the format of the path's suffix; see `encode`. An existing file is replaced.

    Raises:
      UnwritableError: The format cannot hold the picture.
      InputError: No such format, or the extra `deep` is missing.
      OSError: The file cannot be written.
    """
    try:
        content = encode(picture, path.suffix, quality=quality)
    except UnwritableError as error:
        raise UnwritableError(error.reason, str(path)) from error
    make_folder(path)
    with atomic(path) as part:
        part.write_bytes(content)


def read_picture(path: str | os.PathLike[str]) -> Float[np.ndarray, "h w 3"]:
    """Returns the picture in a file as float32 sRGB in [0, 1], upright, with transparent parts over white.

    Raises:
      UnreadableError: The file is missing, damaged or not a picture.
    """
    return np.asarray(decode.decode(path), np.float32) / np.float32(255)


def write_picture(path: str | os.PathLike[str], picture: Float[Any, "h w 3"]) -> None:
    """Writes sRGB in [0, 1] at 8 bits, whole or not at all, in the format of the suffix, one of `FORMATS`.

    Raises:
      InputError: Another suffix, or a picture that the format cannot hold.
    """
    file = storage.path(path)
    if file.suffix.lower() not in FORMATS:
        raise types.InputError(f"{file} ends in no format that can be written: {', '.join(FORMATS)}")
    write(file, Picture(decode.to_bytes(np.asarray(picture, np.float32))))


def make_folder(path: pathlib.Path) -> None:
    """Creates the folder of a file on disk; in a bucket there are none, and a bucket is never made by mistake."""
    if not storage.is_remote(path):
        path.parent.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def atomic(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Context manager whose value is a temporary path to write to, in the folder of `path`.

    The temporary file replaces `path` on success and is deleted if an exception is raised. That of a path in a bucket
    is on disk.
    """
    if storage.is_remote(path):
        with tempfile.TemporaryDirectory(prefix="gqst-") as folder:
            part = pathlib.Path(folder, path.name)
            yield part
            storage.filesystem(path).put_file(str(part), str(path))
        return
    # A name that is nearly as long as names can be has no room for more; its hash is as unique.
    name = (
        path.name
        if len(os.fsencode(path.name)) <= _LONGEST_NAME
        else hashlib.sha256(os.fsencode(path.name)).hexdigest()
    )
    part = path.with_name(f".{name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_png(path: pathlib.Path, picture: Image.Image) -> None:
    """Writes a PNG file atomically, whole or not at all, with the texts of the picture's `info`."""
    texts = PngImagePlugin.PngInfo()
    for key, value in picture.info.items():
        if isinstance(value, str):
            texts.add_text(str(key), value)
    with atomic(path) as part:
        picture.save(part, format="PNG", pnginfo=texts)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a UTF-8 text file atomically: whole or not at all."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def _choices() -> list[str]:
    return [suffix.removeprefix(".") for suffix in FORMATS]


def _eight(
    loaded: decode.Loaded, max_size: int | None
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"] | None]:
    """Returns colours and alpha of a picture of 8 bits, converted by parts to keep memory low."""
    image = loaded.image
    assert image is not None
    size = scaled_size(image.size, max_size)
    if size != image.size:
        if image.mode in ("1", "P", "PA") or "transparency" in image.info:
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        image = image.resize(size, Image.Resampling.LANCZOS)
    upright_size = size[::-1] if loaded.orientation < 5 else size
    pixels = np.empty((*upright_size, 3), np.uint8)
    alpha = np.empty(upright_size, np.uint8) if image.has_transparency_data else None
    turn = _STORED.get(loaded.orientation, lambda upright: upright)
    rows = max(1, _PART // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        rgb, opacity = decode.to_rgb(image.crop((0, top, image.width, bottom)), loaded.conversion)
        if alpha is not None and opacity is not None:
            rgb = decode.over_white(rgb, opacity)
            turn(alpha)[top:bottom] = np.asarray(opacity)
        turn(pixels)[top:bottom] = np.asarray(rgb)
    return pixels, alpha


def _sixteen(
    loaded: decode.Loaded, max_size: int | None
) -> tuple[UInt16[np.ndarray, "h w 3"], UInt16[np.ndarray, "h w"] | None]:
    """Returns colours and alpha of a picture of 16 bits."""
    values = loaded.values
    assert values is not None
    alpha = values[..., -1] if loaded.has_alpha else None
    pixels = loaded.conversion.deep(values[..., :-1] if loaded.has_alpha else values)
    if alpha is not None:
        opacity = alpha[..., None].astype(np.uint32)
        # At most 65535 squared and a half: it fits into 32 bits.
        pixels = ((pixels * opacity + 65535 * (65535 - opacity) + 32767) // 65535).astype(np.uint16)
    size = scaled_size((pixels.shape[1], pixels.shape[0]), max_size)
    if size != (pixels.shape[1], pixels.shape[0]):
        pixels = np.stack([_resized(pixels[..., channel], size) for channel in range(3)], axis=-1)
        alpha = None if alpha is None else _resized(alpha, size)
    upright_size = size[::-1] if loaded.orientation < 5 else size
    turn = _STORED.get(loaded.orientation)
    if turn is not None:
        stored, stored_alpha = pixels, alpha
        pixels = np.empty((*upright_size, 3), np.uint16)
        turn(pixels)[:] = stored
        if stored_alpha is not None:
            alpha = np.empty(upright_size, np.uint16)
            turn(alpha)[:] = stored_alpha
    return pixels, alpha


def scaled_size(size: tuple[int, int], max_size: int | None) -> tuple[int, int]:
    """Returns the width and height of a picture whose longer side is limited to a number of pixels."""
    if max_size is None or max(size) <= max_size:
        return size
    factor = max_size / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _resized(channel: UInt16[np.ndarray, "h w"], size: tuple[int, int]) -> UInt16[np.ndarray, "..."]:
    scaled = np.asarray(Image.fromarray(channel.astype(np.float32)).resize(size, Image.Resampling.LANCZOS))
    return np.round(np.clip(scaled, 0, 65535)).astype(np.uint16)


def _uncomposited(
    pixels: UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"], alpha: np.ndarray
) -> UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"]:
    """Returns the colours that give `pixels` when they are composited over white."""
    white = np.iinfo(pixels.dtype).max
    colours = pixels.copy()
    partly = (alpha > 0) & (alpha < white)
    opacity = alpha[partly][:, None] / white
    colours[partly] = np.round(np.clip((pixels[partly] - white * (1.0 - opacity)) / opacity, 0, white))
    return colours


def _exif(exif: Image.Exif, shape: tuple[int, ...]) -> bytes | None:
    """Returns EXIF data for a result of this shape: of the picture, not of its file."""
    kept = Image.Exif()
    for tag, value in exif.items():
        if tag not in _OF_THE_FILE and tag not in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            kept[tag] = value
    for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        directory = dict(exif.get_ifd(tag)) if tag in exif else {}
        # Names the colour space, and Adobe RGB in its own way.
        directory.pop(_INTEROPERABILITY, None)
        for inner, value in ((_COLOR_SPACE, 1), (_WIDTH, shape[1]), (_HEIGHT, shape[0])):
            if inner in directory:
                directory[inner] = value
        if directory:
            kept[tag] = directory
    return kept.tobytes() if len(kept) else None
