"""Rows that repeat with one number of their name, as one row: `layers.{0..11}.mlp`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

_NUMBER = re.compile(r"(?<=[._])(\d+)(?=[._]|$)|^(\d+)(?=[._]|$)")


@dataclass(frozen=True)
class Row:
    """A name and what is shown of it; rows fold where all they show is the same."""

    name: str
    shown: tuple[Hashable, ...]
    times: int = 1


def folded(rows: Sequence[Row]) -> list[Row]:
    """The rows, those that differ in one number of their names as one, in the place of the first.

    The largest folds come first; a row folds once.
    """
    places: dict[tuple[object, ...], list[tuple[int, int]]] = defaultdict(list)
    for i, row in enumerate(rows):
        for match in _NUMBER.finditer(row.name):
            around = (row.name[: match.start()], row.name[match.end() :])
            places[around[0], around[1], row.shown].append((int(match.group()), i))
    taken: set[int] = set()
    made: dict[int, Row] = {}
    for (before, after, _), found in sorted(places.items(), key=lambda item: -len(item[1])):
        free = [(number, i) for number, i in found if i not in taken]
        if len(free) < 2:
            continue
        taken |= {i for _, i in free}
        numbers = [number for number, _ in free]
        first = min(i for _, i in free)
        made[first] = Row(f"{before}{_set(numbers)}{after}", rows[first].shown, len(free))
    return [made.get(i, row) for i, row in enumerate(rows) if i in made or i not in taken]


def _set(numbers: Sequence[int]) -> str:
    """{0..11}, or {1,3,4} where some are left out."""
    ordered = sorted(numbers)
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{{{ordered[0]}..{ordered[-1]}}}"
    return "{" + ",".join(map(str, ordered)) + "}"


def broken(name: str, width: int) -> str:
    """A dotted name on several lines of at most `width`, broken after dots where there are any."""
    lines = [""]
    for part in re.findall(r"[^.]*\.?", name):
        if len(lines[-1]) + len(part) > width and lines[-1].strip():
            lines.append("  ")
        lines[-1] += part
    return "\n".join(lines)
