"""Faults of ten kinds planted, and those found: `python tests/bench/bench_doctor.py ROOT OUT [--clean]`.

ROOT has trainA, trainB, testA and testB; a copy with the faults goes to OUT. Prints what was planted and not found,
what was found and not planted, and the time. With --clean nothing is planted.
"""

import argparse
import json
import pathlib
import shutil
import time

import numpy as np
from PIL import Image, ImageOps

from gqst.doctor import __main__ as doctor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--clean", action="store_true")
    flags = parser.parse_args()
    data = flags.out / "data"
    for name in ("trainA", "trainB", "testA", "testB"):
        shutil.copytree(flags.root / name, data / name)
    planted = {} if flags.clean else plant(data)
    started = time.monotonic()
    doctor.main([str(data), "--output", str(flags.out / "doctor.html"), "--json", str(flags.out / "doctor.json")])
    print(f"{time.monotonic() - started:.1f} s")
    report = json.loads((flags.out / "doctor.json").read_text())
    found = {finding["kind"]: set() for finding in report["findings"]}
    for finding in report["findings"]:
        found[finding["kind"]] |= set(finding["pictures"])
    for kind in sorted({*planted, *found}):
        missed, more = (
            planted.get(kind, set()) - found.get(kind, set()),
            found.get(kind, set()) - planted.get(kind, set()),
        )
        print(f"{kind}: {len(planted.get(kind, ()))} planted; missed {sorted(missed)}, not planted {sorted(more)}")


def plant(data: pathlib.Path) -> dict[str, set[str]]:
    """Plants the faults and returns the names of the pictures that have them, by kind."""
    photos, paintings = (sorted((data / name).iterdir()) for name in ("trainA", "trainB"))
    shutil.copy(photos[10], data / "trainA/copy.jpg")
    half = photos[20].read_bytes()
    photos[20].write_bytes(half[: len(half) // 2])
    _open(photos[30]).resize((640, 480)).save(data / "trainA/again.jpg", quality=60)
    ImageOps.mirror(_open(paintings[30])).save(data / "trainB/mirrored.png")
    shutil.copy(photos[40], data / "testA/seen.jpg")
    shutil.copy(photos[50], data / "trainB/photo.jpg")
    _open(paintings[60]).resize((64, 64)).save(paintings[60])
    _open(paintings[70]).crop((0, 100, 288, 160)).resize((1536, 320)).save(paintings[70])
    Image.new("RGB", (288, 288), (250, 250, 250)).save(data / "trainA/blank.png")
    text = np.full((288, 288, 3), 255, np.uint8)
    text[20:270:12, 20:260:3] = 0
    Image.fromarray(text).save(data / "trainA/page.png")

    def names(*paths: pathlib.Path | str) -> set[str]:
        return {p if isinstance(p, str) else p.relative_to(data).as_posix() for p in paths}

    shutil.move(photos[60], data / "trainB/moved.jpg")
    return {
        "duplicate": names(photos[10], "trainA/copy.jpg"),
        "unreadable": names(photos[20]),
        "near-duplicate": names(photos[30], "trainA/again.jpg", paintings[30], "trainB/mirrored.png"),
        "leak": names(photos[40], "testA/seen.jpg"),
        "two domains": names(photos[50], "trainB/photo.jpg"),
        "small": names(paintings[60]),
        "elongated": names(paintings[70]),
        "blank": names("trainA/blank.png"),
        "outlier": names("trainA/page.png"),
        "stray": names("trainB/moved.jpg"),
    }


def _open(path: pathlib.Path) -> Image.Image:
    return Image.open(path).convert("RGB")


if __name__ == "__main__":
    main()
