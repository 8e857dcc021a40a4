"""Packed pictures against a folder of the same: `python tests/bench/bench_records.py OUT [--count N]`.

Makes N small pictures (64 x 48 px, 100,000 by default) in OUT, packs them, and prints pictures/s of packing, the time
to open both, pictures/s of training batches from both, alternately, and the memory that each takes.
"""

import argparse
import io
import pathlib
import statistics
import time

import numpy as np
from PIL import Image

from gqst import overrides
from gqst.data import packing, pipeline, sources

BATCHES, ROUNDS = 40, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=100_000)
    flags = parser.parse_args()
    folder, packed = flags.out / "folder", flags.out / "packed"
    if not folder.exists():
        make(folder, flags.count)
    started = time.monotonic()
    packing.pack(folder, packed)
    seconds = time.monotonic() - started
    print(f"packed {flags.count:,} in {seconds:.1f} s, {flags.count / seconds:,.0f} pictures/s")
    rates: dict[str, list[float]] = {}
    iterators = {}
    for name, place in (("folders", folder), ("records", packed)):
        changes = (f"data={name}", f"data.source={place}", f"data.target={place}", "image_size=48", "batch_size=16")
        cfg = overrides.load("photo2painting", *changes, "preprocess.load_size=48", "validation=0")
        before, started = memory(), time.monotonic()
        dataset = sources.load(cfg)
        iterators[name] = pipeline.make_iterator(dataset, cfg, cache_bytes=0)
        print(f"{name}: opened in {time.monotonic() - started:.2f} s, {memory() - before:.0f} MiB more")
    for _ in range(ROUNDS):
        for name, iterator in iterators.items():
            started = time.monotonic()
            for _ in range(BATCHES):
                next(iterator)
            rates.setdefault(name, []).append(2 * 16 * BATCHES / (time.monotonic() - started))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(", ".join(f"{name} {value:,.0f} pictures/s" for name, value in medians.items()))
    print(f"records / folders {medians['records'] / medians['folders']:.2f}; memory now {memory():.0f} MiB")
    for iterator in iterators.values():
        iterator.close()


def make(folder: pathlib.Path, count: int) -> None:
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(64):
        buffer = io.BytesIO()
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        small.resize((64, 48), Image.Resampling.BICUBIC).save(buffer, format="JPEG", quality=90)
        contents.append(buffer.getvalue())
    for number in range(count):
        path = folder / f"{number // 1000:04d}" / f"{number:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[number % len(contents)])


def memory() -> float:
    """Resident memory of this process in MiB."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
