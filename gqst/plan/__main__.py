"""`python -m gqst.plan`: tells whether a config fits on devices that are not here, and how fast it can be there."""

import argparse
import os
import pathlib

from gqst import cli


def main(argv: list[str] | None = None) -> int:
    """Parses the flags, compiles and prints; the exit code is 1 if the config does not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m gqst.plan",
        description=(
            "Compiles the train step of a config for a TPU or GPU, on a machine that has none of it, and tells what "
            "it takes: whether it fits, the time of a step at best, and the largest batch that fits. A compilation "
            "takes minutes; what it says is kept for the next time."
        ),
    )
    cli.add_config_flags(parser)
    parser.add_argument(
        "--target",
        required=True,
        help="v5e:2x2 (also v4, v5p, v6e; without a shape one chip), h100, a100, l4, t4 (h100:8 for eight), or cpu",
    )
    parser.add_argument("--no-search", action="store_true", help="do not look for the largest batch that fits")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all figures as JSON")
    flags = parser.parse_args(argv)
    # The compilers for other devices must not look for these here; and they log much.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    from gqst import overrides
    from gqst.plan import estimate, hardware, report
    from gqst.runtime import progress

    cfg = overrides.override(overrides.load(flags.config), flags.set)
    target = hardware.find(flags.target)
    made = estimate.make(cfg, target, search=not flags.no_search, cache=cli.cache("plans"), say=progress.say)
    print(report.text(made))
    if flags.json is not None:
        report.write_json(flags.json, made)
    return 1 if made.fits is False else 0


if __name__ == "__main__":
    cli.run(main)
