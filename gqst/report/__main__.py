"""`python -m gqst.report`: writes the report of a run."""

import argparse
import contextlib

from gqst import cli, storage


def main(argv: list[str] | None = None) -> None:
    """Parses the flags and writes the page."""
    parser = argparse.ArgumentParser(
        prog="python -m gqst.report",
        description=(
            "Writes report.html into the folder of a run: one page with its pictures, curves, decisions, alarms and "
            "config, which opens in any browser without a network. Training refreshes it after its rounds."
        ),
    )
    parser.add_argument("workdir", type=cli.place, metavar="RUN", help="folder of the run")
    parser.add_argument("--compare", type=cli.place, metavar="OTHER", help="folder of a run to show beside it")
    parser.add_argument(
        "--output", type=cli.place, metavar="FILE", help="file to write (default: report.html in the run's folder)"
    )
    cli.add_import_flag(parser)
    flags = parser.parse_args(argv)

    from gqst.report import page

    cli.import_members(flags.imports)
    with contextlib.ExitStack() as stack:
        run, other = (
            folder and stack.enter_context(storage.on_disk(folder, lambda name: not name.startswith("checkpoints/")))
            for folder in (flags.workdir, flags.compare)
        )
        path = flags.output or flags.workdir / page.FILE
        page.write(run, other=other, path=path, place=flags.workdir)
    print(f"{path} is written; open it in a browser")


if __name__ == "__main__":
    cli.run(main)
