"""The processes of one run: joining, exchanging values and failing together, on JAX's distributed runtime."""

import contextlib
import dataclasses
import io
import itertools
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float

from gqst import types

LOST_SECONDS = 30
"""Seconds of silence after which a process counts as lost."""

_MEETING_SECONDS = 600
_meetings = itertools.count()

_T = TypeVar("_T")

# Prints the last line that it received, unless that is empty, once the sending process has ended.
_WATCHER = """
import sys
last = (sys.stdin.read().splitlines() or [""])[-1]
if last:
    print("gqst: error:", last, file=sys.stderr)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """The processes of a run, and the place of this one among them.

    Attributes:
      coordinator: HOST:PORT at which process 0 listens; None reads all three from the environment of TPU pods, SLURM,
        Kubernetes or Open MPI.
      count: Number of processes.
      index: Index of this process.
      timeout_seconds: Time to wait for the others.
    """

    coordinator: str | None = None
    count: int | None = None
    index: int | None = None
    timeout_seconds: int


@contextlib.contextmanager
def joined(group: Group | None) -> Iterator[None]:
    """Joins the other processes of a group, if there is one; has to come before any use of devices.

    Inside, JAX's runtime handles SIGTERM: `reached_stop` reports it on all processes.

    Raises:
      InputError: The group is inconsistent, or the others do not answer in time.
    """
    if group is None:
        yield
        return
    if group.coordinator is not None:
        _check(group)
    with _last_words() as say_at_end:
        peers = group.coordinator or "each other"
        say_at_end(f"not all processes of the run came to {peers} within {group.timeout_seconds} s")
        _initialize(group)
        say_at_end(
            "this process was killed, or ended because another one of the run was lost; start all again to go on "
            "from the last checkpoint"
        )
        yield


def _initialize(group: Group) -> None:
    try:
        jax.distributed.initialize(
            group.coordinator,
            group.count,
            group.index,
            cluster_detection_method="deactivate" if group.coordinator else None,
            initialization_timeout=group.timeout_seconds,
            heartbeat_timeout_seconds=LOST_SECONDS,
            shutdown_timeout_seconds=LOST_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise types.InputError(
            f"cannot join the processes of the run: {str(error).splitlines()[0].rstrip('.')}; "
            "give --coordinator, --processes and --process"
        ) from error


def is_first() -> bool:
    """Returns whether this is process 0, which writes logs and pictures."""
    return jax.process_index() == 0


def is_distributed() -> bool:
    """Returns whether the run has more than one process."""
    return jax.process_count() > 1


def broadcast(value: Any) -> Any:
    """Returns process 0's JSON-able value on every process."""
    return all_gather(value if is_first() else None)[0] if is_distributed() else value


def all_gather(value: Any) -> list[Any]:
    """Returns the JSON-able values of all processes, in process order, on every process."""
    if not is_distributed():
        return [value]
    return [json.loads(part) for part in _all_gather_bytes(json.dumps(value).encode())]


def meet() -> None:
    """Waits until all processes are here, ten minutes at most; a collective on CPUs waits half a minute only."""
    if not is_distributed():
        return
    # It takes its time, which a single process need not wait for.
    from orbax.checkpoint import multihost

    everyone = set(range(jax.process_count()))
    multihost.sync_global_processes(f"gqst-{next(_meetings)}", timeout=_MEETING_SECONDS, processes=everyone)


def process_slice() -> slice:
    """Returns this process's share of a sequence that all processes have in the same order: every n-th item."""
    return slice(jax.process_index(), None, jax.process_count())


def lockstep(batches: Iterator[list[_T]]) -> Iterator[list[_T]]:
    """Yields this process's batches, then empty ones for as long as other processes have some."""
    while any(all_gather(len(batch := next(batches, [])))):
        yield batch


def gather_in_order(values: Sequence[Any]) -> list[Any]:
    """Returns the JSON-able values of all processes' shares in the order of the whole sequence."""
    return _interleave(all_gather(list(values)))


def gather_rows_in_order(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "m d"]:
    """Returns the rows of all processes' shares in the order of the whole; a share without rows may have any d."""
    if not is_distributed():
        return rows
    file = io.BytesIO()
    np.save(file, rows, allow_pickle=False)
    parts = [np.load(io.BytesIO(part), allow_pickle=False) for part in _all_gather_bytes(file.getvalue())]
    return np.stack(_interleave(parts))


def _interleave(shares: Sequence[Sequence[Any]]) -> list[Any]:
    """Returns the first item of each share, the second of each and so on, until all are used up."""
    missing = object()
    turns = itertools.zip_longest(*shares, fillvalue=missing)
    return [value for turn in turns for value in turn if value is not missing]


def _all_gather_bytes(data: bytes) -> list[bytes]:
    """Returns the bytes of all processes, of any lengths, on every process."""
    array = np.frombuffer(data, np.uint8)
    sizes = np.ravel(multihost_utils.process_allgather(np.asarray(array.size)))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: array.size] = array
    rows = np.reshape(multihost_utils.process_allgather(padded), (len(sizes), -1))
    return [bytes(row[:size]) for row, size in zip(rows, sizes, strict=True)]


def run_on_all(compute: Callable[[], _T]) -> _T:
    """Returns what `compute` returns; if it raises InputError on one process, raises that on all of them."""
    if not is_distributed():
        return compute()
    result, message = None, ""
    try:
        result = compute()
    except types.InputError as error:
        message = str(error)
    for index, sentence in enumerate(all_gather(message)):
        if sentence:
            raise types.InputError(f"process {index}: {sentence}")
    return cast(_T, result)


def run_on_first(act: Callable[[], None]) -> None:
    """Runs `act` on process 0 while the others wait; if it raises InputError, raises that on all of them."""
    run_on_all(act if is_first() else lambda: None)


def check_same(what: str, value: Mapping[str, Any]) -> None:
    """Raises InputError on every process unless all have the same JSON-able values, naming the key that differs."""
    values = all_gather(value)
    for index, other in enumerate(values):
        for key in sorted({*other, *values[0]}):
            if other.get(key) != values[0].get(key):
                raise types.InputError(
                    f"{what} of process {index} differs from that of process 0: {key} is {other.get(key)!r}, not "
                    f"{values[0].get(key)!r}: start all processes with the same"
                )


def reached_stop(step: int) -> bool:
    """Returns whether all processes are to stop at this step because one received SIGTERM; call it at every step."""
    return is_distributed() and multihost_utils.reached_preemption_sync_point(step)


def _check(group: Group) -> None:
    """Raises InputError if the group is inconsistent or its coordinator does not answer."""
    host, _, port = (group.coordinator or "").rpartition(":")
    if not host or not port.isdecimal():
        raise types.InputError(f"--coordinator {group.coordinator!r} is not HOST:PORT")
    if group.count is None or group.index is None or not 0 <= group.index < group.count:
        raise types.InputError(
            "--coordinator goes with --processes N and --process I, from 0 to N - 1; "
            f"they are {group.count} and {group.index}"
        )
    deadline = time.monotonic() + group.timeout_seconds
    while group.index:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise types.InputError(
                    f"the coordinator {group.coordinator} does not answer within {group.timeout_seconds} s "
                    f"({error.strerror or error}): process 0 listens there once it is started"
                ) from error
            time.sleep(0.2)


@contextlib.contextmanager
def _last_words() -> Iterator[Callable[[str], None]]:
    """Yields a function that sets the sentence to print if the process does not leave this context alive.

    A second process has to print it, because nothing can run in this one any more. When another process is lost or
    never comes, JAX's runtime ends this one with a fatal log entry, which bypasses atexit, excepthook and
    Python's signal handlers; SIGKILL bypasses everything. `jax.distributed.initialize` takes no callback for a
    lost process, and the one of jaxlib's private client covers neither SIGKILL nor a process that never comes.
    """
    command = [sys.executable, "-c", _WATCHER]
    # In a session of its own, so that a signal to the process group leaves it alive.
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, text=True)
    pipe = cast(IO[str], watcher.stdin)

    def say_at_end(sentence: str) -> None:
        pipe.write(f"{sentence}\n")
        pipe.flush()

    try:
        yield say_at_end
    finally:
        say_at_end("")
        pipe.close()
        watcher.wait()
