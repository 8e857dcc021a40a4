"""`python -m gqst.doctor`: says what is wrong with a data set."""

import argparse

from gqst import cli


def main(argv: list[str] | None = None) -> int:
    """Parses the flags, looks at all pictures and reports; returns 1 if anything is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m gqst.doctor",
        description=(
            "Looks at every picture of a data set before it is trained on, and names what is wrong: unreadable files, "
            "copies, splits that leak, sizes that do not fit, pictures that do not belong. Exits with 1 if anything is."
        ),
    )
    parser.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help="folders of pictures; one with trainA, trainB, testA, testB, train or test inside is taken as these",
    )
    parser.add_argument("--size", type=cli.pixels, default=256, help="side in pixels of training (default: 256)")
    parser.add_argument(
        "--output",
        type=cli.place,
        default="doctor.html",
        metavar="FILE",
        help="page to write (default: doctor.html)",
    )
    parser.add_argument("--json", type=cli.place, metavar="FILE", help="file for all findings and influences")
    flags = parser.parse_args(argv)

    from gqst.doctor import examine, findings, page
    from gqst.runtime import progress

    cli.use_compilation_cache()
    sets = examine.find(flags.data)
    with progress.Counter("looking") as counter:
        examine.look(sets, counter)
    found = findings.of_sets(sets, size=flags.size)
    raised = page.influences(sets)
    print(page.text(sets, found))
    page.write(flags.output, sets, found, raised)
    if flags.json is not None:
        page.write_json(flags.json, sets, found, raised)
    print(f"{flags.output}: all of it with the pictures")
    return 1 if found else 0


if __name__ == "__main__":
    cli.run(main)
