"""Checkpoints of a run: written in the background by Orbax, checked when they are read."""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import pathlib
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gqst import storage, types
from gqst.runtime import processes
from gqst.training.state import TrainState

try:
    from orbax.checkpoint import v1 as ocp
except ImportError:  # the v1 interface still lies under experimental in some releases
    from orbax.checkpoint.experimental import v1 as ocp

policies = ocp.training.preservation_policies

_log = logging.getLogger("gqst")

_STATE, _EMA = "state", "ema"
METADATA = "_CHECKPOINT_METADATA"
"""File that Orbax writes last into a checkpoint on disk."""
_COMMITTED = "commit_success.txt"
"""File that Orbax writes last into a checkpoint in gs://."""
_ARRAYS = "/d/"
"""Folder of the files that hold the arrays of a checkpoint."""
UNFINISHED = ".orbax-checkpoint-tmp"
"""Part of the names of checkpoints that are being written."""

Which = Literal["best", "last"] | int
"""A checkpoint: of the best round, the newest, or of a step."""


class Checkpoints:
    """The folder `<workdir>/checkpoints`, one numbered folder a step.

    A checkpoint holds the train state, the running average of the generator apart from it (inference reads
    that alone), and a note: a JSON-serialisable mapping with what the host needs to go on.
    """

    def __init__(self, directory: pathlib.Path, *, keep: int = 3, keep_every: int | None = None):
        """Opens the folder, and creates it if needed.

        Args:
          directory: The folder.
          keep: Number of newest checkpoints to preserve.
          keep_every: Interval in steps of the checkpoints that are preserved for good; None for no others.

        Raises:
          InputError: The folder cannot be created or written to.
        """
        self.directory = storage.absolute(directory)
        self._best = _Best()
        newest = policies.LatestN(keep)
        periodic = [] if keep_every is None else [policies.EveryNSteps(keep_every)]
        check_writable(self.directory)
        self._manager = ocp.training.Checkpointer(
            self.directory,
            preservation_policy=policies.AnyPreservationPolicy([newest, self._best, *periodic]),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            cleanup_tmp_directories=True,
        )
        self._pending: tuple[int, Any] | None = None

    @property
    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in ascending order."""
        return [entry.step for entry in self._manager.checkpoints]

    def keep(self, steps: Sequence[int]) -> None:
        """Preserves the checkpoints of these steps, the best rounds, instead of those of the previous call."""
        self._best.steps = frozenset(steps)

    def drop_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps, the latest first."""
        later = [other for other in reversed(self.steps) if other > step]
        processes.run_on_first(lambda: self._delete(later))
        self._manager.reload()

    def save(self, state: TrainState, note: Mapping[str, Any]) -> None:
        """Starts writing a checkpoint of a state; the state may be donated as soon as this returns.

        Raises:
          InputError: This or the previous checkpoint could not be written.
        """
        step = int(state.step)
        if step in self.steps:
            return
        self.wait()
        trees = {_STATE: state.replace(ema={}), _EMA: state.ema}
        sums = {name: int(_checksum(tree)) for name, tree in trees.items()}
        with _rephrased(f"checkpoint {step} could not be written to {self.directory}"):
            response = self._manager.save_checkpointables_async(
                step, trees, custom_metadata={"note": dict(note), "sums": sums}
            )
        self._pending = (step, response)

    def wait(self) -> None:
        """Waits until the last checkpoint is written; InputError if that failed."""
        if self._pending is None:
            return
        step, response = self._pending
        self._pending = None
        with _rephrased(f"checkpoint {step} could not be written to {self.directory}"):
            response.result()

    def close(self) -> None:
        """Waits and closes; InputError if the last checkpoint could not be written."""
        try:
            self.wait()
        finally:
            # Orbax raises again what `wait` has raised.
            with contextlib.suppress(Exception):
                self._manager.close()

    def restore(self, abstract: TrainState, *, at_most: int | None = None) -> tuple[TrainState, dict[str, Any]] | None:
        """Returns the newest state that can be read, and its note; None if there is no checkpoint.

        Checkpoints that cannot be read are logged in one line each and moved to `<workdir>/corrupt`.

        Args:
          abstract: A state of shapes, types and shardings.
          at_most: Latest step to consider; None considers all.

        Raises:
          InputError: None of the checkpoints can be read.
        """
        broken: list[tuple[int, str]] = []
        for step in reversed([s for s in self.steps if at_most is None or s <= at_most]):
            try:
                trees, note = _read(self._manager, step, {_STATE: abstract.replace(ema={}), _EMA: abstract.ema})
            except Exception as error:  # whatever the storage layer raises on damaged files
                broken.append((step, _first_line(error)))
                continue
            if broken:
                processes.run_on_first(functools.partial(self._set_aside, broken, step))
                self._manager.reload()
            return trees[_STATE].replace(ema=trees[_EMA]), note
        if broken:
            raise types.InputError(
                f"none of the checkpoints {[step for step, _ in broken]} in {self.directory} can be read "
                f"({broken[0][1]}): move the folder away to start anew"
            )
        return None

    def _delete(self, steps: Sequence[int]) -> None:
        for step in steps:
            storage.remove(self.directory / str(step), first=_COMMITTED)

    def _set_aside(self, broken: Sequence[tuple[int, str]], good: int) -> None:
        for step, reason in broken:
            target = self.directory.parent / "corrupt" / str(step)
            while target.exists():
                target = target.with_name(target.name + "_")
            storage.move(self.directory / str(step), target, first=_COMMITTED)
            _log.warning(
                "checkpoint %d cannot be read (%s); it is moved to %s, going on from checkpoint %d",
                step,
                reason,
                target,
                good,
            )


def load_ema(
    directory: pathlib.Path,
    which: Which,
    direction: str,
    abstract: Any,
    *,
    default_directions: Callable[[], Sequence[str]],
) -> tuple[Any, int]:
    """Returns the running average of one direction's generator in a checkpoint, and the checkpoint's step.

    Args:
      directory: The folder `<workdir>/checkpoints`.
      which: `last` (the newest that can be read), `best` (of the best round so far; `last` if there is
        none), or a step.
      direction: `forward` or `backward`.
      abstract: One generator's variables as shapes, types and shardings.
      default_directions: Directions of a checkpoint whose note does not name them.

    Raises:
      InputError: There is no such checkpoint or direction, or it cannot be read.
    """
    if not directory.is_dir():
        raise types.InputError(f"no checkpoints in {directory.parent}: train there first")
    with _readable(directory, _EMA) as (folder, fetch), ocp.training.Checkpointer(storage.absolute(folder)) as manager:
        steps = [entry.step for entry in manager.checkpoints]
        wanted = list(reversed(steps))
        if isinstance(which, int):
            wanted = [step for step in steps if step == which]
        elif which == "best":
            best = _best_step(manager, wanted)
            wanted.sort(key=lambda step: step != best)  # stable: the best first, then the newest
        if not wanted:
            existing = ", ".join(map(str, steps)) or "none"
            raise types.InputError(f"no checkpoint {which} in {directory}; there are: {existing}")
        for step in wanted:
            try:
                note = manager.metadata(step).custom_metadata["note"]
                directions = note.get("directions") or default_directions()
                if direction in directions:
                    fetch(step)
                    trees, _ = _read(manager, step, {_EMA: dict.fromkeys(directions, abstract)})
                    return trees[_EMA][direction], step
            except Exception as error:  # whatever the storage layer raises on damaged files
                _log.warning("checkpoint %d cannot be read (%s)", step, _first_line(error))
                continue
            raise types.InputError(
                f"the run in {directory.parent} has no direction {direction!r}; it has: {', '.join(directions)}"
            )
    raise types.InputError(f"no checkpoint in {directory} can be read")


def load_discriminators(directory: pathlib.Path, step: int, abstract: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the discriminators in a checkpoint, variables by direction and collection.

    Args:
      directory: The folder `<workdir>/checkpoints`.
      step: Step of the checkpoint.
      abstract: Their variables as shapes, types and shardings, by direction.

    Raises:
      InputError: They cannot be read.
    """
    params = {direction: variables["params"] for direction, variables in abstract.items()}
    stats = {direction: {k: v for k, v in tree.items() if k != "params"} for direction, tree in abstract.items()}
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    try:
        with (
            _readable(directory, _STATE) as (folder, fetch),
            context,
            ocp.training.Checkpointer(storage.absolute(folder)) as manager,
        ):
            fetch(step)
            wanted = {_STATE: {"disc": {"params": params, "stats": stats}}}
            read = manager.load_checkpointables(step, wanted)[_STATE]["disc"]
    except Exception as error:  # whatever the storage layer raises on damaged files
        raise types.InputError(f"checkpoint {step} in {directory} cannot be read ({_first_line(error)})") from error
    return {d: {"params": read["params"][d], **read["stats"].get(d, {})} for d in abstract}


def noted_pictures(directory: pathlib.Path) -> list[int] | None:
    """Returns the numbers of source and target pictures that the newest checkpoint notes; None without one."""
    try:
        return _note(directory / str(max(_steps(directory))))["data"]["pictures"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def exists(directory: pathlib.Path) -> bool:
    """Returns whether the folder `<workdir>/checkpoints` holds any checkpoint."""
    return bool(_steps(directory))


def _steps(directory: pathlib.Path) -> list[int]:
    last = _COMMITTED if storage.is_remote(directory) and is_native(directory) else METADATA
    return [int(path.parent.name) for path in directory.glob(f"*/{last}") if path.parent.name.isdecimal()]


def _note(folder: pathlib.Path) -> Any:
    return json.loads((folder / METADATA).read_text(encoding="utf-8"))["custom_metadata"]["note"]


def is_native(directory: pathlib.Path) -> bool:
    """Returns whether Orbax itself writes to a folder: on disk and to gs://, but not to s3://."""
    return not os.fspath(directory).startswith("s3://")


@contextlib.contextmanager
def _readable(directory: pathlib.Path, item: str) -> Iterator[tuple[pathlib.Path, Callable[[int], None]]]:
    """Context manager whose value is a folder that Orbax reads, and a function to call before it reads a step.

    That of a bucket that Orbax cannot read is a copy on disk, which has only the arrays of one item of wanted steps.
    """
    if is_native(directory):
        yield directory, lambda step: None
        return
    every = storage.find(directory)
    names = [name for name in every if f"{name.partition('/')[0]}/{METADATA}" in every]
    with tempfile.TemporaryDirectory(prefix="gqst-") as folder:
        local = pathlib.Path(folder)
        storage.fetch(directory, [name for name in names if _ARRAYS not in name], local)
        yield local, lambda step: storage.fetch(directory, [n for n in names if n.startswith(f"{step}/{item}/")], local)


def check_space(directory: pathlib.Path, needed: int) -> None:
    """Raises InputError unless `needed` bytes are free; a bucket has no end."""
    if storage.is_remote(directory):
        return
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise types.InputError(
            f"no space for checkpoints in {directory}: {needed / 2**20:.0f} MiB are needed and "
            f"{free / 2**20:.0f} MiB free; free space or choose another --workdir"
        )


def check_writable(directory: pathlib.Path) -> None:
    """Creates the folder and tries to write to it; InputError with the reason if that fails."""
    if storage.is_remote(directory):
        _check_bucket(directory)
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".write_test") as probe:
            probe.write(b"gqst")
    except OSError as error:
        raise types.InputError(
            f"cannot write to {directory}: {error.strerror or error}; free space or choose another --workdir"
        ) from error


def _check_bucket(directory: pathlib.Path) -> None:
    probe = f"{directory}/.write_test-{uuid.uuid4().hex}"
    bucket = storage.filesystem(directory)
    try:
        bucket.pipe_file(probe, b"gqst")
        bucket.rm_file(probe)
    except Exception as error:  # whatever the library of the bucket raises
        raise types.InputError(
            f"cannot write to {directory}: {storage.reason(error)}; give the bucket's credentials, or choose another "
            "--workdir"
        ) from error


@dataclasses.dataclass
class _Best:
    """Orbax's policy for checkpoints of the best rounds, which gqst chooses.

    Attributes:
      steps: Steps of the checkpoints to preserve.
    """

    steps: frozenset[int] = frozenset()

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        return [checkpoint.step in self.steps for checkpoint in checkpoints]


@contextlib.contextmanager
def _rephrased(sentence: str) -> Iterator[None]:
    """Turns any exception inside into an InputError that starts with this sentence."""
    try:
        yield
    except Exception as error:  # whatever the storage layer raises
        raise types.InputError(
            f"{sentence}: {_first_line(error)}; earlier checkpoints are untouched: free space or "
            "choose another --workdir"
        ) from error


def _best_step(manager: Any, newest_first: Sequence[int]) -> int | None:
    """The step of the best round, as the newest readable checkpoint notes it."""
    for step in newest_first:
        try:
            best = manager.metadata(step).custom_metadata["note"]["best"]
        except Exception as error:  # whatever the storage layer raises on damaged files
            _log.warning("checkpoint %d cannot be read (%s)", step, _first_line(error))
            continue
        return best["step"] if best else None
    return None


def _read(manager: Any, step: int, abstract: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    metadata = manager.metadata(step).custom_metadata or {}
    trees = dict(manager.load_checkpointables(step, dict(abstract)))
    for name, tree in trees.items():
        if int(_checksum(tree)) != metadata["sums"][name]:
            raise ValueError(f"its {name} differs from what was written")
    return trees, metadata["note"]


@jax.jit
def _checksum(tree: Any) -> jax.Array:
    """The sum of all bytes of a tree modulo 2**32, the same on any number of devices."""
    total = jnp.zeros((), jnp.uint32)
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        total += jnp.sum(jax.lax.bitcast_convert_type(leaf, jnp.uint8), dtype=jnp.uint32)
    return total


def _first_line(error: BaseException) -> str:
    text = str(error).strip("'\" ")
    system = re.search(r"os_error_code='(\d+)'", text)
    if system:
        return os.strerror(int(system.group(1)))
    lines = text.splitlines() or [type(error).__name__]
    return lines[0][:200]
