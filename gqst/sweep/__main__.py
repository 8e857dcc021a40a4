"""`python -m gqst.sweep`: searches for better values of config keys."""

import argparse

from gqst import cli


def main(argv: list[str] | None = None) -> None:
    """Parses the flags, runs trials, and prints the Pareto front."""
    parser = argparse.ArgumentParser(
        prog="python -m gqst.sweep",
        description=(
            "Trains a config again and again with different values of some keys, and reports the trials that no other "
            "beats in both style distance and quality, measured on held-out pictures. The same command resumes "
            "a search. Needs: pip install gqst[sweep]"
        ),
    )
    cli.add_config_flags(parser)
    parser.add_argument(
        "--study",
        type=cli.place_on_disk,
        required=True,
        help="folder for study.db, a run for each trial, table.csv and front.png",
    )
    parser.add_argument(
        "--search",
        nargs="+",
        required=True,
        metavar="KEY=RANGE",
        help="keys to vary: KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=A,B,C, as in losses.content.weight=0.01..1:log",
    )
    parser.add_argument(
        "--trials", type=int, default=20, help="number of trials in all, earlier ones included (default: 20)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the search (default: 0)")
    parser.add_argument("--no-pruning", action="store_true", help="do not end trials that fall behind")
    flags = parser.parse_args(argv)
    if flags.trials < 1:
        parser.error(f"--trials {flags.trials} is not a number of trials")

    from gqst.sweep import report, search

    cfg = cli.load_config(flags)
    spaces = [search.parse(text) for text in flags.search]
    cli.use_compilation_cache()
    trials = search.run(cfg, spaces, flags.study, trials=flags.trials, seed=flags.seed, pruning=not flags.no_pruning)
    report.write(flags.study, spaces, trials)
    print(report.text(spaces, trials))


if __name__ == "__main__":
    cli.run(main)
