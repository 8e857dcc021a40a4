"""`python -m gqst.stylize`: applies the trained generator of a run to pictures."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from gqst import cli, storage

if TYPE_CHECKING:
    from gqst.inference.generator import Generator

_STANDARD = "-"
_FORMATS = ("keep", "png", "jpg", "webp", "tif", "avif")


def main(argv: list[str] | None = None) -> int:
    """Parses the flags, stylises, and returns the exit code: 1 if any picture was left out, else 0."""
    parser = _parser()
    flags = parser.parse_args(argv)
    if flags.style is None and flags.workdir is None:
        parser.error("give --style, or --workdir of a run")
    if flags.workdir is None and (flags.checkpoint, flags.direction) != (None, None):
        parser.error("--checkpoint and --direction choose a generator of a run: a style file has one")
    flags.checkpoint = "best" if flags.checkpoint is None else flags.checkpoint
    flags.direction = flags.direction or "forward"
    cli.import_members(flags.imports)
    if _STANDARD in flags.input:
        return _standard_input(flags)

    from gqst.inference import inputs

    suffix = None if flags.format == "keep" else f".{flags.format}"
    found = inputs.collect(flags.input, storage.path(flags.output), suffix=suffix, depth=flags.depth)
    index, count = flags.share
    found = inputs.Inputs(found.jobs[index::count], found.left_out)
    if flags.dry_run:
        return _dry_run(flags, found)
    if not (flags.skip_existing or flags.overwrite):
        inputs.check_existing(found.jobs)
    return _stylize(flags, found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gqst.stylize",
        description="Applies the trained generator of a run, or a style, to pictures, each at its own size. "
        "Pictures that cannot be done are named and left out. Results are sRGB and keep their EXIF data.",
    )
    style = parser.add_argument_group("style")
    style.add_argument(
        "--style",
        metavar="PICTURE|FILE|NAME",
        help="a picture to paint like, at once and without training, or several, as in a.jpg:0.7,b.jpg:0.3; a style "
        "file; or the name of a style that comes with gqst: `python -m gqst.style list`",
    )
    style.add_argument(
        "--workdir",
        type=cli.place,
        help="folder of a run, whose generator is applied; with a picture as --style, of a run of any_style",
    )
    style.add_argument(
        "--structure",
        type=cli.fraction,
        metavar="0.6..0.9",
        help="with a picture as --style: how much of each picture's structure is kept, as its contrast_structure "
        "(default: 0.7)",
    )
    style.add_argument(
        "--style-size",
        type=cli.pixels,
        metavar="PIXELS",
        help="with a picture as --style: the size that its shorter side is looked at; larger has wider strokes "
        "(default: 384)",
    )
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="PATH",
        help="files, folders (searched with their subfolders), patterns such as 'in/**/*.jpg', @FILE for a text file "
        "with a path on every line, or - for a picture on standard input; demo:photos/test is a folder that comes with "
        "gqst",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="PATH",
        help="folder for the results, which keep their subfolders; a file, for a single picture; or - for standard "
        "output, for the picture on standard input",
    )
    cli.add_checkpoint_flag(parser)
    parser.add_argument(
        "--direction",
        choices=("forward", "backward"),
        default="forward",
        help="forward (the default) is source to target; backward needs a run that was trained with cycles",
    )
    look = parser.add_argument_group("look")
    look.add_argument(
        "--strength",
        type=cli.fraction,
        default=1.0,
        metavar="0..1",
        help="how much of the style: 0 is the picture itself, 1 (the default) the generator's result",
    )
    look.add_argument(
        "--min-structure",
        type=cli.fraction,
        metavar="0..1",
        help="lower the strength of every picture until its contrast_structure to the source is at least this",
    )
    look.add_argument(
        "--keep-colors",
        action="store_true",
        help="take only the brightness of the style, and keep the colours of each picture",
    )
    look.add_argument(
        "--max-size", type=cli.pixels, metavar="PIXELS", help="shrink pictures whose longer side exceeds PIXELS to it"
    )
    look.add_argument(
        "--seed",
        type=cli.seed,
        metavar="N",
        help="another number gives a variant of every picture, where the generator has noise (generator.noise=True)",
    )
    written = parser.add_argument_group("files")
    written.add_argument(
        "--format",
        choices=_FORMATS,
        default="keep",
        help="format of the results; keep (the default) is that of each input, or png where it cannot be written",
    )
    written.add_argument(
        "--quality", type=cli.quality, metavar="1..100", help="quality of jpg (default: 95), webp (95) and avif (90)"
    )
    written.add_argument(
        "--depth",
        type=int,
        choices=(8, 16),
        default=8,
        help='bits per channel (default: 8); 16 reads and writes png and tif at full depth: pip install "gqst[deep]"',
    )
    existing = written.add_mutually_exclusive_group()
    existing.add_argument("--skip-existing", action="store_true", help="leave results that already exist alone")
    existing.add_argument("--overwrite", action="store_true", help="replace results that already exist")
    work = parser.add_argument_group("work")
    work.add_argument("--dry-run", action="store_true", help="print what would be done, and exit")
    work.add_argument("--json", type=cli.place, metavar="FILE", help="write what became of every picture")
    work.add_argument(
        "--memory",
        type=cli.size_in_bytes,
        metavar="BYTES",
        help="memory that the network may take, as in 800M or 2G; larger pictures are done in tiles, with the same "
        "result (default: 1.5G, or half of what a GPU or TPU has)",
    )
    work.add_argument(
        "--share",
        type=cli.share,
        default=(0, 1),
        metavar="I/N",
        help="stylise only share I (0 to N-1) of the pictures, where N machines or jobs work on them",
    )
    cli.add_import_flag(parser)
    # None, so that a default that is given all the same is told from one that is not.
    parser.set_defaults(checkpoint=None, direction=None)
    return parser


def _load(flags: argparse.Namespace) -> "Generator":
    import gqst

    cli.use_compilation_cache()
    options = {"keep_colors": flags.keep_colors, "memory": flags.memory, "seed": flags.seed}
    run = {"which": flags.checkpoint, "direction": flags.direction}
    if flags.style is None:
        return gqst.load_generator(flags.workdir, **run, **options)

    from gqst import types
    from gqst.inference import any_style

    if not any_style.is_picture(flags.style):
        if (flags.workdir, flags.structure, flags.style_size) != (None, None, None):
            raise types.InputError(
                "--workdir, --structure and --style-size go with a picture as --style: "
                f"{flags.style} is a style with a generator of its own"
            )
        return gqst.load_style(flags.style, **options)
    base = None if flags.workdir is None else any_style.of_run(flags.workdir, **run)
    given = {"structure": flags.structure, "size": flags.style_size}
    return any_style.Stylizer(
        flags.style, base=base, **{key: value for key, value in given.items() if value is not None}, **options
    )


def _stylize(flags: argparse.Namespace, found: Any) -> int:
    from gqst.inference import batch
    from gqst.inference import report as reports
    from gqst.runtime import progress

    generator = _load(flags)
    options = batch.Options(
        strength=flags.strength,
        min_structure=flags.min_structure,
        max_size=flags.max_size,
        depth=flags.depth,
        quality=flags.quality,
        skip_existing=flags.skip_existing,
    )

    def on_end(report: reports.Report) -> None:
        if flags.json is not None:
            reports.write_json(flags.json, report, _about(flags) | {"checkpoint": generator.step})

    with progress.Counter("stylising") as counter:
        report = batch.stylize(generator, found, options, progress=counter, on_end=on_end)
    print(reports.text(report, storage.path(flags.output), checkpoint=generator.step))
    return 1 if report.count("failed") else 0


def _dry_run(flags: argparse.Namespace, found: Any) -> int:
    from gqst.inference import inputs
    from gqst.inference import report as reports

    report = inputs.planned(found, max_size=flags.max_size, skip_existing=flags.skip_existing)
    if flags.json is not None:
        reports.write_json(flags.json, report, _about(flags))
    print(reports.plan(report))
    return 1 if report.count("failed") else 0


def _standard_input(flags: argparse.Namespace) -> int:
    """Stylises the picture on standard input."""
    import dataclasses
    import io

    from gqst import types
    from gqst.pictures import decode, files

    output = storage.path(flags.output)
    to_file = flags.output != _STANDARD
    if flags.input != [_STANDARD] or (to_file and output.suffix.lower() not in files.FORMATS):
        raise types.InputError("--input - is a single picture: give --output - or a file, such as out.png")
    if to_file and output.exists() and not flags.overwrite:
        raise types.InputError(f"{output} exists already: --overwrite replaces it")
    try:
        content = io.BytesIO(sys.stdin.buffer.read())
        picture = files.read(content, max_size=flags.max_size, depth=flags.depth, name="standard input")
    except decode.UnreadableError as error:
        raise types.InputError(str(error)) from error
    generator = _load(flags)
    try:
        [styled] = generator.translate([picture.pixels], strength=flags.strength, min_structure=flags.min_structure)
    except (ValueError, ArithmeticError, MemoryError) as error:
        raise types.InputError(f"standard input: {error}") from error
    picture = dataclasses.replace(picture, pixels=styled.pixels)
    if to_file:
        files.write(output, picture, quality=flags.quality)
    else:
        suffix = "png" if flags.format == "keep" else flags.format
        sys.stdout.buffer.write(files.encode(picture, suffix, quality=flags.quality))
        sys.stdout.buffer.flush()
    return 0


def _about(flags: argparse.Namespace) -> dict[str, Any]:
    """What was asked for, for the report."""
    look = ("structure", "style_size", "strength", "min_structure", "keep_colors", "seed")
    names = ("direction", *look, "max_size", "format", "quality", "depth")
    given = {"run": flags.workdir and str(flags.workdir), "style": flags.style}
    origin = {key: value for key, value in given.items() if value is not None}
    return origin | {"options": {name: getattr(flags, name) for name in names}}


if __name__ == "__main__":
    cli.run(main, at_once=True)
