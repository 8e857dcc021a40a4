"""What a compiled program moves through the memory of a device, read from its HLO text."""

import math
import re
from collections.abc import Iterator

_BITS = {"pred": 8, "bf16": 16}
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([\d,]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(r"(?:calls|to_apply|body|(?:called|branch|true|false)_computations?)=(\{[^}]*\}|%[\w.\-]+)")
# What is on the chip itself, as TPUs' vector memory, costs nothing.
_ON_CHIP = re.compile(r"S\([1-9]\d*\)")
_FREE = frozenset({"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id"})
_CALLS = frozenset({"call", "while", "conditional", "async-start"})


def of(text: str) -> float:
    """The bytes that one run of a program reads and writes: operands and results of each of its kernels.

    Of the branches of a conditional the one that moves most counts.

    Args:
      text: optimised HLO, as `Compiled.as_text()` gives it.

    Raises:
      ValueError: there is no entry computation in it.
    """
    bodies, entry = _computations(text)
    if entry is None:
        raise ValueError("the text has no entry computation")
    known: dict[str, float] = {}

    def cost(name: str) -> float:
        if name not in known:
            known[name] = 0.0  # no computation calls itself
            known[name] = sum(instruction(line, sizes) for line in bodies[name])
        return known[name]

    def instruction(line: tuple[str, float, str, str], sizes: dict[str, float]) -> float:
        _, result, opcode, rest = line
        if opcode in _FREE or opcode.endswith(("-done", "-update")):
            return 0.0
        if opcode in _CALLS:
            trips = _TRIPS.search(rest)
            called = [cost(c) for some in _CALLED.findall(rest) for c in _NAME.findall(some) if c in bodies]
            once = max(called, default=0.0) if opcode == "conditional" else math.fsum(called)
            return (int(trips.group(1)) if trips else 1) * once
        if opcode.endswith("-start"):
            return result
        operands = _NAME.findall(_arguments(rest))
        return result + math.fsum(sizes.get(operand, 0.0) for operand in operands)

    sizes = {name: size for lines in bodies.values() for name, size, _, _ in lines}
    return cost(entry)


def _computations(text: str) -> tuple[dict[str, list[tuple[str, float, str, str]]], str | None]:
    """The instructions of each computation (name, bytes of the result, opcode, what follows), and the entry's name."""
    bodies: dict[str, list[tuple[str, float, str, str]]] = {}
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
                count = _moved if opcode.endswith("-start") else _bytes
                body.append((name.group(1), count(kind), opcode, rest[len(opcode) :].lstrip()))
    return bodies, entry


def _split(right: str) -> tuple[str, str]:
    """An instruction's type, and the rest from the opcode on."""
    if not right.startswith("("):
        kind, _, rest = right.partition(" ")
        return kind, rest
    end = _closing(right)
    return right[: end + 1], right[end + 2 :]


def _arguments(rest: str) -> str:
    return rest[: _closing(rest) + 1]


def _closing(text: str) -> int:
    """Where the parenthesis closes that the text starts with."""
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return at
    return len(text) - 1


def _bytes(kind: str) -> float:
    return math.fsum(size for size, on_chip in _arrays(kind) if not on_chip)


def _moved(kind: str) -> float:
    """What a copy in the background reads and writes, by its type: the two ends, and what it keeps book in."""
    ends = list(_arrays(kind))[:2]
    return min((size for size, _ in ends), default=0.0) * sum(not on_chip for _, on_chip in ends)


def _arrays(kind: str) -> Iterator[tuple[float, bool]]:
    """The bytes of each array of a type, and whether it lies on the chip."""
    for name, shape, layout in _ARRAY.findall(kind):
        digits = re.search(r"\d+", name)
        bits = _BITS.get(name, int(digits.group()) if digits else 0)
        yield math.prod(int(n) for n in shape.split(",") if n) * bits / 8, bool(_ON_CHIP.search(layout))
