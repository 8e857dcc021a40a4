"""Memory traffic of a compiled program, read from its HLO text."""

import collections
import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_BITS = {"pred": 8, "bf16": 16}
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([\d,]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(r"(?:calls|to_apply|body|(?:called|branch|true|false)_computations?)=(\{[^}]*\}|%[\w.\-]+)")
# Memory on the chip itself, such as a TPU's vector memory, costs nothing.
_ON_CHIP = re.compile(r"S\([1-9]\d*\)")
_FREE = frozenset({"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id"})
_CALLS = frozenset({"call", "while", "conditional", "async-start"})


class _Instruction(NamedTuple):
    name: str
    size: float  # bytes of the result
    opcode: str
    rest: str  # the text from the arguments on

    @property
    def operands(self) -> list[str]:
        return _NAME.findall(_arguments(self.rest))


def of(text: str) -> float:
    """Returns the bytes that a run of a program reads and writes: the operands and results of each kernel.

    A conditional counts as its most expensive branch, a loop as often as it runs if that is known, else once. Of an
    array that a loop reads or writes part by part, each time round counts one part.

    Args:
      text: Optimized HLO from `jax.stages.Compiled.as_text()`.

    Raises:
      ValueError: The text has no entry computation.
    """
    bodies, entry = _computations(text)
    if entry is None:
        raise ValueError("the text has no entry computation")
    costs: dict[str, float] = {}

    def computation_cost(name: str) -> float:
        if name not in costs:
            costs[name] = sum(instruction_cost(line) for line in bodies[name])
        return costs[name]

    def instruction_cost(line: _Instruction) -> float:
        _, result, opcode, rest = line
        if opcode in _FREE or opcode.endswith(("-done", "-update")):
            return 0.0
        if opcode in _CALLS:
            trips = _TRIPS.search(rest)
            names = [name for called in _CALLED.findall(rest) for name in _NAME.findall(called)]
            called = [computation_cost(name) for name in names if name in bodies]
            once = max(called, default=0.0) if opcode == "conditional" else math.fsum(called)
            return (int(trips.group(1)) if trips else 1) * once
        if opcode.endswith("-start"):
            return result
        operands = [sizes.get(operand, 0.0) for operand in line.operands]
        fused = _CALLED.search(rest) if opcode == "fusion" else None
        if fused is not None and (body := bodies.get(fused.group(1).lstrip("%"))):
            return _cost_of_fusion(body, operands, result)
        if opcode == "dynamic-slice":
            return 2.0 * result
        if opcode == "dynamic-update-slice":
            return 2.0 * operands[1]
        return result + math.fsum(operands)

    sizes = {name: size for lines in bodies.values() for name, size, _, _ in lines}
    return computation_cost(entry)


def _cost_of_fusion(body: Sequence[_Instruction], operands: Sequence[float], result: float) -> float:
    """Bytes that a fused computation moves, given those of its operands and of its result."""
    lines = {line.name: line for line in body}
    users: dict[str, list[_Instruction]] = collections.defaultdict(list)
    for line in body:
        for name in line.operands:
            users[name].append(line)
    root = body[-1]
    results = [lines[name] for name in root.operands] if root.opcode == "tuple" else [root]
    updates = [line for line in results if line.opcode == "dynamic-update-slice"]
    # An updated array stays where it is.
    kept = {line.operands[0] for line in updates}
    moved = max(result - math.fsum(line.size - lines[line.operands[1]].size for line in updates), 0.0)
    for line in body:
        if line.opcode != "parameter":
            continue
        whole, readers = operands[int(_arguments(line.rest).strip("()"))], users[line.name]
        parts = [user.size for user in readers if user.opcode == "dynamic-slice" and user.operands[0] == line.name]
        if len(parts) == len(readers):
            moved += min(whole, math.fsum(parts))
        elif line.name not in kept or len(readers) > 1:
            moved += whole
    return moved


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str | None]:
    """Returns the instructions of each computation by name, and the name of the entry."""
    bodies: dict[str, list[_Instruction]] = {}
    entry, body = None, None
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith((" ", "HloModule")):
            name = _NAME.search(line)
            if name is not None:
                body = bodies.setdefault(name.group(1), [])
                entry = name.group(1) if line.startswith("ENTRY") else entry
        elif body is not None and " = " in line:
            left, right = line.split(" = ", 1)
            name = _NAME.search(left)
            kind, rest = _split(right)
            opcode = rest.split("(", 1)[0].strip()
            if name is not None:
                measure = _copied_bytes if opcode.endswith("-start") else _bytes
                body.append(_Instruction(name.group(1), measure(kind), opcode, rest[len(opcode) :].lstrip()))
    return bodies, entry


def _split(right: str) -> tuple[str, str]:
    """Returns an instruction's type, and the text from its opcode on."""
    if not right.startswith("("):
        kind, _, rest = right.partition(" ")
        return kind, rest
    end = _closing(right)
    return right[: end + 1], right[end + 2 :]


def _arguments(rest: str) -> str:
    return rest[: _closing(rest) + 1]


def _closing(text: str) -> int:
    """Returns the index at which the parenthesis that the text starts with closes."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return index
    return len(text) - 1


def _bytes(kind: str) -> float:
    return math.fsum(size for size, on_chip in _arrays(kind) if not on_chip)


def _copied_bytes(kind: str) -> float:
    """Returns the bytes that an asynchronous copy reads and writes, by its type: both ends, then bookkeeping."""
    ends = list(_arrays(kind))[:2]
    return min((size for size, _ in ends), default=0.0) * sum(not on_chip for _, on_chip in ends)


def _arrays(kind: str) -> Iterator[tuple[float, bool]]:
    """Yields the bytes of each array of a type, and whether it is on the chip."""
    for name, shape, layout in _ARRAY.findall(kind):
        digits = re.search(r"\d+", name)
        bits = _BITS.get(name, int(digits.group()) if digits else 0)
        yield math.prod(int(n) for n in shape.split(",") if n) * bits / 8, bool(_ON_CHIP.search(layout))
