"""Flags, errors and caches that the entry points share."""

import argparse
import contextlib
import importlib.util
import logging
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from gqst import config
    from gqst.runtime import processes


def run(main: Callable[[], int | None], *, at_once: bool = False) -> None:
    """Calls an entry point and exits: 0, 2 with a sentence for bad input, or 1 with one for a failed run.

    Args:
      main: The entry point.
      at_once: Whether to end without taking the interpreter and JAX down, which takes a third of a second; for entry
        points that leave nothing open.
    """
    from gqst import storage, types

    logging.basicConfig(format="gqst: %(message)s", level=logging.ERROR)
    logging.getLogger("gqst").setLevel(logging.INFO)
    # Orbax logs its work through absl; its failures are raised as well, and reported in a sentence.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    for stream in (sys.stdout, sys.stderr):
        # A name that the console cannot show ends no run.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    try:
        code = main()
    except types.InputError as error:
        _fail(error, 2)
    except types.RunError as error:
        _fail(error, 1)
    except BrokenPipeError:
        os._exit(0)
    except OSError as error:
        prefix = f"{error.filename}: " if error.filename else ""
        _fail(f"{prefix}{error.strerror or error}", 2)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except Exception as error:
        if not storage.is_refusal(error):
            raise
        _fail(f"the bucket cannot be used: {storage.reason(error)}", 2)
    if at_once:
        for stream in (sys.stdout, sys.stderr):
            # Whoever read the output may be gone.
            with contextlib.suppress(BrokenPipeError):
                stream.flush()
        os._exit(code or 0)
    sys.exit(code or 0)


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --config, --set and --import, which `load_config` reads."""
    parser.add_argument(
        "--config",
        required=True,
        help="a config file, config.json of a run, or the name of a bundled config, as in quickstart",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="changes to the config, as in steps=2000 generator.filters=32 losses.cycle=off",
    )
    add_import_flag(parser)


def add_import_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --import, which `import_members` reads."""
    parser.add_argument(
        "--import",
        dest="imports",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE.py|MODULE",
        help="Python files or modules that register metrics, losses, networks or data sources of your own",
    )


def load_config(flags: argparse.Namespace) -> "config.Config":
    """Returns the config that the flags name, once the members of the user's own are imported."""
    from gqst import overrides

    import_members(flags.imports)
    return overrides.load(flags.config, *flags.set)


def import_members(names: Sequence[str]) -> None:
    """Imports files that end in .py, and modules by name.

    Raises:
      InputError: One of them is missing or raises an exception.
    """
    from gqst import types

    for name in names:
        try:
            if name.endswith(".py"):
                spec = importlib.util.spec_from_file_location(pathlib.Path(name).stem, name)
                assert spec is not None and spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                # Dataclasses look their module up by name.
                sys.modules[spec.name] = module
                spec.loader.exec_module(module)
            else:
                importlib.import_module(name)
        except Exception as error:
            raise types.InputError(f"--import {name}: {type(error).__name__}: {error}") from error


def add_checkpoint_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --checkpoint, which selects a checkpoint of a run."""
    parser.add_argument(
        "--checkpoint",
        type=_checkpoint,
        default="best",
        metavar="{best,last,STEP}",
        help="checkpoint of the run: the best round's (default), the newest, or that of a step",
    )


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that join several processes."""
    arguments = parser.add_argument_group("several processes", "the same command on every host, on shared storage")
    arguments.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0 for the others")
    arguments.add_argument("--processes", type=int, metavar="N", help="number of processes")
    arguments.add_argument("--process", type=int, metavar="I", help="index of this process, from 0")
    arguments.add_argument(
        "--distributed",
        action="store_true",
        help="read all three from the environment of a TPU pod, SLURM, Kubernetes or Open MPI",
    )
    arguments.add_argument(
        "--wait", type=int, default=300, metavar="SECONDS", help="time to wait for the others (default: 300)"
    )


def group(flags: argparse.Namespace) -> "processes.Group | None":
    """Returns the processes that these flags name; None if this is the only one."""
    from gqst import types
    from gqst.runtime import processes

    named = (flags.coordinator, flags.processes, flags.process)
    if named == (None, None, None):
        return processes.Group(timeout_seconds=flags.wait) if flags.distributed else None
    if flags.coordinator is None or flags.distributed:
        raise types.InputError("give --coordinator, --processes and --process together, or --distributed alone")
    return processes.Group(coordinator=named[0], count=named[1], index=named[2], timeout_seconds=flags.wait)


def place(text: str) -> pathlib.Path:
    """Parses the value of a flag that is a path, on disk or in a bucket."""
    from gqst import storage, types

    try:
        return storage.path(text)
    except types.InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def place_on_disk(text: str) -> pathlib.Path:
    """Parses the value of a flag that is a path on disk alone."""
    from gqst import storage

    if storage.is_remote(text):
        raise argparse.ArgumentTypeError(f"{text} has to be on disk: copy it to the bucket afterwards")
    return pathlib.Path(text)


def pixels(text: str) -> int:
    """Parses the value of a flag that is a number of pixels."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels")
    return int(text)


def fraction(text: str) -> float:
    """Parses the value of a flag that is a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def seed(text: str) -> int:
    """Parses the value of a flag that is a seed, from 0 to 2^32 - 1."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed from 0 to 4294967295")
    return int(text)


def quality(text: str) -> int:
    """Parses the value of a flag that is a quality from 1 to 100."""
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a quality from 1 to 100")
    return int(text)


def size_in_bytes(text: str) -> int:
    """Parses the value of a flag that is a number of bytes, as in 800M or 2G."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        value = float(number) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[unit]
    except (ValueError, KeyError):
        value = 0.0
    if not 1 <= value < 2**60:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, as in 800M or 2G")
    return int(value)


def share(text: str) -> tuple[int, int]:
    """Parses the value of a flag that is a share I/N, counted from 0."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N - 1")
    return int(index), int(count)


def use_compilation_cache() -> None:
    """Caches compiled programs between runs, unless JAX_COMPILATION_CACHE_DIR names another folder or is empty."""
    import jax

    from gqst.runtime import caches

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    jax.config.update("jax_compilation_cache_dir", str(caches.folder("xla")))
    # Also small programs: reading one takes a hundredth of a second, and a start may need several.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _checkpoint(text: str) -> Literal["best", "last"] | int:
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
