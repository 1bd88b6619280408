"""Widths that can be: equal counts in parts, equal counts across shuffles, at least one channel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from edgeprune.records import ChannelGroup, ChannelGroups, EqualCounts, Scores


def families(groups: ChannelGroups) -> list[tuple[ChannelGroup, ...]]:
    """Groups that count constraints tie together; most families have one member."""
    home = {group.name: {group.name} for group in groups.groups}
    for constraint in groups.equal_counts:
        joined: set[str] = set()
        for part in constraint.parts:
            for name, _ in part:
                joined |= home[name]
        for name in joined:
            home[name] = joined
    found, seen = [], set()
    for group in groups.groups:
        if group.name not in seen:
            members = tuple(g for g in groups.groups if g.name in home[group.name])
            seen |= home[group.name]
            found.append(members)
    return found


def nearest(
    family: tuple[ChannelGroup, ...],
    constraints: tuple[EqualCounts, ...],
    wanted: Mapping[str, float],
    floor: float = 0.0,
) -> dict[str, int]:
    """The feasible widths of a family nearest to `wanted` (least sum of relative distances).

    `floor` is the least share of a group that must stay; one channel of each part always stays.
    """
    lows = {g.name: least(g, floor) for g in family}
    mine = [c for c in constraints if any(n in lows for part in c.parts for n, _ in part)]
    if not mine:
        return {
            g.name: g.parts
            * int(min(max(round(wanted[g.name] / g.parts), lows[g.name]), g.size // g.parts))
            for g in family
        }
    count = len(family)
    column = {g.name: i for i, g in enumerate(family)}
    parts = np.array([g.parts for g in family], dtype=float)
    aim = np.array([wanted[g.name] for g in family])
    rows = []
    for constraint in mine:
        sums = []
        for part in constraint.parts:
            row = np.zeros(2 * count)
            for name, n in part:
                row[column[name]] += float(n) * parts[column[name]]
            sums.append(row)
        rows += [row - sums[0] for row in sums[1:]]
    eye, scale = np.eye(count), np.diag(parts)
    above = LinearConstraint(np.hstack([-scale, eye]), -aim, np.inf)
    below = LinearConstraint(np.hstack([scale, eye]), aim, np.inf)
    weight = np.array([1.0 / g.size for g in family])
    low = np.array([lows[g.name] for g in family], dtype=float)
    high = np.array([g.size // g.parts for g in family], dtype=float)
    solved = milp(
        np.concatenate([np.zeros(count), weight]),
        constraints=[above, below, LinearConstraint(np.array(rows), 0, 0)],
        integrality=np.concatenate([np.ones(count), np.zeros(count)]),
        bounds=Bounds(
            np.concatenate([np.minimum(low, high), np.zeros(count)]),
            np.concatenate([high, np.full(count, np.inf)]),
        ),
    )
    if solved.x is None:  # the full widths always satisfy every constraint
        return {g.name: g.size for g in family}
    return {g.name: g.parts * round(solved.x[i]) for i, g in enumerate(family)}


def least(group: ChannelGroup, floor: float) -> int:
    """The fewest channels of each part that `floor`, a share of the group, leaves; one at least."""
    return max(1, int(np.ceil(floor * group.size / group.parts)))


def strongest(group: ChannelGroup, scores: Scores, width: int) -> tuple[int, ...]:
    """The `width` channels of a group with the highest scores, equally many from each part."""
    values = scores.values[group.name]
    kept: list[int] = []
    for part in range(group.parts):
        inside = np.flatnonzero(group.part_of == part)
        order = inside[np.argsort(-values[inside], kind="stable")]
        kept += order[: width // group.parts].tolist()
    return tuple(sorted(kept))
