"""`python -m gqst.plan`: estimates whether a config fits on devices that are not present, and how fast it can be."""

import argparse
import os

from gqst import cli

# Read by JAX and the compilers as they are loaded.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # nothing runs on an accelerator, even where there is one
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # libtpu would ask a metadata server which TPU it is on, and let no other process load it.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_MIN_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    # The CUDA libraries need not be installed to compile.
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
}


def main(argv: list[str] | None = None) -> int:
    """Parses the flags, compiles and prints; the exit code is 1 if the config does not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m gqst.plan",
        description=(
            "Compiles the train step of a config for a TPU or GPU, on a machine without one, and reports what the step "
            "takes: whether it fits, its time at best, and the largest batch that fits. A compilation takes minutes; "
            "its result is cached."
        ),
    )
    cli.add_config_flags(parser)
    parser.add_argument(
        "--target",
        required=True,
        help="v5e:2x2 (also v4, v5p, v6e; one chip without a shape), h100, a100, l4, t4 (h100:8 for eight), or cpu",
    )
    parser.add_argument("--no-search", action="store_true", help="do not look for the largest batch that fits")
    parser.add_argument("--json", type=cli.place, metavar="FILE", help="write all figures as JSON")
    flags = parser.parse_args(argv)
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)

    from gqst.plan import estimate, hardware, report
    from gqst.runtime import caches, progress

    cfg = cli.load_config(flags)
    target = hardware.find(flags.target)
    estimated = estimate.estimate(
        cfg, target, find_largest=not flags.no_search, cache=caches.folder("plans"), say=progress.say
    )
    print(report.text(estimated))
    if flags.json is not None:
        report.write_json(flags.json, estimated)
    return 1 if estimated.fits is False else 0


if __name__ == "__main__":
    cli.run(main)
