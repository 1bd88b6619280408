"""Widths drawn at random: around a plan, to calibrate costs; and to tell dimensions apart.

Both are widths that can be (see widths.py), the same for the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from edgeprune.planning.widths import families, least, nearest
from edgeprune.records import ChannelGroup, ChannelGroups, Extent, Widths

_AROUND = 0.15
_TRIES = 24
_CLIMBS = 600
_WITNESSES = 6
_FEWEST = 2
"""One channel is another kernel."""


def around(groups: ChannelGroups, widths: Widths, seed: int) -> dict[str, int]:
    """Widths up to 15 % off `widths`, all of them up or all of them down by some of that."""
    random = np.random.default_rng(seed)
    level = random.uniform(-_AROUND, _AROUND) / 2
    found: dict[str, int] = {}
    for family in families(groups):
        share = {g.name: 1 + level + random.uniform(-_AROUND, _AROUND) / 2 for g in family}
        wanted = {name: factor * widths[name] for name, factor in share.items()}
        found.update(nearest(family, groups.equal_counts, wanted))
    return found


def telling_widths(groups: ChannelGroups, seed: int = 0) -> tuple[dict[str, int], ...]:
    """Widths at which, with the full ones, as few dimensions as can be look like another.

    Groups of one size get widths of their own; then single families are drawn again for as long as
    that tells more dimensions apart. Where a size has more groups than widths (DenseNet's layers),
    second widths tell apart what the first ones do not.
    """
    random = np.random.default_rng(seed)
    told = _Told(groups, random)
    first = _climbed(groups, told, (), random)
    if not told.alike(first):
        return (first,)
    return first, _climbed(groups, told, (first,), random)


def _climbed(
    groups: ChannelGroups,
    told: _Told,
    known: tuple[Widths, ...],
    random: np.random.Generator,
) -> dict[str, int]:
    """The widths that, beside `known`, tell most."""
    drawn = (_permuted(groups, random) for _ in range(_TRIES))
    left, best = min(((told.alike(*known, w), w) for w in drawn), key=lambda pair: pair[0])
    for family in islice(_forever(families(groups), random), _CLIMBS):
        if not left:
            break
        other = {**best, **_redrawn(groups, family, random)}
        now = told.alike(*known, other)
        if now <= left:
            best, left = other, now
    return best


class _Told:
    """How many of a network's dimensions cannot be told from a multiple of another."""

    def __init__(self, groups: ChannelGroups, random: np.random.Generator) -> None:
        self._full = groups.full_widths()
        witnesses = [_permuted(groups, random) for _ in range(_WITNESSES)]
        extents = {e for dims in groups.extents.values() for e in dims if e.groups}
        # Those that are in one proportion at all of several widths always are.
        apart: dict[tuple[int, ...], Extent] = {}
        for extent in sorted(extents, key=str):
            apart.setdefault(self._proportion(extent, witnesses), extent)
        self._extents = tuple(apart.values())

    def alike(self, *widths: Widths) -> int:
        seen = {self._proportion(extent, widths) for extent in self._extents}
        return len(self._extents) - len(seen)

    def _proportion(self, extent: Extent, widths: Iterable[Widths]) -> tuple[int, ...]:
        sizes = [extent.at(w) for w in (self._full, *widths)]
        return tuple(size // math.gcd(*sizes) for size in sizes)


def _permuted(groups: ChannelGroups, random: np.random.Generator) -> dict[str, int]:
    """Of the groups of one size no two are alike, where that can be."""
    taken: dict[int, list[int]] = {}
    widths: dict[str, int] = {}
    for family in families(groups):
        wanted = {}
        for group in family:
            if not taken.get(group.size):
                taken[group.size] = random.permutation(_range(group)).tolist()
            wanted[group.name] = float(taken[group.size].pop() * group.parts)
        widths.update(nearest(family, groups.equal_counts, wanted))
    return widths


def _redrawn(
    groups: ChannelGroups, family: tuple[ChannelGroup, ...], random: np.random.Generator
) -> dict[str, int]:
    wanted = {g.name: float(random.choice(_range(g)) * g.parts) for g in family}
    return nearest(family, groups.equal_counts, wanted)


def _range(group: ChannelGroup) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """How many channels of each part may stay, the full number left out where there is a choice."""
    each = group.size // group.parts
    fewest = max(min(_FEWEST, each), least(group, 0.25))
    return np.arange(fewest, max(each, fewest + 1))


def _forever(
    found: list[tuple[ChannelGroup, ...]], random: np.random.Generator
) -> Iterator[tuple[ChannelGroup, ...]]:
    """Families at random, each as often as it has members."""
    often = np.array([len(family) for family in found], dtype=np.float64)
    while True:
        yield found[int(random.choice(len(found), p=often / often.sum()))]
