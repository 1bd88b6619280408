"""The levels of every family of groups, and the importance that they keep."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeprune.choices import CRITERIA
from edgeprune.planning.limits import Limits, Rules
from edgeprune.planning.problem import Variable
from edgeprune.planning.widths import families, least, nearest
from edgeprune.records import ChannelGroup, ChannelGroups, CostModel, Scores

SHARES = tuple(i / 16 for i in range(16, 0, -1))


@dataclass(frozen=True)
class Choices:
    """What may be chosen: costs offer steps, limits a floor, rules what a user demands."""

    groups: ChannelGroups
    cost: CostModel
    limits: Limits
    rules: Rules = field(default_factory=Rules)

    def variables(self) -> tuple[Variable, ...]:
        """A variable for every family, the fullest level first."""
        return tuple(self._variable(family) for family in families(self.groups))

    def _variable(self, family: tuple[ChannelGroup, ...]) -> Variable:
        offered = self._one(family[0]) if len(family) == 1 else self._several(family)
        allowed = [
            widths
            for widths in offered
            if all(self.rules.allow(g.name, g.size, widths[g.name]) for g in family)
        ]
        full = {group.name: group.size for group in family}
        unique = dict.fromkeys(tuple(sorted(w.items())) for w in (full, *allowed))
        ordered = sorted(unique, key=lambda widths: (-sum(n for _, n in widths), widths))
        return Variable(family[0].name, tuple(ordered))

    def _one(self, group: ChannelGroup) -> list[dict[str, int]]:
        fewest = least(group, self.limits.floor) * group.parts
        # an earlier cut may have left less than the cost model knows steps for
        offered = set(self.cost.steps(group.name))
        each = group.size // group.parts
        if self.limits.size_bytes is not None:  # bytes have no steps
            offered |= {group.parts * max(1, round(share * each)) for share in SHARES}
        for multiple in self.rules.multiples(group.name):
            offered |= {w for w in range(multiple, group.size, multiple) if len(offered) < 64}
        lowest = self.rules.fewest(group.name, group.size)
        offered |= {-(-lowest // group.parts) * group.parts}
        return [
            {group.name: w} for w in offered if fewest <= w <= group.size and w % group.parts == 0
        ]

    def _several(self, family: tuple[ChannelGroup, ...]) -> list[dict[str, int]]:
        return [
            nearest(
                family,
                self.groups.equal_counts,
                {g.name: share * g.size for g in family},
                self.limits.floor,
            )
            for share in SHARES
            if share >= self.limits.floor
        ]


def _readers(group: ChannelGroup) -> int:
    """How many layers read a group's channels; one at least."""
    return max(1, len({part.parameter for part in group.slices if part.role == "in"}))


def cumulative(group: ChannelGroup, scores: Scores) -> NDArray[np.float64]:
    """Importance kept when each part keeps its best k channels, for k = 0, 1, …"""
    values = scores.values[group.name]
    total = np.zeros(group.size // group.parts + 1)
    for part in range(group.parts):
        inside = np.sort(values[group.part_of == part])[::-1]
        total[1:] += np.cumsum(inside)
    return total


@dataclass(frozen=True)
class Importance:
    """The importance kept by widths, in the units of the scores.

    A head takes the channels inside of it along: with h of H heads kept, what its channels lose by
    being fewer is lost in the kept heads only, h / H of it.

    Criteria that are no change of the loss count in average channels of a group. That says nothing
    of how much hangs on a channel: it counts once for each layer that reads it (a residual stream
    is read by every block), and the heads of an attention together as much as all channels in them.
    """

    groups: ChannelGroups
    scores: Scores

    def by_group(self) -> dict[str, NDArray[np.float64]]:
        """By group, the importance kept with k channels of each part."""
        held = {name: group for group in self.groups.groups for name in group.holds}
        found = {group.name: cumulative(group, self.scores) for group in self.groups.groups}
        known = CRITERIA.get(self.scores.criterion)
        if known is not None and known.in_loss:
            return found
        for group in self.groups.groups:
            found[group.name] = found[group.name] * _readers(group)
        for name in {group.name for group in held.values()}:
            inside = sum(float(found[n][-1]) for n, g in held.items() if g.name == name)
            total = float(found[name][-1])
            if total > 0:
                found[name] = found[name] * (inside / total)
        return found

    def heads_of(self) -> dict[str, ChannelGroup]:
        """By group of channels inside heads, the group of those heads."""
        return {name: group for group in self.groups.groups for name in group.holds}

    def full(self) -> float:
        """What the full network keeps (blocks not counted)."""
        return sum(float(kept[-1]) for kept in self.by_group().values())

    def kept(self, widths: dict[str, int]) -> float:
        """What `widths` keep."""
        curves, heads = self.by_group(), self.heads_of()
        total = 0.0
        for group in self.groups.groups:
            curve = curves[group.name]
            lost = float(curve[-1] - curve[widths[group.name] // group.parts])
            if group.name in heads:
                above = heads[group.name]
                lost *= widths[above.name] / above.size
            total += float(curve[-1]) - lost
        return total
