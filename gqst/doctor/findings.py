"""What is wrong with pictures, from what was seen of them. Everything here is a function of numbers and names."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from gqst.doctor.examine import Look, PictureSet

Kind = Literal[
    "unreadable",
    "duplicate",
    "near-duplicate",
    "leak",
    "two domains",
    "small",
    "elongated",
    "blank",
    "outlier",
    "stray",
]

MEANINGS: dict[Kind, str] = {
    "unreadable": "Training skips or refuses it: remove it or write it anew.",
    "duplicate": "The same pixels more than once: it counts that much more. Keep one.",
    "near-duplicate": "The same picture at another size, quality or mirrored. Keep one.",
    "leak": "The same picture in two splits: what is measured on one was learnt on the other. Remove it from one.",
    "two domains": "The same picture in both domains: it teaches to change nothing. Remove it from one.",
    "small": "It is enlarged to the training size, and its blur is learnt. Replace or remove it.",
    "elongated": "More than three times as long as wide: crops show a small part of it, squares squeeze it.",
    "blank": "It shows nothing: a solid colour, or next to it.",
    "outlier": "It looks like no other picture of its domain. Is it meant to be here?",
    "stray": "It looks more like the other domain than like its own. Is it in the wrong folder?",
}
"""What each kind means, and what to do."""

ALIKE = 0.98
"""Correlation of two thumbnails above which they may be the same picture."""

DETAIL_ALIKE = 0.9
"""Correlation of the detail of two thumbnails above which they are."""

ELONGATED = 3.0
BLANK = 0.01

FAR = 9.0
"""Local outlier factor, in robust deviations above the domain's median, above which a picture is an outlier."""

NEIGHBOURS = 5
FEWEST = 20
"""Smallest number of pictures of a domain that has outliers and strays."""

_STRAY = 0.85
_COMPONENTS = 64
_ROWS = 1024


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
      kind: What it is.
      pictures: Names of the pictures; duplicates of each other are one finding.
      message: What was measured.
    """

    kind: Kind
    pictures: tuple[str, ...]
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields by name, as JSON can hold them."""
        return dataclasses.asdict(self)


def of_sets(sets: Sequence[PictureSet], *, size: int) -> list[Finding]:
    """Returns all that is wrong; `size` is the side in pixels of training."""
    found = [
        Finding("unreadable", (chosen.picture(number),), reason)
        for chosen in sets
        for number, reason in chosen.unreadable.items()
    ]
    for chosen in sets:
        for number, seen in chosen.looks.items():
            found += _of_one(chosen.picture(number), seen, size)
    groups = _same(sets)
    found += groups
    # Copies of one another are near each other, and would hide that both are far from all others.
    copies = {name for group in groups for name in group.pictures[1:]}
    return found + _odd(sets, copies)


def influences(own: Float[np.ndarray, "n d"], other: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n"]:
    """Returns how much each picture of a set raises its KID to another set, times 1000.

    KID less what it is without the picture, for the unbiased estimate with the kernel (x.y / d + 1)^3 (Binkowski et al.
    2018), in closed form from sums over rows of the kernel's matrices.

    Args:
      own: Features of at least 3 pictures.
      other: Features of the other set.
    """
    n, d = own.shape
    own, other = own.astype(np.float64), other.astype(np.float64)
    inner = (own @ own.T / d + 1) ** 3
    np.fill_diagonal(inner, 0.0)
    rows = inner.sum(axis=1)
    across = ((own @ other.T / d + 1) ** 3).mean(axis=1)
    total = rows.sum()
    with_all = total / (n * (n - 1)) - 2 * across.mean()
    without = (total - 2 * rows) / ((n - 1) * (n - 2)) - 2 * (across.sum() - across) / (n - 1)
    return 1000 * (with_all - without)


def _of_one(name: str, seen: Look, size: int) -> Iterable[Finding]:
    shorter, longer = sorted((seen.width, seen.height))
    if seen.deviation < BLANK:
        yield Finding("blank", (name,), f"brightness deviates by {seen.deviation:.4f}")
    if shorter < size:
        yield Finding("small", (name,), f"{seen.width} x {seen.height} px, for training at {size} px")
    if longer > ELONGATED * shorter:
        yield Finding("elongated", (name,), f"{seen.width} x {seen.height} px")


def _same(sets: Sequence[PictureSet]) -> list[Finding]:
    """Groups of copies: within a set, across splits, across domains."""
    every = [
        (chosen, number, seen) for chosen in sets for number, seen in chosen.looks.items() if seen.deviation >= BLANK
    ]
    leaders = list(range(len(every)))

    def leader(i: int) -> int:
        while leaders[i] != i:
            leaders[i] = leaders[leaders[i]]
            i = leaders[i]
        return i

    for i, j in _alike([seen.thumbnail for _, _, seen in every]):
        leaders[max(leader(i), leader(j))] = min(leader(i), leader(j))
    groups: dict[int, list[int]] = {}
    for i in range(len(every)):
        groups.setdefault(leader(i), []).append(i)
    found = []
    for members in groups.values():
        if len(members) < 2:
            continue
        kind: Kind = "duplicate" if len({every[i][2].hash for i in members}) == 1 else "near-duplicate"
        told = "the same pixels" if kind == "duplicate" else "the same picture, changed"
        if len({every[i][0].domain for i in members}) > 1:
            kind = "two domains"
        elif len({every[i][0].split for i in members}) > 1:
            kind = "leak"
        found.append(Finding(kind, tuple(every[i][0].picture(every[i][1]) for i in members), told))
    return found


def _alike(thumbnails: Sequence[np.ndarray]) -> Iterable[tuple[int, int]]:
    """Pairs of pictures that are the same, also mirrored."""
    if not thumbnails:
        return
    stack = np.stack(thumbnails)
    whole, detail = _vectors(stack)
    # One is the other mirrored if the other is the one mirrored: half of the pairs tell all.
    for compared_whole, compared_detail in ((whole, detail), _vectors(stack[:, :, ::-1])):
        for first in range(0, len(stack), _ROWS):
            rows = slice(first, first + _ROWS)
            same = (compared_whole[rows] @ whole.T > ALIKE) & (compared_detail[rows] @ detail.T > DETAIL_ALIKE)
            for i, j in zip(*np.nonzero(same), strict=True):
                if int(j) > first + int(i):
                    yield first + int(i), int(j)


def _vectors(stack: Float[np.ndarray, "n t t"]) -> tuple[Float[np.ndarray, "n v"], Float[np.ndarray, "n v"]]:
    """Thumbnails, and their detail over a mean of 3 by 3, as vectors of mean 0 and length 1."""
    padded = np.pad(stack, ((0, 0), (1, 1), (1, 1)), mode="edge")
    side = stack.shape[1]
    mean = sum(padded[:, y : y + side, x : x + side] for y in range(3) for x in range(3)) / 9
    return _unit(stack), _unit(stack - mean)


def _unit(stack: np.ndarray) -> np.ndarray:
    flat = stack.reshape(len(stack), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _odd(sets: Sequence[PictureSet], copies: set[str]) -> list[Finding]:
    """Outliers of domains, and pictures that look like another domain."""
    domains: dict[str, list[tuple[str, np.ndarray]]] = {}
    for chosen in sets:
        for number, seen in chosen.looks.items():
            name = chosen.picture(number)
            if name not in copies and seen.deviation >= BLANK:
                domains.setdefault(chosen.domain, []).append((name, seen.features))
    domains = {domain: members for domain, members in domains.items() if len(members) >= FEWEST}
    rows = {domain: np.stack([row for _, row in members]).astype(np.float64) for domain, members in domains.items()}
    found = []
    for domain, members in domains.items():
        own, _ = _nearest(rows[domain])
        others = [_nearest(rows[domain], rows[other])[0] for other in domains if other != domain]
        away = np.min(others, axis=0) if others else np.full(len(own), np.inf)
        scores = outlyingness(rows[domain])
        for (name, _), near, far, score in zip(members, own, away, scores, strict=True):
            if far < _STRAY * near:
                found.append(Finding("stray", (name,), f"{far:.1f} from the other domain, {near:.1f} from its own"))
            elif score > FAR:
                found.append(Finding("outlier", (name,), f"{score:.1f} deviations lonelier than usual"))
    return found


def outlyingness(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n"]:
    """Returns how lonely each picture is among those of its domain, in robust deviations from the median.

    Distance to its nearest pictures, relative to that of these to theirs: the local outlier factor (Breunig et al.
    2000), without its smoothing; in the largest principal components of the features, scaled half of the way to equal
    variance, so that neither a few of them nor noise decides.
    """
    left, sizes, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    own, neighbours = _nearest(left[:, :_COMPONENTS] * np.sqrt(sizes[:_COMPONENTS]))
    factors = own / np.maximum(own[neighbours].mean(axis=1), 1e-9)
    middle = np.median(factors)
    return (factors - middle) / max(1.4826 * float(np.median(np.abs(factors - middle))), 1e-9)


def _nearest(
    rows: Float[np.ndarray, "n d"], others: Float[np.ndarray, "m d"] | None = None
) -> tuple[Float[np.ndarray, "n"], Int[np.ndarray, "n k"]]:
    """Mean distance of each row to its nearest rows of another set, or of its own without itself; and their numbers."""
    same, others = others is None, rows if others is None else others
    squares = (others**2).sum(axis=1)
    count = min(NEIGHBOURS, len(others) - same)
    distances, numbers = [], []
    for first in range(0, len(rows), _ROWS):
        part = rows[first : first + _ROWS]
        gaps = (part**2).sum(axis=1, keepdims=True) + squares - 2 * part @ others.T
        if same:
            gaps[np.arange(len(part)), first + np.arange(len(part))] = np.inf
        nearest = np.argpartition(gaps, count - 1, axis=1)[:, :count]
        distances.append(np.sqrt(np.maximum(np.take_along_axis(gaps, nearest, axis=1), 0.0)).mean(axis=1))
        numbers.append(nearest)
    return np.concatenate(distances), np.concatenate(numbers)
