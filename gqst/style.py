"""`python -m gqst.style`: packs the generator of a run into one file, and shows what style files hold."""

import argparse
from typing import Any

from gqst import cli


def main(argv: list[str] | None = None) -> None:
    """Parses the flags and packs, lists or shows."""
    parser = argparse.ArgumentParser(
        prog="python -m gqst.style",
        description="A style as one file: weights, config, and a card that says what it is and how it was made.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="write the generator of a run as a style file")
    pack.add_argument("workdir", type=cli.place, metavar="RUN", help="folder of the run")
    pack.add_argument("file", type=cli.place, metavar="FILE", help="file to write, as in style.safetensors")
    cli.add_checkpoint_flag(pack)
    pack.add_argument("--direction", choices=("forward", "backward"), default="forward", help="default: forward")
    pack.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="default: float16")
    for name, text in (
        ("name", "name of the style"),
        ("data", "what it was trained on"),
        ("licence", "licences of the data, and of the style"),
    ):
        pack.add_argument(f"--{name}", help=f"{text}, for the card")
    pack.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    cli.add_import_flag(pack)
    commands.add_parser("list", help="list the styles that come with gqst")
    show = commands.add_parser("show", help="print the card of a style")
    show.add_argument("style", metavar="FILE|NAME", help="a style file, or the name of a style that comes with gqst")
    flags = parser.parse_args(argv)

    from gqst.models import style_files

    if flags.command == "pack":
        _pack(flags)
    elif flags.command == "list":
        for name, path in style_files.bundled().items():
            title = _printable(style_files.card(path).get("name", ""))
            print(f"{name:14} {path.stat().st_size / 2**20:.1f} MiB  {title}")
        if not style_files.bundled():
            print("no styles come with this copy of gqst: `python -m gqst.style pack RUN FILE` makes one of a run")
    else:
        print(_text(style_files.card(flags.style)))


def _pack(flags: argparse.Namespace) -> None:
    from gqst import types
    from gqst.inference import styles
    from gqst.models import style_files

    cli.import_members(flags.imports)
    if flags.file.suffix != style_files.SUFFIX:
        raise types.InputError(f"{flags.file} has to end in {style_files.SUFFIX}")
    if flags.file.exists() and not flags.overwrite:
        raise types.InputError(f"{flags.file} exists already: --overwrite replaces it")
    named = {"name": flags.name, "data": flags.data, "licence": flags.licence}
    about = {key: value for key, value in named.items() if value is not None}
    options: dict[str, Any] = {"which": flags.checkpoint, "direction": flags.direction, "dtype": flags.dtype}
    card = styles.pack(flags.workdir, flags.file, about=about, **options)
    print(_text(card))
    print(
        f"{flags.file}: {flags.file.stat().st_size / 2**20:.1f} MiB; to use it: "
        f"python -m gqst.stylize --style {flags.file} --input PHOTOS --output OUT"
    )


def _text(card: dict[str, Any]) -> str:
    lines = []
    for key, value in card.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {_short(entry)}" for name, entry in value.items())
        lines.append(_printable(f"{key.replace('_', '-')}: {value}"))
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _printable(value: Any) -> str:
    """The text of a card, which may be anybody's, without characters that would steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


if __name__ == "__main__":
    cli.run(main)
