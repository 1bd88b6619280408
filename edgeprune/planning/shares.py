"""Widths from one share of the channels: of every group by itself, or of all in one ranking."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeprune.errors import BudgetError
from edgeprune.planning.limits import Limits
from edgeprune.planning.planner import Planner
from edgeprune.planning.reachable import out_of_reach
from edgeprune.planning.widths import families, least, nearest
from edgeprune.records import ChannelGroups, Scores

STEPS = 20
Widths = dict[str, int]
Sharing = Callable[[ChannelGroups, Scores, float, float], Widths]
"""(groups, scores, the share of channels that stays, the least share of a group) → widths"""


def local(groups: ChannelGroups, scores: Scores, keep: float, floor: float = 0.0) -> Widths:
    """The same share of every group; whole heads stay, since their channels are groups too."""
    widths: Widths = {}
    for family in families(groups):
        wanted = {group.name: (1 if group.holds else keep) * group.size for group in family}
        widths.update(nearest(family, groups.equal_counts, wanted, floor))
    return widths


def one_ranking(groups: ChannelGroups, scores: Scores, keep: float, floor: float = 0.0) -> Widths:
    """The channels of highest score, whatever their group, as near to `keep` of all as can be.

    At least one channel of every part stays. Groups in parts give up one channel of each at a time,
    ranked by their mean score; groups that must keep equal counts get the nearest widths that do.
    """
    ranked: list[tuple[bool, float, int, str]] = []
    for group in groups.groups:
        values = scores.values[group.name]
        parts = [np.sort(values[group.part_of == p])[::-1] for p in range(group.parts)]
        forced = least(group, floor)
        for rank, value in enumerate(np.mean(parts, axis=0)):
            ranked.append((rank >= forced, -float(value), len(ranked), group.name))
    ranked.sort()
    parts_of = {group.name: group.parts for group in groups.groups}
    goal = keep * sum(group.size for group in groups.groups)
    first = sum(not free for free, *_ in ranked)

    def taking(count: int) -> Widths:
        wanted = dict.fromkeys(parts_of, 0)
        for *_, name in ranked[:count]:
            wanted[name] += parts_of[name]
        widths: Widths = {}
        for family in families(groups):
            own = {group.name: float(wanted[group.name]) for group in family}
            widths.update(nearest(family, groups.equal_counts, own, floor))
        return widths

    low, high = first, len(ranked)  # the least count that keeps the goal or more
    while low < high:
        middle = (low + high) // 2
        if sum(taking(middle).values()) >= goal:
            high = middle
        else:
            low = middle + 1
    near = [taking(count) for count in range(max(low - 1, first), low + 1)]
    return min(near, key=lambda widths: abs(sum(widths.values()) - goal))


SHARINGS: dict[str, Sharing] = {"local": local, "global": one_ranking}


def widest(sharing: Sharing, planner: Planner, limits: Limits) -> Widths:
    """The largest share, found by halving, whose widths are predicted to stay within `limits`.

    Raises BudgetError where the least share does not.
    """
    groups, scores = planner.groups, planner.scores

    def at(share: float) -> Widths:
        return {**sharing(groups, scores, share, limits.floor), **planner.gone}

    whole, best = at(1.0), at(limits.floor)
    if not limits.exceeded(planner.usage(whole, limits)):
        return whole
    if limits.exceeded(planner.usage(best, limits)):
        raise BudgetError(out_of_reach(planner, limits, proven=True))
    low, high = limits.floor, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        found = at(middle)
        if limits.exceeded(planner.usage(found, limits)):
            high = middle
        else:
            low, best = middle, found
    return best
