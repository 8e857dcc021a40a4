"""What the entry points share: how they end, and how they speak."""

import argparse
import logging
import os
import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from gqst.runtime import processes


def run(main: Callable[[], int | None]) -> None:
    """Calls an entry point and exits: 0, or with one sentence 2 for bad input and 1 for a failed run."""
    from gqst import types

    logging.basicConfig(format="gqst: %(message)s", level=logging.ERROR)
    logging.getLogger("gqst").setLevel(logging.INFO)
    # Orbax tells of its own doings through absl; what fails there is raised besides, and told in a sentence.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    try:
        code = main()
    except types.InputError as error:
        _fail(error, 2)
    except types.RunError as error:
        _fail(error, 1)
    except BrokenPipeError:
        os._exit(0)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", 2)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    sys.exit(code or 0)


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --config and --set."""
    parser.add_argument(
        "--config",
        required=True,
        help="a config file, or the name of one that comes with gqst, as in quickstart",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="changes to the config, as in steps=2000 generator.filters=32 losses.cycle=off",
    )


def add_checkpoint_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --checkpoint, of a run."""
    parser.add_argument(
        "--checkpoint",
        type=_which,
        default="best",
        metavar="{best,last,STEP}",
        help="of the run: the best round's checkpoint (default), the newest, or that of a step",
    )


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say which processes work together."""
    several = parser.add_argument_group("several processes", "the same command on every host, on shared storage")
    several.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 can be reached by the others")
    several.add_argument("--processes", type=int, metavar="N", help="how many there are")
    several.add_argument("--process", type=int, metavar="I", help="which one this is, from 0")
    several.add_argument(
        "--distributed",
        action="store_true",
        help="find all three in the environment of a TPU pod, SLURM, Kubernetes or Open MPI",
    )
    several.add_argument(
        "--wait", type=int, default=300, metavar="SECONDS", help="for the others at the start (default: 300)"
    )


def group(flags: argparse.Namespace) -> "processes.Group | None":
    """The processes that these flags name; None where this is the only one."""
    from gqst import types
    from gqst.runtime import processes

    named = (flags.coordinator, flags.processes, flags.process)
    if named == (None, None, None):
        return processes.Group(seconds=flags.wait) if flags.distributed else None
    if flags.coordinator is None or flags.distributed:
        raise types.InputError("give --coordinator, --processes and --process together, or --distributed alone")
    return processes.Group(coordinator=named[0], count=named[1], index=named[2], seconds=flags.wait)


def pixels(text: str) -> int:
    """The value of a flag that is a size."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels")
    return int(text)


def share(text: str) -> tuple[int, int]:
    """The value of a flag that is share I of N, from 0."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N - 1")
    return int(index), int(count)


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless JAX_COMPILATION_CACHE_DIR says where or is empty."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    jax.config.update("jax_compilation_cache_dir", str(cache("xla")))


def cache(kind: str) -> pathlib.Path:
    """The folder of what is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "gqst" / kind


def _which(text: str) -> Literal["best", "last"] | int:
    if text == "best":
        return "best"
    if text == "last":
        return "last"
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not best, last or a step") from None


def _fail(sentence: object, code: int) -> None:
    print(f"gqst: error: {sentence}", file=sys.stderr)
    sys.exit(code)
