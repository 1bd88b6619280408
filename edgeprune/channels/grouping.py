"""Classes of ids → groups of channels that are interchangeable, and what holds between them."""

from __future__ import annotations

import weakref
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from torch import fx

from edgeprune.channels.analysis import Analysis, Ids, analyse
from edgeprune.channels.core import Value, name_of
from edgeprune.channels.extents import Where, extents_of, whole
from edgeprune.channels.members import Members, cells_of, members_of, slices_of
from edgeprune.channels.pinning import pinned
from edgeprune.graph import fingerprint
from edgeprune.records import ChannelGroup, ChannelGroups, EqualCounts, Graph, ParameterSlice

Constraint = list[Counter[int]]
"""Parts, each with how often it counts which cell."""


@dataclass(frozen=True)
class Partition:
    """The groups with the classes of their channels, in channel order.

    `crossed` tells by group which ops compute a statistic over its channels: removing them is not
    exactly zeroing them.
    """

    groups: ChannelGroups
    classes: dict[str, Ids]
    crossed: dict[str, tuple[str, ...]]


def channel_groups(graph: Graph) -> ChannelGroups:
    """What can be pruned, what is pinned and why, and every tensor's sizes as functions of widths.

    Channels that must live or die together are one channel; channels with the same slices of the
    same parameters form a group, named after the parameter that makes them. The heads of an
    attention are a group of their own, beside the groups of the channels inside the heads.
    """
    return partition(graph).groups


_KNOWN: weakref.WeakKeyDictionary[fx.GraphModule, Partition] = weakref.WeakKeyDictionary()


def partition(graph: Graph) -> Partition:
    """`channel_groups` with the class ids that surgery needs; made once per captured program."""
    found = _KNOWN.get(graph.program)
    if found is None:
        found = _KNOWN[graph.program] = _partition(graph)
    return found


def _partition(graph: Graph) -> Partition:
    analysis = analyse(graph)
    total = int(analysis.classes.max()) + 1
    is_owner = np.zeros(total, dtype=bool)
    is_owner[analysis.owners] = True
    is_owner[0] = False
    members = members_of(analysis, is_owner)
    constraints = _constraints(analysis, is_owner)
    home, parts = _groups_of_cells(*_cells(members, constraints, is_owner))
    groups = _Groups(analysis, members, total)
    shares: dict[int, tuple[str, int]] = {}
    for bunch in sorted(parts, key=lambda cells: min(int(c[0]) for c in cells.values())):
        name = groups.add(list(bunch.values()))
        shares.update(dict.fromkeys(bunch, (name, len(bunch))))
    groups.add_heads(is_owner & ~_counted(constraints, total))
    found = groups.finished()
    result = ChannelGroups(
        found,
        pinned(analysis, groups.where),
        _over_groups(home, shares),
        {
            node.name: extents_of(value, groups.where)
            for node, value in analysis.held.items()
            if isinstance(value, Value)
        },
        fingerprint(graph),
    )
    return Partition(result, groups.classes, groups.crossed())


@dataclass
class _Groups:
    """Groups as they are made, and where each class ended up."""

    analysis: Analysis
    members: Members
    total: int

    def __post_init__(self) -> None:
        self.classes: dict[str, Ids] = {}
        self.parts: dict[str, Ids] = {}
        self.where = Where(self.analysis, np.full(self.total, -1), [], [])
        self.rank = np.zeros(self.total, dtype=np.int64)
        self._taken: Counter[str] = Counter()

    def add(self, cells: list[Ids], name: str = "") -> str:
        """A group of one or several parts; returns its name."""
        order = np.concatenate(cells)
        part_of = np.concatenate([np.full(len(cell), i) for i, cell in enumerate(cells)])
        by_class = np.argsort(order, kind="stable")
        order, part_of = order[by_class], part_of[by_class]
        base = name or self.members.name(int(order[0]))
        self._taken[base] += 1
        name = base if self._taken[base] == 1 else f"{base}#{self._taken[base]}"
        self.where.group[order] = len(self.where.names)
        self.where.names.append(name)
        self.where.sizes.append(len(order))
        self.rank[order] = np.arange(len(order))
        self.classes[name], self.parts[name] = order, part_of
        return name

    def add_heads(self, offered: NDArray[np.bool_]) -> None:
        """Owners that are alike form a group: parts that may go whole."""
        for cell in cells_of(self.members.heads, offered):
            if len(cell) > 1:
                base = self.members.name(int(cell[0]), heads=True)
                inside = self.members.channels.entity[self.members.owner == cell[0]]
                self.add([cell], f"{base}.heads" if (inside != cell[0]).any() else base)

    def finished(self) -> tuple[ChannelGroup, ...]:
        """All groups with their slices."""
        slices: dict[int, list[ParameterSlice]] = defaultdict(list)
        for owner, piece in slices_of(self.members, self.where.group, self.rank):
            slices[owner].append(piece)
        holds = self._holds()
        return tuple(
            ChannelGroup(
                name,
                len(self.classes[name]),
                tuple(slices[i]),
                self.parts[name],
                tuple(holds.get(name, ())),
            )
            for i, name in enumerate(self.where.names)
        )

    def _holds(self) -> dict[str, list[str]]:
        """By group of heads, the groups of the channels inside of them."""
        inside = self.where.group[self.members.channels.entity]
        heads = self.where.group[self.members.owner]
        both = (inside >= 0) & (heads >= 0) & (inside != heads)
        found: dict[str, list[str]] = defaultdict(list)
        for head, group in np.unique(np.stack([heads[both], inside[both]]), axis=1).T.tolist():
            found[self.where.names[head]].append(self.where.names[group])
        return found

    def crossed(self) -> dict[str, tuple[str, ...]]:
        """By group, the ops that compute a statistic over its channels."""
        found: dict[str, set[str]] = defaultdict(set)
        for node, (ids, within) in self.analysis.crossed.items():
            entities = [self.analysis.classes[ids], self.analysis.classes[within]]
            entities.append(self.analysis.owners[ids])
            for index in np.unique(self.where.group[np.concatenate(entities)]).tolist():
                if index >= 0:
                    found[self.where.names[index]].add(name_of(node))
        return {name: tuple(sorted(ops)) for name, ops in found.items()}


# --- what holds between classes ------------------------------------------------------------------


def _constraints(analysis: Analysis, is_owner: NDArray[np.bool_]) -> list[Constraint]:
    """Count constraints over classes, without those that hold by themselves."""
    found: dict[bytes, Constraint] = {}
    for counted in analysis.counts:
        if all(_goes_whole(analysis, part) for part in counted.parts):
            continue
        rows = [np.sort(analysis.classes[part]) for part in counted.parts]
        if len({len(row) for row in rows}) == 1:
            rows = list(np.unique(np.stack(rows), axis=0))
        counters = [Counter(row[row != 0].tolist()) for row in rows]
        if any(counter != counters[0] for counter in counters):
            key = b"|".join(row.tobytes() for row in rows)
            found.setdefault(key, counters)
    return list(found.values())


def _goes_whole(analysis: Analysis, part: Ids) -> bool:
    """Whether a part is one channel, its own owner (a statistic is divided by in all of it): its
    count is then as large as the others' or the part is gone."""
    classes = analysis.classes[part]
    return bool((classes == classes[0]).all() and (analysis.owners[part] == classes).all())


def _counted(constraints: list[Constraint], total: int) -> NDArray[np.bool_]:
    """Which classes any constraint counts."""
    found = np.zeros(total, dtype=bool)
    for parts in constraints:
        for part in parts:
            found[list(part)] = True
    return found


def _cells(
    members: Members, constraints: list[Constraint], is_owner: NDArray[np.bool_]
) -> tuple[list[Ids], list[Constraint], Ids]:
    """Classes with the same slices and the same place in every constraint; the constraints over
    them; and for each cell its kind: cells of one kind have the same slices."""
    kinds = members.channels.signatures(len(is_owner))
    signatures = kinds.copy()
    for i, parts in enumerate(constraints):
        for j, part in enumerate(parts):
            classes = np.fromiter(part, dtype=np.int64)
            times = np.fromiter(part.values(), dtype=np.uint64)
            signatures[classes] += members.hashed(np.full(len(classes), i), np.uint64(j), times)
    cells = cells_of(members.channels, ~is_owner, signatures)
    cell_of = np.full(len(is_owner), -1, dtype=np.int64)
    for i, cell in enumerate(cells):
        cell_of[cell] = i
    over = [
        [
            Counter({int(cell_of[c]): n for c, n in part.items() if cell_of[c] >= 0})
            for part in parts
        ]
        for parts in constraints
    ]
    _, kind = np.unique([kinds[cell[0]] for cell in cells], return_inverse=True)
    return cells, over, kind


def _groups_of_cells(
    cells: list[Ids], constraints: list[Constraint], kind: Ids
) -> tuple[list[Constraint], list[dict[int, Ids]]]:
    """Cells of one kind that a constraint makes parts of each other become one group with parts.

    Returns what is left of the constraints, and the cells of each group by number.
    """
    home: dict[int, tuple[int, ...]] = {}
    rest = []
    for parts in constraints:
        alike: dict[tuple[int, int, int], set[int]] = defaultdict(set)
        for part in parts:
            for cell, n in part.items():
                alike[int(kind[cell]), len(cells[cell]), n].add(cell)
        single = all(len(part) == 1 for part in parts)
        bunches = [tuple(sorted(bunch)) for bunch in alike.values()]
        fits = all(home.get(cell, bunch) == bunch for bunch in bunches for cell in bunch)
        if single and fits:
            home.update({cell: bunch for bunch in bunches for cell in bunch})
        if len(bunches) > 1 or not (single and fits):
            rest.append(parts)
    groups = dict.fromkeys(home.get(i, (i,)) for i in range(len(cells)))
    return rest, [{i: cells[i] for i in bunch} for bunch in groups]


def _over_groups(
    constraints: Sequence[Constraint], shares: dict[int, tuple[str, int]]
) -> tuple[EqualCounts, ...]:
    """Constraints over cells as constraints over groups: a part holds its share of its group."""
    found = []
    for parts in constraints:
        sums: list[dict[str, Fraction]] = []
        for part in parts:
            total: dict[str, Fraction] = defaultdict(Fraction)
            for cell, n in part.items():
                name, count = shares[cell]
                total[name] += Fraction(n, count)
            sums.append(dict(total))
        rows = (tuple((g, whole(n)) for g, n in sorted(total.items())) for total in sums)
        different = tuple(dict.fromkeys(rows))
        if len(different) > 1:
            found.append(EqualCounts(different))
    return tuple(dict.fromkeys(found))
