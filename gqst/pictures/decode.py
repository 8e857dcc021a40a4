"""Picture files decoded to sRGB, as they are meant to be seen.

There is one decoder, `load`, for training, evaluation and stylising: `decode` gives what networks are trained on,
`files.read` the same with the parts of the file that a result should keep.
"""

import contextlib
import dataclasses
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from typing import IO, Literal

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import ExifTags, Image

from gqst import storage, types
from gqst.pictures import deep, levels, profiles

# A large JPEG is decoded at the smallest scale that still has this many times the requested size, so that the Lanczos
# filter, not the JPEG decoder, decides how the result looks.
_DRAFT_GAP = 2

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY = frozenset({"1", "L", "LA", "La"})

# Formats with several pictures in a file, and what these are called. Not MPO: a phone's photograph often has a second
# picture with its depth or brightness, and it is no animation.
_SEVERAL = {"GIF": "frames", "PNG": "frames", "WEBP": "frames", "AVIF": "frames", "FLI": "frames", "TIFF": "pages"}

_BUFFER = 2**16  # bytes; the head of most files with EXIF data and a colour profile
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# The filters of warnings belong to the whole process, and pictures are decoded in threads.
_warnings_lock = threading.Lock()


class UnreadableError(Exception):
    """Raised for a picture that cannot be decoded.

    Attributes:
      name: Name of the picture, usually its path.
      reason: The decoder's reason, on one line.
    """

    def __init__(self, name: str, reason: str):
        """Makes an error with the message "name: reason"."""
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A decoded picture that is not yet turned upright, nor converted to sRGB.

    Attributes:
      image: 8-bit picture in any of Pillow's modes; None at depth 16.
      values: 16-bit colours and, if `has_alpha`, alpha as the last channel; None at depth 8.
      has_alpha: Whether the last channel of `values` is alpha.
      orientation: EXIF orientation, 1 to 8.
      conversion: Conversion of the colours to sRGB.
      exif: EXIF data; None if there is none or it is damaged.
      notes: What the user should be told about the picture.
    """

    image: Image.Image | None
    values: UInt16[np.ndarray, "h w c"] | None
    has_alpha: bool
    orientation: int
    conversion: profiles.Conversion
    exif: Image.Exif | None
    notes: tuple[str, ...]


def decode(
    file: str | os.PathLike[str] | IO[bytes], *, shorter: int | None = None, name: str | None = None
) -> Image.Image:
    """Returns the 8-bit sRGB picture in a file, upright and with alpha composited over white.

    Colour profiles are converted as `profiles.conversion` says, data of more than 8 bits as `levels.scale` says; of
    several pictures in a file, it is the first.

    Args:
      file: Path or open binary file, in any format that Pillow reads; HEIC with the extra `heic`.
      shorter: Shorter side in pixels to which the caller will shrink the picture. A large JPEG is then decoded at a
        reduced size, never below twice this; None decodes at full size.
      name: Name of the picture in error messages; the path by default.

    Raises:
      UnreadableError: The file does not exist, is not a picture, is truncated or damaged, or has more pixels than twice
        `PIL.Image.MAX_IMAGE_PIXELS`, 179 million.
    """
    name = name or str(file)
    loaded = load(file, shorter=shorter, name=name)
    assert loaded.image is not None
    with explained(name):
        rgb, alpha = to_rgb(loaded.image, loaded.conversion)
        if alpha is not None:
            rgb = over_white(rgb, alpha)
        if loaded.orientation in _TURNS:
            rgb = rgb.transpose(_TURNS[loaded.orientation])
        # What the file says of itself, its profile among it, is no longer so.
        rgb.info.clear()
        return rgb


def load(
    file: str | os.PathLike[str] | IO[bytes],
    *,
    depth: Literal[8, 16] = 8,
    shorter: int | None = None,
    name: str,
) -> Loaded:
    """Returns the picture in a file, read once.

    Args:
      file: Path or open binary file.
      depth: Bits per channel. 16 needs the extra `deep`; files with 8 have their values multiplied by 257.
      shorter: Shorter side in pixels to which the caller will shrink the picture; see `decode`.
      name: Name of the picture in error messages.

    Raises:
      UnreadableError: See `decode`.
      InputError: Depth is 16 and the extra `deep` is missing.
    """
    if depth == 16:
        deep.require()
    with explained(name), _stream(file) as stream:
        try:
            image = _open(stream)
        except Image.UnidentifiedImageError:
            samples = _unknown_tiff(stream)
            return _finished(samples, depth, samples.orientation, samples.profile, None, [])
        with image:
            return _load(image, stream, depth, shorter)


def size(file: str | os.PathLike[str]) -> tuple[int, int]:
    """Returns width and height of a picture as it is meant to be seen, from its file's head alone.

    Raises:
      UnreadableError: The file does not exist, is not a picture, or has too many pixels; data behind the head is not
        looked at.
    """
    with explained(str(file)), _stream(file) as stream, _open(stream) as image:
        _, orientation, _ = _exif(image)
        return image.size if orientation < 5 else (image.height, image.width)


def to_rgb(image: Image.Image, conversion: profiles.Conversion) -> tuple[Image.Image, Image.Image | None]:
    """Returns the colours of an 8-bit picture in sRGB, and its alpha or None."""
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in _GREY else "RGBA")
        alpha = image.getchannel("A")
        image = image.getchannel("L") if image.mode == "LA" else image.convert("RGB")
    return conversion(image), alpha


def over_white(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    """Returns a picture composited over white."""
    white = Image.new("RGB", rgb.size, "white")
    white.paste(rgb, mask=alpha)
    return white


def to_bytes(picture: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a picture in [0, 1] with 8 bits per channel, clipped and rounded to the nearest value."""
    return np.round(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)


def _load(image: Image.Image, stream: IO[bytes], depth: Literal[8, 16], shorter: int | None) -> Loaded:
    """Returns an opened picture, loaded by Pillow or, where that would lose bits that are wanted, by `deep`."""
    profile = image.info.get("icc_profile")
    notes = _several(image)
    if shorter is not None and image.format in ("JPEG", "MPO"):
        image.draft(image.mode, (_DRAFT_GAP * shorter, _DRAFT_GAP * shorter))
    # Loading reads a TIFF's EXIF data to turn it upright, and is not to be the first to warn of damage.
    damaged_before = image.format == "TIFF" and _exif(image)[2]
    # Some formats warn of many pixels a second time here; rare enough to hold the lock while they load.
    many = image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf"))
    with _recorded_warnings() if many else contextlib.nullcontext():
        image.load()
    exif, orientation, damaged = _exif(image)
    if damaged or damaged_before:
        exif = None
        notes.append("its EXIF data is damaged and left out")
    pixels: Image.Image | levels.Samples = _grey_samples(image, stream) or image
    if pixels is image and _is_wide(image, stream) and (depth == 16 or _is_nearly_black(image)):
        samples = _deep_samples(image, stream) if deep.available() else None
        if samples is not None:
            pixels, orientation = samples, samples.orientation if image.format == "TIFF" else orientation
        elif depth == 16:
            notes.append("only 8 bits of its channels are read")
        else:
            notes.append('it is nearly black; if it holds data of 12 bits, pip install "gqst[deep]" reads it')
    return _finished(pixels, depth, orientation, profile, exif, notes)


def _finished(
    pixels: Image.Image | levels.Samples,
    depth: Literal[8, 16],
    orientation: int,
    profile: bytes | None,
    exif: Image.Exif | None,
    notes: list[str],
) -> Loaded:
    """Returns a picture at the depth asked for."""
    image, values = None, None
    if isinstance(pixels, levels.Samples):
        mode, has_alpha = pixels.mode, pixels.has_alpha
        scaled, told = levels.scale(pixels, depth)
        notes += told
        if depth == 16:
            values = scaled
        else:
            channels = [Image.fromarray(np.ascontiguousarray(scaled[..., i])) for i in range(scaled.shape[2])]
            image = Image.merge(mode + "A" * has_alpha, channels)
    else:
        mode, has_alpha = _colour_mode(pixels), pixels.has_transparency_data
        image = pixels
    conversion = profiles.conversion(profile, mode)
    if conversion.note is not None:
        notes.append(conversion.note)
    if depth == 16 and image is not None:
        if mode == "LAB":
            image = conversion(image)
        layers = image.mode if mode in ("CMYK", "LAB") else mode + "A" * has_alpha
        eight = np.asarray(image if image.mode == layers else image.convert(layers))
        image, values = None, eight.reshape(*eight.shape[:2], -1).astype(np.uint16) * 257
    return Loaded(image, values, has_alpha, orientation, conversion, exif, tuple(notes))


def _open(stream: IO[bytes]) -> Image.Image:
    """Returns a picture of which the head has been read.

    Raises:
      UnidentifiedImageError: Pillow does not know the format.
    """
    try:
        with _recorded_warnings():
            return Image.open(stream)
    except Image.UnidentifiedImageError:
        head = _head(stream)
        if head[4:8] != b"ftyp" or head[8:] not in _HEIF_BRANDS:
            raise
    try:
        import pillow_heif
    except ImportError:
        raise ValueError('HEIC pictures need one more package: pip install "gqst[heic]"') from None
    pillow_heif.register_heif_opener()
    with _recorded_warnings():
        return Image.open(stream)


def _unknown_tiff(stream: IO[bytes]) -> levels.Samples:
    """Returns the data of a TIFF file that Pillow has no mode for, such as floats in three channels."""
    if not _head(stream).startswith(_TIFF_HEADS):
        raise Image.UnidentifiedImageError
    if not deep.available():
        raise ValueError('Pillow cannot read this kind of TIFF; pip install "gqst[deep]" may')
    samples = deep.read_tiff(stream)
    if samples is None:
        raise ValueError("it is a TIFF of a kind that is not read")
    return samples


def _deep_samples(image: Image.Image, stream: IO[bytes]) -> levels.Samples | None:
    if image.format == "TIFF":
        return deep.read_tiff(stream)
    return deep.read_png(stream)


def _grey_samples(image: Image.Image, stream: IO[bytes]) -> levels.Samples | None:
    """Returns the data of a picture in one of Pillow's modes for grey of more than 8 bits; None for another one."""
    if not image.mode.startswith("I") and image.mode != "F":
        return None
    values = np.asarray(image)[..., None]
    tags = getattr(image, "tag_v2", {})
    declared = levels.declared(tags)
    if image.format == "PNG":
        declared["bits"] = deep.png_bits(stream)
    if image.mode == "I":
        # Pillow widens signed integers of 16 bits, and takes unsigned ones of 32 bits as signed.
        values = values.astype(levels.integer_type(tags), copy=False)
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return levels.Samples(values, "L", **declared)
    opaque = np.where(values == key, 0, np.iinfo(values.dtype).max).astype(values.dtype)
    return levels.Samples(np.concatenate([values, opaque], axis=2), "L", has_alpha=True, **declared)


def _is_wide(image: Image.Image, stream: IO[bytes]) -> bool:
    """Returns whether the file has more than 8 bits a channel, of which `deep` could read all."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(ExifTags.Base.BitsPerSample, (8,))  # type: ignore[attr-defined]
        return max(bits) > 8
    return image.format == "PNG" and deep.png_depth(stream) == 16


def _is_nearly_black(image: Image.Image) -> bool:
    """Returns whether no colour is above the 4 bits that Pillow leaves of 12-bit data in 16 bits."""
    rgb = image.convert("RGB") if image.mode in ("CMYK", "P") else image
    colours = [name for name in rgb.getbands() if name not in "Aa"]
    return all(np.max(rgb.getchannel(name).getextrema()) <= 15 for name in colours)


def _colour_mode(image: Image.Image) -> str:
    """Returns "L", "CMYK", "LAB" or "RGB": the mode of the colours that `to_rgb` hands to the conversion."""
    if image.mode in _GREY:
        return "L"
    return image.mode if image.mode in ("CMYK", "LAB") else "RGB"


def _several(image: Image.Image) -> list[str]:
    """Returns a note if the file has more than one picture."""
    kind = _SEVERAL.get(image.format or "")
    if kind is None:
        return []
    # Counting may read the whole file, of which the rest may be damaged.
    try:
        count = getattr(image, "n_frames", 1)
    except Exception:
        image.seek(0)
        return [f"first of several {kind}"]
    return [f"first of {count} {kind}"] if count > 1 else []


def _exif(image: Image.Image) -> tuple[Image.Exif | None, int, bool]:
    """Returns EXIF data or None, the orientation, and whether the data is damaged."""
    # Its parser fails in as many ways as decoders do, and warns of what it could not read.
    try:
        with _recorded_warnings() as caught:
            exif = image.getexif()
            orientation = exif.get(ExifTags.Base.Orientation)
            if "exif" in image.info:
                # Pillow has read it on opening, and kept its complaints to itself.
                exif = Image.Exif()
                exif.load(image.info["exif"])
            for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                if directory in exif:
                    exif.get_ifd(directory)
    except Exception:
        return None, 1, True
    upright = orientation if isinstance(orientation, int) else 1
    return (None, upright, True) if caught else (exif, upright, False)


@contextlib.contextmanager
def _recorded_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """Context manager in which no warning is shown, nor raised."""
    with _warnings_lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


@contextlib.contextmanager
def _stream(file: str | os.PathLike[str] | IO[bytes]) -> Iterator[IO[bytes]]:
    """Context manager whose value is the file, opened for reading from any place."""
    if isinstance(file, str | os.PathLike) and storage.is_remote(file):
        yield io.BytesIO(storage.filesystem(file).cat_file(os.fspath(file)))
    elif isinstance(file, str | os.PathLike):
        with open(file, "rb", buffering=_BUFFER) as stream:
            # The first read may have to wait for a network; it is not to happen under the lock.
            stream.read(1)
            yield stream
    elif file.seekable():
        yield file
    else:
        yield io.BytesIO(file.read())


def _head(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    return stream.read(12)


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Context manager that turns any exception of a decoder into an UnreadableError."""
    try:
        yield
    except types.InputError:
        raise
    # On damaged data decoders raise almost anything: OSError, SyntaxError, struct.error, IndexError.
    except Exception as error:
        raise UnreadableError(name, _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is not a picture"
    if isinstance(error, Image.DecompressionBombError):
        pixels, limit, *_ = (int(number) for number in re.findall(r"\d+", str(error)))
        return f"it has {pixels:,} pixels, and more than {limit:,} are not decoded"
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]
