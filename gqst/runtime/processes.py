"""The processes of one run: how they find each other, agree and end together; all on JAX's distributed runtime."""

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
"""How long a process may be silent until the others take it for lost."""

_T = TypeVar("_T")

# Prints the last line that it was sent, once whoever sent it is gone; an empty one is nothing to be said.
_LAST_WORDS = """
import sys
last = (sys.stdin.read().splitlines() or [""])[-1]
if last:
    print("gqst: error:", last, file=sys.stderr)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Which processes make up a run, and which of them this is.

    Attributes:
      coordinator: HOST:PORT that process 0 listens at; None finds all three in the environment of TPU pods, SLURM,
        Kubernetes or Open MPI.
      count: of the processes.
      index: of this one.
      seconds: how long to wait for the others.
    """

    coordinator: str | None = None
    count: int | None = None
    index: int | None = None
    seconds: int


@contextlib.contextmanager
def joined(group: Group | None) -> Iterator[None]:
    """Joins the other processes of the group, if there is one; before anything else asks for devices.

    From there on SIGTERM to any of them is for `stop_at` to tell, on all of them.

    Raises:
      InputError: the group does not make sense, or the others do not answer in time.
    """
    if group is None:
        yield
        return
    if group.coordinator is not None:
        _check(group)
    with _last_words() as say_at_last:
        # JAX's runtime ends the process itself where another one is lost.
        whom = group.coordinator or "each other"
        say_at_last(f"not all processes of the run came to {whom} within {group.seconds} s")
        _start(group)
        say_at_last(
            "this process was killed, or ended because another one of the run was lost; start all again to go on "
            "from the last checkpoint"
        )
        yield


def _start(group: Group) -> None:
    try:
        jax.distributed.initialize(
            group.coordinator,
            group.count,
            group.index,
            cluster_detection_method="deactivate" if group.coordinator else None,
            initialization_timeout=group.seconds,
            heartbeat_timeout_seconds=LOST_SECONDS,
            shutdown_timeout_seconds=LOST_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise types.InputError(
            f"cannot join the processes of the run: {str(error).splitlines()[0].rstrip('.')}; "
            "give --coordinator, --processes and --process"
        ) from error


def first() -> bool:
    """Whether this is process 0, which writes logs and pictures."""
    return jax.process_index() == 0


def several() -> bool:
    """Whether there are others."""
    return jax.process_count() > 1


def told(value: Any) -> Any:
    """What process 0 gives, a JSON-able value, on every process."""
    return gathered(value if first() else None)[0] if several() else value


def gathered(value: Any) -> list[Any]:
    """The JSON-able values of all processes, in their order, on every one."""
    return [json.loads(part) for part in _gathered(json.dumps(value).encode())] if several() else [value]


def own() -> slice:
    """The share of this process in things that all have in one order: every n-th."""
    return slice(jax.process_index(), None, jax.process_count())


def in_step(batches: Iterator[list[_T]]) -> Iterator[list[_T]]:
    """The batches of this process, and empty ones while others still have some."""
    while any(gathered(len(batch := next(batches, [])))):
        yield batch


def in_order(values: Sequence[Any]) -> list[Any]:
    """The JSON-able values of all processes' shares, in the order of the whole."""
    return _woven(gathered(list(values)))


def rows_in_order(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "m d"]:
    """The rows of all processes' shares, in the order of the whole; of one without any, d does not count."""
    if not several():
        return rows
    file = io.BytesIO()
    np.save(file, rows, allow_pickle=False)
    parts = [np.load(io.BytesIO(part), allow_pickle=False) for part in _gathered(file.getvalue())]
    return np.stack(_woven(parts))


def _woven(parts: Sequence[Sequence[Any]]) -> list[Any]:
    """The first of each, the second of each and so on, as far as they go."""
    missing = object()
    turns = itertools.zip_longest(*parts, fillvalue=missing)
    return [value for turn in turns for value in turn if value is not missing]


def _gathered(sent: bytes) -> list[bytes]:
    """What each process sends, on every one."""
    data = np.frombuffer(sent, np.uint8)
    sizes = np.ravel(multihost_utils.process_allgather(np.asarray(data.size)))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: data.size] = data
    rows = np.reshape(multihost_utils.process_allgather(padded), (len(sizes), -1))
    return [bytes(row[:size]) for row, size in zip(rows, sizes, strict=True)]


def together(compute: Callable[[], _T]) -> _T:
    """What `compute` returns; InputError on every process if it raises that on one."""
    if not several():
        return compute()
    made, failed = None, ""
    try:
        made = compute()
    except types.InputError as error:
        failed = str(error)
    for index, sentence in enumerate(gathered(failed)):
        if sentence:
            raise types.InputError(f"process {index}: {sentence}")
    return cast(_T, made)


def at_first(act: Callable[[], None]) -> None:
    """Lets process 0 act alone; the others wait until it has."""
    together(act if first() else lambda: None)


def check_same(what: str, value: Mapping[str, Any]) -> None:
    """InputError on every process unless all give the same JSON-able values; it names the key that differs."""
    values = gathered(value)
    for index, other in enumerate(values):
        for key in sorted({*other, *values[0]}):
            if other.get(key) != values[0].get(key):
                raise types.InputError(
                    f"{what} of process {index} differs from that of process 0: {key} is {other.get(key)!r}, not "
                    f"{values[0].get(key)!r}: start all processes with the same"
                )


def stop_at(step: int) -> bool:
    """Whether SIGTERM came to a process and this is the step at which all stop; to be asked at every step."""
    return several() and multihost_utils.reached_preemption_sync_point(step)


def _check(group: Group) -> None:
    """InputError if the group makes no sense or its coordinator does not answer."""
    host, _, port = (group.coordinator or "").rpartition(":")
    if not host or not port.isdecimal():
        raise types.InputError(f"--coordinator {group.coordinator!r} is not HOST:PORT")
    if group.count is None or group.index is None or not 0 <= group.index < group.count:
        raise types.InputError(
            "--coordinator goes with --processes N and --process I, from 0 to N - 1; "
            f"they are {group.count} and {group.index}"
        )
    ends = time.monotonic() + group.seconds
    while group.index:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > ends:
                raise types.InputError(
                    f"the coordinator {group.coordinator} does not answer within {group.seconds} s "
                    f"({error.strerror or error}): process 0 listens there once it is started"
                ) from error
            time.sleep(0.2)


@contextlib.contextmanager
def _last_words() -> Iterator[Callable[[str], None]]:
    """Has the last sentence said if the process ends inside otherwise than by itself, by JAX's runtime or a signal."""
    command = [sys.executable, "-c", _LAST_WORDS]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, text=True)
    pipe = cast(IO[str], watcher.stdin)

    def say_at_last(sentence: str) -> None:
        pipe.write(f"{sentence}\n")
        pipe.flush()

    try:
        yield say_at_last
    finally:
        say_at_last("")
        pipe.close()
        watcher.wait()
