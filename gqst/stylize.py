"""`python -m gqst.stylize`: applies the trained generator of a run to pictures."""

import argparse
import pathlib

import gqst
from gqst import cli


def main(argv: list[str] | None = None) -> int:
    """Parses the flags, stylises, and returns the exit code: 1 if any picture was left out, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m gqst.stylize",
        description="Applies the trained generator of a run to pictures, each at its own size. Pictures that cannot be "
        "read are named and left out.",
    )
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder of the run")
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        help="files and folders, searched with their subfolders; demo:photos/test is a folder that comes with gqst",
    )
    parser.add_argument(
        "--output", type=pathlib.Path, required=True, help="folder for the results, which keep their subfolders"
    )
    cli.add_checkpoint_flag(parser)
    parser.add_argument(
        "--direction",
        choices=("forward", "backward"),
        default="forward",
        help="forward (the default) is source to target; backward needs a run that was trained with cycles",
    )
    parser.add_argument(
        "--keep-colors",
        action="store_true",
        help="take only the brightness of the style, and keep the colours of each picture",
    )
    parser.add_argument(
        "--format",
        choices=("keep", "png", "jpg", "webp"),
        default="keep",
        help="format of the results; keep (the default) is that of each input, or png where it cannot be written",
    )
    parser.add_argument(
        "--max-size", type=cli.pixels, metavar="PIXELS", help="shrink pictures whose longer side exceeds PIXELS to it"
    )
    parser.add_argument("--skip-existing", action="store_true", help="leave results that already exist alone")
    parser.add_argument(
        "--share",
        type=cli.share,
        default=(0, 1),
        metavar="I/N",
        help="stylise only share I (0 to N-1) of the pictures, where N machines or jobs work on them",
    )
    cli.add_import_flag(parser)
    flags = parser.parse_args(argv)

    from gqst.inference import batch
    from gqst.runtime import progress

    suffix = None if flags.format == "keep" else f".{flags.format}"
    index, count = flags.share
    jobs = batch.collect(flags.input, flags.output, suffix=suffix)[index::count]
    cli.use_compilation_cache()
    cli.import_members(flags.imports)
    generator = gqst.load_generator(
        flags.workdir, which=flags.checkpoint, direction=flags.direction, keep_colors=flags.keep_colors
    )
    with progress.Counter("stylising") as counter:
        outcome = batch.stylize(
            generator, jobs, max_size=flags.max_size, skip_existing=flags.skip_existing, progress=counter
        )
    print(
        f"{outcome.written} {'picture' if outcome.written == 1 else 'pictures'} written to {flags.output} "
        f"(checkpoint of step {generator.step})"
        + (f", {outcome.skipped} already existed" if outcome.skipped else "")
        + (f", {outcome.failed} left out" if outcome.failed else "")
    )
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    cli.run(main)
