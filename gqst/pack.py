"""`python -m gqst.pack`: packs folders of pictures into records for training."""

import argparse

from gqst import cli


def main(argv: list[str] | None = None) -> None:
    """Parses the flags and packs."""
    parser = argparse.ArgumentParser(
        prog="python -m gqst.pack",
        description=(
            "Packs folders of pictures into shards that are read at random, for training with data=records: a million "
            "pictures open in seconds, from few files. The same command goes on where an earlier one was ended. "
            "Pictures that cannot be read are left out and named."
        ),
    )
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="FOLDER",
        help="folders of pictures; one with trainA, trainB, testA or testB inside stands for these",
    )
    parser.add_argument("output", type=cli.place, metavar="OUT", help="folder to write, with one inside for each")
    parser.add_argument(
        "--size", type=cli.pixels, help="scale pictures down to this shorter side in pixels (default: as they are)"
    )
    parser.add_argument("--workers", type=int, help="number of processes (default: one for each processor)")
    flags = parser.parse_args(argv)

    from gqst import types
    from gqst.data import packing
    from gqst.pictures import folders
    from gqst.runtime import progress

    given = [path for folder in flags.folders for path in folders.inside(folder) or [folders.resolve(folder)]]
    names = [path.resolve().name for path in given]
    if twice := {name for name in names if names.count(name) > 1}:
        raise types.InputError(f"several folders are called {min(twice)}: pack them into OUT folders of their own")
    for path, name in zip(given, names, strict=True):
        with progress.Counter(f"packing {name}") as counter:
            packed = packing.pack(path, flags.output / name, size=flags.size, workers=flags.workers, progress=counter)
        for left_out, reason in packed.left_out.items():
            print(f"left out: {path / left_out}: {reason}")
        print(f"{flags.output / name}: {packed.count:,} packed, {packed.bytes / 2**20:,.1f} MiB")


if __name__ == "__main__":
    cli.run(main)
