"""A folder that belongs to one process at a time."""

import contextlib
import logging
import os
import pathlib
import socket
from collections.abc import Iterator

from gqst import types

_NAME = ".lock"

_log = logging.getLogger("gqst")


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
    """Context manager in which a folder is this process's own.

    The operating system gives the lock up with the process, however that ends, so a killed one leaves none behind.
    Where there are no locks, on some network file systems and on Windows, a warning says so.

    Raises:
      InputError: Another process has the folder, or this one has it already.
    """
    with contextlib.ExitStack() as stack:
        try:
            import fcntl

            file = stack.enter_context(open(folder / _NAME, "a+", encoding="utf-8"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise types.InputError(
                f"{folder} is in use by {holder}: wait for it, stop it, or give another --workdir"
            ) from None
        except (ImportError, OSError) as error:
            _log.warning("%s cannot be locked (%s): start no second run there meanwhile", folder, error)
        else:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield
