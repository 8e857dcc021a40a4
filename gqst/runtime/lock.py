"""A folder that belongs to one process at a time."""

import contextlib
import json
import logging
import os
import pathlib
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from gqst import storage, types

_NAME = ".lock"
_EVERY = 10.0
"""Seconds between two signs of life in a bucket."""
_STALE = 3 * _EVERY
"""Seconds without one after which the folder is free."""

_log = logging.getLogger("gqst")


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
    """Context manager in which a folder is this process's own.

    The operating system gives the lock up with the process, however that ends, so a killed one leaves none behind.
    Where there are no locks, on some network file systems and on Windows, a warning says so. In a bucket, a file with a
    sign of life takes the place of the lock, and one that has none for half a minute is taken over.

    Raises:
      InputError: Another process has the folder, or this one has it already.
    """
    if storage.is_remote(folder):
        with _leased(folder):
            yield
        return
    with contextlib.ExitStack() as stack:
        try:
            import fcntl

            file = stack.enter_context(open(folder / _NAME, "a+", encoding="utf-8"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise _in_use(folder, holder) from None
        except (ImportError, OSError) as error:
            _log.warning("%s cannot be locked (%s): start no second run there meanwhile", folder, error)
        else:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield


@contextlib.contextmanager
def _leased(folder: pathlib.Path) -> Iterator[None]:
    """The lock of a folder in a bucket: a file made only if there is none, and written again and again."""
    bucket, name = storage.filesystem(folder), f"{folder}/{_NAME}"
    own, beats = uuid.uuid4().hex, 0

    def content() -> bytes:
        return json.dumps({**_self(), "id": own, "beats": beats}).encode()

    holder = _holder(bucket, name)
    if holder is not None:
        if not _is_gone(holder) and _is_alive(bucket, name, holder):
            raise _in_use(folder, _told(holder))
        with contextlib.suppress(FileNotFoundError):
            bucket.rm_file(name)
    try:
        bucket.pipe_file(name, content(), mode="create")
    except FileExistsError:
        raise _in_use(folder, "another process") from None
    if holder is not None:
        # Two that take over at the same moment remove each other's file.
        time.sleep(_EVERY / 10)
        other = _holder(bucket, name)
        if other is None or other["id"] != own:
            raise _in_use(folder, "another process")
    closed = threading.Event()

    def live() -> None:
        nonlocal beats
        while not closed.wait(_EVERY):
            # One that fails is made up for by the next.
            with contextlib.suppress(Exception):
                holder = _holder(bucket, name)
                if holder is not None and holder["id"] != own:
                    # This process was asleep, or cut off, for too long.
                    _log.error("%s was taken over by %s: this run stops", folder, _told(holder))
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                beats += 1
                bucket.pipe_file(name, content())

    thread = threading.Thread(target=live, name="gqst-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        closed.set()
        thread.join()
        with contextlib.suppress(Exception):
            last = _holder(bucket, name)
            if last is not None and last["id"] == own:
                bucket.rm_file(name)


def _is_alive(bucket: Any, name: str, holder: dict[str, Any]) -> bool:
    """Whether the lock's file changes while it is looked at."""
    _log.info("%s: looking for a sign of life of who holds it, for %.0f s", name, _STALE)
    deadline = time.monotonic() + _STALE
    while time.monotonic() < deadline:
        time.sleep(_EVERY / 10)
        now = _holder(bucket, name)
        if now != holder:
            return now is not None
    return False


def _holder(bucket: Any, name: str) -> dict[str, Any] | None:
    """What the lock's file says; None if there is none. That of a run on disk which was copied says nothing."""
    try:
        found: Any = bucket.cat_file(name)
    except FileNotFoundError:
        return None
    with contextlib.suppress(ValueError, KeyError, TypeError):
        content = json.loads(found)
        return {key: content[key] for key in (*_self(), "id", "beats")}
    return {"id": found}


def _told(holder: dict[str, Any]) -> str:
    return f"process {holder['process']} on {holder['host']}" if "process" in holder else "another process"


def _self() -> dict[str, Any]:
    """This process: its number, its host, and where that number means it, as hosts and containers share names."""
    space = ""
    with contextlib.suppress(OSError):
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        space = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return {"process": os.getpid(), "host": socket.gethostname(), "space": space}


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether the process that held the lock ran on this host and has ended."""
    here = _self()
    if not here["space"] or any(holder.get(key) != here[key] for key in ("host", "space")):
        return False
    try:
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        pass
    return False


def _in_use(folder: pathlib.Path, holder: str) -> types.InputError:
    return types.InputError(f"{folder} is in use by {holder}: wait for it, stop it, or give another --workdir")
