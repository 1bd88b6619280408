"""Classes of ids → groups of channels that are interchangeable, and what holds between them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import fx

from edgeprune.channels.analysis import Analysis, Ids, analyse
from edgeprune.channels.core import Value, name_of, values_in, where
from edgeprune.channels.layout import Split
from edgeprune.graph import fingerprint
from edgeprune.records import (
    ChannelGroup,
    ChannelGroups,
    EqualCounts,
    Extent,
    Graph,
    ParameterSlice,
    Pinned,
)

Member = tuple[str, int]
"""A parameter and a dimension of it."""


@dataclass(frozen=True)
class Cell:
    """Classes with the same slices and the same place in every count constraint."""

    classes: Ids
    signature: int
    base: int
    """The signature without the constraints: the kind of channel."""


@dataclass(frozen=True)
class Partition:
    """The groups with the classes of their channels, in channel order."""

    groups: ChannelGroups
    classes: dict[str, Ids]


def channel_groups(graph: Graph) -> ChannelGroups:
    """What can be pruned, what is pinned and why, and every tensor's sizes as functions of widths.

    Channels that must live or die together are one channel; channels with the same slices of the
    same parameters form a group, named after the parameter that makes them.
    """
    return partition(graph).groups


def partition(graph: Graph) -> Partition:
    """`channel_groups` with the class ids that surgery needs."""
    analysis = analyse(graph)
    members = _members(analysis)
    constraints = _constraints(analysis)
    cells = _cells(analysis, members, constraints)
    merged, rest = _merge_parts(cells, constraints)
    groups: list[ChannelGroup] = []
    classes: dict[str, Ids] = {}
    named: dict[int, tuple[str, int]] = {}
    taken: Counter[str] = Counter()
    for parts in sorted(merged, key=lambda cs: min(int(c.classes.min()) for c in cs)):
        order = np.concatenate([cell.classes for cell in parts])
        part_of = np.concatenate([np.full(len(c.classes), i) for i, c in enumerate(parts)])
        by_class = np.argsort(order, kind="stable")
        order, part_of = order[by_class], part_of[by_class]
        slices = _slices(order, members, analysis)
        base = _name(slices)
        taken[base] += 1
        name = base if taken[base] == 1 else f"{base}#{taken[base]}"
        groups.append(ChannelGroup(name, len(order), slices, part_of))
        classes[name] = order
        for cell in parts:
            named[cell.signature] = (name, len(parts))
    group_of = {int(c): name for name, order in classes.items() for c in order}
    sizes = {name: len(order) for name, order in classes.items()}
    extents = {
        node.name: _extents(value, analysis, group_of, sizes)
        for node, value in analysis.held.items()
        if isinstance(value, Value)
    }
    found = ChannelGroups(
        tuple(groups),
        _pinned(analysis),
        _over_groups(rest, named),
        extents,
        fingerprint(graph),
    )
    return Partition(found, classes)


def _members(analysis: Analysis) -> dict[Member, Ids]:
    """The classes along every dimension of every parameter that has any to remove."""
    found = {}
    for name, dims in analysis.parameters.items():
        for dim, ids in enumerate(dims):
            if ids is not None:
                classes = analysis.class_of(ids)
                if classes.any():
                    found[name, dim] = classes
    return found


def _constraints(analysis: Analysis) -> list[list[Counter[int]]]:
    """Count constraints over classes, without those that hold by themselves."""
    found = []
    for parts in analysis.equal_counts:
        counters = [Counter(analysis.classes[part].tolist()) for part in parts]
        for counter in counters:
            counter.pop(0, None)
        if any(counter != counters[0] for counter in counters):
            found.append(counters)
    return found


def _cells(
    analysis: Analysis, members: dict[Member, Ids], constraints: list[list[Counter[int]]]
) -> list[Cell]:
    total = int(analysis.classes.max()) + 1
    random = np.random.default_rng(0)
    signature = np.zeros(total, dtype=np.uint64)
    has_slice = np.zeros(total, dtype=bool)
    for classes in members.values():
        counts = np.bincount(classes, minlength=total)
        signature += _mix(counts, random)
        has_slice |= counts > 0
    base = signature.copy()
    for parts in constraints:
        for counter in parts:
            counts = np.zeros(total, dtype=np.int64)
            counts[list(counter)] = list(counter.values())
            signature += _mix(counts, random)
    has_slice[0] = False
    cells = []
    for value in np.unique(signature[has_slice]):
        inside = np.flatnonzero(has_slice & (signature == value))
        cells.append(Cell(inside, int(value), int(base[inside[0]])))
    return cells


def _mix(counts: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.uint64]:
    """A random 64-bit number for every distinct count above zero."""
    table = random.integers(1, 2**63, size=int(counts.max()) + 1, dtype=np.uint64)
    table[0] = 0
    return table[counts]


def _merge_parts(
    cells: list[Cell], constraints: list[list[Counter[int]]]
) -> tuple[list[list[Cell]], list[list[Counter[int]]]]:
    """Cells of one kind that a constraint makes parts of each other become one group with parts.

    Returns the cells of each group, and what is left of the constraints over cell signatures.
    """
    cell_of = {int(c): cell for cell in cells for c in cell.classes}
    by_signature = {cell.signature: cell for cell in cells}
    home: dict[int, frozenset[int]] = {}
    rest = []
    for parts in constraints:
        over_cells = [
            Counter({cell_of[c].signature: n for c, n in part.items() if c in cell_of})
            for part in parts
        ]
        together = frozenset(s for part in over_cells for s in part)
        alike = (
            all(len(part) == 1 for part in over_cells)
            and len(together) == len(over_cells)
            and len({by_signature[s].base for s in together}) == 1
            and len({n for part in over_cells for n in part.values()}) == 1
            and len({len(by_signature[s].classes) for s in together}) == 1
        )
        if alike and all(home.get(s, together) == together for s in together):
            home.update(dict.fromkeys(together, together))
        else:
            rest.append(over_cells)
    merged, seen = [], set()
    for cell in cells:
        bunch = home.get(cell.signature, frozenset({cell.signature}))
        if bunch not in seen:
            seen.add(bunch)
            merged.append([c for c in cells if c.signature in bunch])
    return merged, rest


def _over_groups(
    constraints: list[list[Counter[int]]], named: dict[int, tuple[str, int]]
) -> tuple[EqualCounts, ...]:
    """Constraints over cells as constraints over groups: a part holds its share of its group."""
    found = []
    for parts in constraints:
        sums: list[dict[str, Fraction]] = []
        for part in parts:
            total: dict[str, Fraction] = defaultdict(Fraction)
            for signature, n in part.items():
                name, shares = named[signature]
                total[name] += Fraction(n, shares)
            sums.append(dict(total))
        if any(total != sums[0] for total in sums):
            found.append(
                EqualCounts(
                    tuple(tuple((g, _whole(n)) for g, n in sorted(total.items())) for total in sums)
                )
            )
    return tuple(dict.fromkeys(found))


def _slices(
    order: Ids, members: dict[Member, Ids], analysis: Analysis
) -> tuple[ParameterSlice, ...]:
    """Per parameter and dimension, the positions that each channel owns."""
    slices = []
    rank = {int(c): i for i, c in enumerate(order)}
    for (name, dim), classes in members.items():
        inside = np.flatnonzero(np.isin(classes, order))
        if not inside.size:
            continue
        owner = np.array([rank[int(c)] for c in classes[inside]])
        positions = inside[np.argsort(owner, kind="stable")].reshape(len(order), -1)
        role: Literal["out", "in", "own"] = "own"
        noted = analysis.roles.get((name, dim))
        if noted in ("out", "in"):
            role = "out" if noted == "out" else "in"
        slices.append(ParameterSlice(name, dim, positions, role))
    return tuple(slices)


def _name(slices: tuple[ParameterSlice, ...]) -> str:
    makers = [s for s in slices if s.role == "out"] or list(slices)
    return makers[0].parameter.removesuffix(".weight")


def _pinned(analysis: Analysis) -> tuple[Pinned, ...]:
    """Producers whose channels cannot all go, with the pins that hold them."""
    by_root: dict[int, list[tuple[fx.Node, str]]] = defaultdict(list)
    for pin in analysis.pins:
        for i in pin.ids.tolist():
            by_root[i].append((pin.node, pin.reason))
    found = []
    for (name, dim), role in analysis.roles.items():
        ids = analysis.parameters[name][dim]
        if role != "out" or ids is None:
            continue
        stuck = int((analysis.class_of(ids) == 0).sum())
        if not stuck:
            continue
        node, reason = _cause(analysis, ids.numpy(), by_root)
        op = name_of(node) if node is not None and node.op == "call_function" else "output"
        line = where(node) if node is not None else ""
        found.append(Pinned(name.removesuffix(".weight"), stuck, op, reason, line))
    return tuple(found)


def _cause(
    analysis: Analysis, ids: Ids, by_root: dict[int, list[tuple[fx.Node, str]]]
) -> tuple[fx.Node | None, str]:
    for i in ids.tolist():
        if i in by_root:
            return by_root[i][0]
    for pin in analysis.pins:
        if values_in(analysis.held.get(pin.node)) and pin.node.op != "output":
            continue
        return pin.node, pin.reason
    return None, "tied to channels that cannot be removed"


def _extents(
    value: Value, analysis: Analysis, group_of: dict[int, str], sizes: dict[str, int]
) -> tuple[Extent, ...]:
    return tuple(_extent(value, dim, analysis, group_of, sizes) for dim in range(len(value.shape)))


def _extent(
    value: Value, dim: int, analysis: Analysis, group_of: dict[int, str], sizes: dict[str, int]
) -> Extent:
    for label in value.varying(dim):
        if isinstance(label.layout, Split):
            if label.layout.axis != dim:
                continue
            classes = analysis.class_of(label.layout.parts[0].ids())
        else:
            classes = analysis.class_of(label.along(dim))
        counted = Counter(group_of.get(int(c), "") for c in classes)
        fixed = counted.pop("", 0)
        if counted:
            return Extent(
                fixed, tuple((g, _share(n, sizes[g])) for g, n in sorted(counted.items()))
            )
    return Extent(value.shape[dim])


def _share(occurrences: int, size: int) -> int | Fraction:
    return _whole(Fraction(occurrences, size))


def _whole(number: Fraction) -> int | Fraction:
    return int(number) if number.denominator == 1 else number
