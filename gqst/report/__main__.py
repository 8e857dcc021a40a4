"""`python -m gqst.report`: writes the report of a run."""

import argparse
import pathlib

from gqst import cli


def main(argv: list[str] | None = None) -> None:
    """Parses the flags and writes the page."""
    parser = argparse.ArgumentParser(
        prog="python -m gqst.report",
        description=(
            "Writes report.html into the folder of a run: one page with its pictures, curves, decisions, alarms and "
            "config, which opens in any browser without a network. Training refreshes it after its rounds."
        ),
    )
    parser.add_argument("workdir", type=pathlib.Path, metavar="RUN", help="folder of the run")
    parser.add_argument("--compare", type=pathlib.Path, metavar="OTHER", help="folder of a run to show beside it")
    parser.add_argument(
        "--output", type=pathlib.Path, metavar="FILE", help="file to write (default: report.html in the run's folder)"
    )
    cli.add_import_flag(parser)
    flags = parser.parse_args(argv)

    from gqst.report import page

    cli.import_members(flags.imports)
    path = page.write(flags.workdir, other=flags.compare, path=flags.output)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB; open it in a browser")


if __name__ == "__main__":
    cli.run(main)
