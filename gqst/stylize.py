"""`python -m gqst.stylize`: applies a trained generator to pictures."""

import argparse
import pathlib

import gqst
from gqst import cli


def main(argv: list[str] | None = None) -> int:
    """Parses the flags and stylises; the exit code is 1 if some pictures could not be done."""
    parser = argparse.ArgumentParser(
        prog="python -m gqst.stylize",
        description="Applies the trained generator of a run to pictures, each at its own size.",
    )
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder of the run")
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        help="pictures and folders of pictures; demo:photos/test is a bundled one",
    )
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder for the results")
    cli.add_checkpoint_flag(parser)
    parser.add_argument(
        "--direction",
        choices=("forward", "backward"),
        default="forward",
        help="source to target (default), or back where the run was trained with cycles",
    )
    parser.add_argument(
        "--keep-colors",
        action="store_true",
        help="take only the brightness of the style and keep each picture's own colours",
    )
    parser.add_argument(
        "--format",
        choices=("keep", "png", "jpg", "webp"),
        default="keep",
        help="format of the results (default: that of each input)",
    )
    parser.add_argument("--max-size", type=cli.pixels, help="scale larger pictures down to this longer side")
    parser.add_argument("--skip-existing", action="store_true", help="leave results alone that are there already")
    parser.add_argument(
        "--share",
        type=cli.share,
        default=(0, 1),
        metavar="I/N",
        help="do only share I (from 0) of N, where N machines or jobs work on the same pictures",
    )
    flags = parser.parse_args(argv)

    from gqst.inference import batch
    from gqst.runtime import progress

    suffix = None if flags.format == "keep" else f".{flags.format}"
    index, count = flags.share
    jobs = batch.plan(flags.input, flags.output, suffix=suffix)[index::count]
    cli.use_compilation_cache()
    generator = gqst.load_generator(
        flags.workdir, which=flags.checkpoint, direction=flags.direction, keep_colors=flags.keep_colors
    )
    with progress.Counter("stylising") as counter:
        outcome = batch.run(
            generator, jobs, max_size=flags.max_size, skip_existing=flags.skip_existing, progress=counter
        )
    print(
        f"{outcome.written} pictures written to {flags.output} (checkpoint of step {generator.step})"
        + (f", {outcome.skipped} were there already" if outcome.skipped else "")
        + (f", {outcome.failed} left out" if outcome.failed else "")
    )
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    cli.run(main)
