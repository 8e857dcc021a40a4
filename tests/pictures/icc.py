"""Small ICC profiles, made by the specification (ICC.1:2001-04) for the tests of this folder."""

import struct

import numpy as np
from PIL import Image, ImageCms

_D50 = (0.9642, 1.0, 0.8249)


def rgb(name: str, gamma: float, *primaries: tuple[float, float, float]) -> bytes:
    """A profile of three primaries, given in XYZ relative to D50, and a gamma."""
    tags = {f"{c}XYZ": _xyz(xyz) for c, xyz in zip("rgb", primaries, strict=True)}
    curves = {f"{c}TRC": _curve(gamma) for c in "rgb"}
    return _profile(b"RGB ", b"XYZ ", {"desc": _text(name), "wtpt": _xyz(_D50), **tags, **curves})


def grey(gamma: float) -> bytes:
    return _profile(b"GRAY", b"XYZ ", {"desc": _text("Test grey"), "wtpt": _xyz(_D50), "kTRC": _curve(gamma)})


def cmyk() -> bytes:
    """A profile of inks by a table of two values a side, with the Lab colours of their mixtures."""
    inks = np.stack(np.meshgrid(*[[0.0, 1.0]] * 4, indexing="ij"), axis=-1).reshape(1, 16, 4)
    # Inks that are not clean, so that the formula without a profile gives other colours.
    mixed = np.prod(1.0 - inks[..., None] * np.array([[0.9, 0.3, 0.1], [0.1, 0.8, 0.4], [0.0, 0.1, 0.9], [0.8] * 3]), 2)
    lab = ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
    corners = ImageCms.applyTransform(Image.fromarray(np.round(mixed * 255).astype(np.uint8)), transform)
    # NumPy has a and b signed, the table has not.
    lab_bytes = np.asarray(corners) ^ np.array([0, 128, 128], np.uint8)
    same = bytes(range(256))
    identity = b"".join(_fixed(value) for value in np.eye(3).ravel())
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + 4 * same + lab_bytes.tobytes() + 3 * same
    return _profile(b"CMYK", b"Lab ", {"desc": _text("Test inks"), "wtpt": _xyz(_D50), "A2B0": table}, kind=b"prtr")


def _profile(space: bytes, connection: bytes, tags: dict[str, bytes], kind: bytes = b"mntr") -> bytes:
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name.encode() + struct.pack(">II", start + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"", 0x02400000, kind, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    head = head.ljust(68, b"\0") + b"".join(_fixed(value) for value in _D50)
    return head.ljust(128, b"\0") + table + body


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(value) for value in values)


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _text(text: str) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text.encode() + b"\0" + bytes(78)


DISPLAY_P3 = rgb("Test P3", 2.2, (0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB = rgb("Test A98", 2.2, (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
PROPHOTO = rgb("Test ROMM", 1.8, (0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491))
