"""`python -m gqst.train`: trains a generator as a config says."""

import argparse

from gqst import cli


def main(argv: list[str] | None = None) -> None:
    """Parses the flags and trains, or with --dry-run prints a summary of the run."""
    parser = argparse.ArgumentParser(
        prog="python -m gqst.train",
        description=(
            "Trains an image-to-image generator. Started again with the same command, it goes on from its "
            "last checkpoint; Ctrl-C and SIGTERM save and leave."
        ),
    )
    cli.add_config_flags(parser)
    parser.add_argument("--workdir", type=cli.place, help="folder of the run: checkpoints, metrics.jsonl, samples")
    parser.add_argument(
        "--parallel",
        choices=("jit", "pmap"),
        default="jit",
        help="how the step is spread over the devices (default: jit)",
    )
    parser.add_argument("--devices", type=int, help="devices to use (default: all)")
    parser.add_argument(
        "--profile",
        type=int,
        nargs="?",
        const=5,
        default=0,
        metavar="CALLS",
        help="write a trace of this many calls to the devices (default: 5) into WORKDIR/profile, for XProf",
    )
    cli.add_process_flags(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print data counts, parameters, shapes and losses, reading every picture, and exit",
    )
    flags = parser.parse_args(argv)
    if flags.workdir is None and not flags.dry_run:
        parser.error("--workdir is needed to train")

    from gqst.runtime import processes
    from gqst.training import loop, summary

    cfg = cli.load_config(flags)
    if flags.dry_run:
        print(summary.describe(cfg))
        return
    cli.use_compilation_cache()
    with processes.joined(cli.group(flags)):
        loop.fit(cfg, flags.workdir, mode=flags.parallel, devices=flags.devices, profile_calls=flags.profile)


if __name__ == "__main__":
    cli.run(main)
