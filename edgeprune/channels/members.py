"""Which classes lie where in which parameters, as flat arrays: one entry per index of a dimension.

Classes with the same number of entries in the same dimensions are of one kind. Numbers of entries
are turned into 64-bit signatures that can be added up and compared at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeprune.channels.analysis import Analysis, Ids
from edgeprune.records import ParameterSlice

Role = Literal["out", "in", "own"]
Signatures = NDArray[np.uint64]


@dataclass(frozen=True)
class Entries:
    """Entry i lies at index `position[i]` of the dimension numbered `member[i]`, and belongs to
    the class `entity[i]`."""

    entity: Ids
    member: Ids
    position: Ids

    def signatures(self, total: int) -> Signatures:
        """By class, a number that tells how many entries it has in which dimensions."""
        count = int(self.member.max(initial=0)) + 1
        keys, times = np.unique(self.entity * count + self.member, return_counts=True)
        found = np.zeros(total, dtype=np.uint64)
        np.add.at(found, keys // count, _mixed(keys % count, np.uint64(0), times.astype(np.uint64)))
        return found


@dataclass(frozen=True)
class Members:
    """Entries of all dimensions of all parameters. `keys[m]` is (parameter, dim).

    `channels` says which class each entry belongs to, `owner` which owner its part has, and
    `heads` which owner it goes with (its part's, or itself where it is an owner).
    """

    keys: list[tuple[str, int]]
    roles: list[Role]
    channels: Entries
    owner: Ids
    heads: Entries

    hashed = staticmethod(lambda i, j, times: _mixed(i, j + np.uint64(1), times))

    def name(self, entity: int, heads: bool = False) -> str:
        """The name of the parameter that makes a class, or the first that has it."""
        entries = self.heads if heads else self.channels
        found = np.unique(entries.member[entries.entity == entity]).tolist()
        makers = [m for m in found if self.roles[m] == "out"] or found
        return owner_name(self.keys[makers[0]][0])

    @cached_property
    def sizes(self) -> Ids:
        """Entries by dimension."""
        return np.bincount(self.channels.member, minlength=len(self.keys))


def owner_name(parameter: str) -> str:
    """What a parameter belongs to, as groups are named: `conv` of `conv.weight`, and also of
    `conv.parametrizations.weight.original0`."""
    return re.sub(r"(\.parametrizations)?[._](weight|bias)(\.original\d*|_[gv])?$", "", parameter)


def members_of(analysis: Analysis, is_owner: NDArray[np.bool_]) -> Members:
    """All entries of a graph's parameters."""
    keys = [
        (name, dim)
        for name, dims in analysis.parameters.items()
        for dim, ids in enumerate(dims)
        if ids is not None
    ]
    vectors = [analysis.parameters[name][dim] for name, dim in keys]
    ids = [v.numpy() for v in vectors if v is not None]
    flat = np.concatenate([np.zeros(0, dtype=np.int64), *ids])
    member = np.repeat(np.arange(len(ids)), [len(i) for i in ids]).astype(np.int64)
    position = np.concatenate([np.zeros(0, dtype=np.int64), *(np.arange(len(i)) for i in ids)])
    classes, owner = analysis.classes[flat], analysis.owners[flat]
    heads = np.where(owner > 0, owner, np.where(is_owner[classes], classes, 0))
    roles: list[Role] = []
    for key in keys:
        noted = analysis.roles.get(key)
        roles.append("out" if noted == "out" else "in" if noted == "in" else "own")
    return Members(
        keys,
        roles,
        Entries(classes, member, position),
        owner,
        Entries(heads, member, position),
    )


def cells_of(
    entries: Entries, wanted: NDArray[np.bool_], signatures: Signatures | None = None
) -> list[Ids]:
    """Those wanted classes that have entries, by signature; each cell in ascending order."""
    present = np.zeros(len(wanted), dtype=bool)
    present[entries.entity] = True
    present[0] = False
    classes = np.flatnonzero(present & wanted)
    if signatures is None:
        signatures = entries.signatures(len(wanted))
    _, kind = np.unique(signatures[classes], return_inverse=True)
    by_kind = np.argsort(kind, kind="stable")
    borders = np.flatnonzero(np.diff(kind[by_kind])) + 1
    return [cell for cell in np.split(classes[by_kind], borders) if cell.size]


def slices_of(members: Members, group: Ids, rank: Ids) -> Iterator[tuple[int, ParameterSlice]]:
    """(group number, slice) for every dimension in which channels or heads of a group lie."""
    for entries in (members.channels, members.heads):
        owner = group[entries.entity]
        # entries of the channels that are heads themselves are told once, as heads
        inside = owner >= 0
        if entries is members.channels:
            inside &= entries.entity != members.heads.entity
        index = np.flatnonzero(inside)
        index = index[
            np.lexsort(
                (
                    entries.position[index],
                    rank[entries.entity[index]],
                    owner[index],
                    entries.member[index],
                )
            )
        ]
        if not index.size:
            continue
        kind = entries.member[index] * (int(owner.max()) + 1) + owner[index]
        for piece in np.split(index, np.flatnonzero(np.diff(kind)) + 1):
            m = int(entries.member[piece[0]])
            name, dim = members.keys[m]
            number = int(owner[piece[0]])
            channels = len(np.unique(entries.entity[piece]))
            positions = entries.position[piece].reshape(channels, -1)
            yield number, ParameterSlice(name, dim, positions, members.roles[m])


def _mixed(a: Ids, b: np.uint64, c: Signatures) -> Signatures:
    """A well-mixed 64-bit number for every triple (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        x = a.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x += b * np.uint64(0xD1B54A32D192ED03) + c * np.uint64(0x8CB92BA72F3D8DD7)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: Signatures = x ^ (x >> np.uint64(31))
        return mixed
