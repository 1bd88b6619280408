"""Widths for a budget: give up importance where a millisecond costs least of it.

Every family of groups starts at full width. While a budget is exceeded, the move (a family to any
of its narrower levels) that loses the least importance per share of budget gained is made; then
whatever still fits is given back, the best first. Latency is a staircase and a kernel depends on
two groups, so all narrower levels are looked at, not only the next one.

A residual block that may be dropped is a family of two levels, there or not. Dropping it takes its
kernels away, so that families which only those kernels know go back to full width: what they had
given up is no longer lost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import BudgetError
from edgeprune.planning.widths import families, least, nearest
from edgeprune.records import Block, ChannelGroup, ChannelGroups, CostModel, Kernel, Scores, Widths
from edgeprune.units import show_bytes, show_ms

SHARES = tuple(i / 16 for i in range(16, 0, -1))


@dataclass(frozen=True)
class Limits:
    """What a plan must stay within (None: no limit), and the least share of a group that stays."""

    latency_ms: float | None = None
    size_bytes: int | None = None
    floor: float = 0.1

    def exceeded(self, usage: Usage) -> bool:
        """Whether a network takes more than may be."""
        return (self.latency_ms is not None and usage.latency_ms > self.latency_ms) or (
            self.size_bytes is not None and usage.size_bytes > self.size_bytes
        )


@dataclass(frozen=True)
class Blocks:
    """A network's residual blocks: `known` are all, `importance` those that may be dropped (by
    name, in the scores' units), `dropped` the names of those that are dropped in any case."""

    known: tuple[Block, ...] = ()
    importance: Mapping[str, float] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Level:
    """One choice for a family: the widths of its groups and the importance that they keep.

    A block is a family too: its widths are 1 or 0 under its key.
    """

    widths: tuple[tuple[str, int], ...]
    importance: float


@dataclass(frozen=True)
class Usage:
    """What a network takes, as the cost model predicts it."""

    latency_ms: float
    size_bytes: int


@dataclass
class Search:
    """The state of one search. `choice[i]` is the level of family i, 0 being full width."""

    groups: ChannelGroups
    scores: Scores
    cost: CostModel
    limits: Limits
    blocks: Blocks = field(default_factory=Blocks)
    levels: list[tuple[Level, ...]] = field(init=False)
    choice: list[int] = field(init=False)
    widths: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        members = families(self.groups)
        free = [b for b in self.blocks.known if b.name in self.blocks.importance]
        free = [b for b in free if b.name not in self.blocks.dropped]
        self.cost = self.cost.with_blocks(self.blocks.known) if self.blocks.known else self.cost
        self.levels = [self._levels(family) for family in members]
        self._free = free
        self.levels += [_present_or_not(b, self.blocks.importance[b.name]) for b in free]
        self.choice = [0] * len(self.levels)
        gone = {b.key: 0 for b in self.blocks.known if b.name in self.blocks.dropped}
        self.widths = {**self.groups.full_widths(), **gone}
        self._touched = self._kernels_of(
            [tuple(g.name for g in family) for family in members] + [(b.key,) for b in free]
        )
        self._scale = self._us_to_ms()

    def solve(self) -> tuple[dict[str, int], Usage]:
        """The widths found and what they take; raises BudgetError when nothing fits."""
        usage = self._usage(self.widths)
        smallest = self._usage(self._at([len(levels) - 1 for levels in self.levels]))
        check_reachable(smallest, self.limits)
        moves = {i: self._best_cut(i, usage) for i in range(len(self.levels))}
        while self.limits.exceeded(usage):
            i, (_, level) = min(moves.items(), key=lambda item: (item[1][0], item[0]))
            if level < 0:
                break
            self._set(i, level)
            usage = self._usage(self.widths)
            for j in self._neighbours(i):
                moves[j] = self._best_cut(j, usage)
        self._thin_instead()
        self._give_back()
        usage = self._usage(self.widths)
        return dict(self.widths), usage

    # --- moves ----------------------------------------------------------------------------

    def _best_cut(self, i: int, usage: Usage) -> tuple[float, int]:
        """The least importance lost per share of budget gained, and the level that does it."""
        best = (float("inf"), -1)
        here = self.levels[i][self.choice[i]]
        for level in range(self.choice[i] + 1, len(self.levels[i])):
            there = self.levels[i][level]
            gained = self._gain(i, there, usage)
            if gained > 1e-9:
                lost = here.importance - there.importance - self._spared(i, there)
                best = min(best, (lost / gained, level))
        return best

    def _spared(self, i: int, level: Level) -> float:
        """What families that a move makes idle have given up, and get back."""
        return sum(
            self.levels[j][0].importance - self.levels[j][self.choice[j]].importance
            for j in self._made_idle(i, level)
        )

    def _made_idle(self, i: int, level: Level) -> list[int]:
        """Families below full width whose kernels are all gone after a move."""
        if all(width for _, width in level.widths):
            return []
        there = {**self.widths, **dict(level.widths)}
        return [
            j
            for j in self._shared[i] - {i}
            if self.choice[j] and all(_is_gone(kernel, there) for kernel in self._touched[j])
        ]

    def _thin_instead(self) -> None:
        """Bring back dropped blocks, the most important first, as wide as fits: a whole block is
        often more than the budget asked for."""
        first = len(self.levels) - len(self._free)
        dropped = [i for i in range(first, len(self.levels)) if self.choice[i]]
        for i in sorted(dropped, key=lambda i: (-self.levels[i][0].importance, i)):
            key = self._free[i - first].key
            inside = [
                j for j in self._shared[i] - {i} if all(key in k.blocks for k in self._touched[j])
            ]
            for share in SHARES:
                at = {j: round((1 - share) * (len(self.levels[j]) - 1)) for j in inside}
                widths = {**self.widths, key: 1}
                won = self.levels[i][0].importance
                for j, level in at.items():
                    widths.update(self.levels[j][level].widths)
                    won -= self.levels[j][0].importance - self.levels[j][level].importance
                if won > 0 and not self.limits.exceeded(self._usage(widths)):
                    self.widths = widths
                    self.choice[i] = 0
                    for j, level in at.items():
                        self.choice[j] = level
                    break

    def _give_back(self) -> None:
        """Widen what still fits, most importance per share of budget first."""
        while True:
            best: tuple[float, int, int] | None = None
            for i, levels in enumerate(self.levels):
                for level in range(self.choice[i]):
                    widths = {**self.widths, **dict(levels[level].widths)}
                    now = levels[self.choice[i]]
                    won = levels[level].importance - now.importance
                    spent = max(-self._gain(i, levels[level], None), 1e-9)
                    if won > 0 and (best is None or won / spent > best[0]):
                        if self.limits.exceeded(self._usage(widths)):
                            continue
                        best = (won / spent, i, level)
            if best is None:
                return
            self._set(best[1], best[2])

    def _set(self, i: int, level: int) -> None:
        for j in self._made_idle(i, self.levels[i][level]):
            self.choice[j] = 0
            self.widths.update(self.levels[j][0].widths)
        self.choice[i] = level
        self.widths.update(self.levels[i][level].widths)

    def _gain(self, i: int, level: Level, usage: Usage | None) -> float:
        """The share of the budgets (those exceeded in `usage`, else all) that a move frees."""
        there = {**self.widths, **dict(level.widths)}
        total = 0.0
        latency, size = self.limits.latency_ms, self.limits.size_bytes
        if latency is not None and (usage is None or usage.latency_ms > latency):
            before = sum(self._kernel_us(k, self.widths) for k in self._touched[i])
            after = sum(self._kernel_us(k, there) for k in self._touched[i])
            total += (before - after) * self._scale / latency
        if size is not None and (usage is None or usage.size_bytes > size):
            total += (self.cost.size_bytes(self.widths) - self.cost.size_bytes(there)) / size
        return total

    # --- costs ----------------------------------------------------------------------------

    def _kernel_us(self, kernel: Kernel, widths: Mapping[str, int]) -> float:
        return self.cost.kernel_us(kernel.at(widths))

    def _usage(self, widths: Mapping[str, int]) -> Usage:
        return Usage(self.cost.latency_ms(widths), self.cost.size_bytes(widths))

    def _us_to_ms(self) -> float:
        """What one microsecond of a kernel adds to the whole, corrections included."""
        total = sum(self._kernel_us(k, self.widths) for k in self.cost.kernels)
        return self.cost.latency_ms(self.widths) / total if total else 1e-3

    def _kernels_of(self, members: list[tuple[str, ...]]) -> list[list[Kernel]]:
        home = {name: i for i, family in enumerate(members) for name in family}
        touched: list[list[Kernel]] = [[] for _ in members]
        self._shared: dict[int, set[int]] = defaultdict(set)
        for kernel in self.cost.kernels:
            owners = {home[name] for name in kernel.groups.union(kernel.blocks) if name in home}
            for i in owners:
                touched[i].append(kernel)
                self._shared[i] |= owners
        return touched

    def _neighbours(self, i: int) -> set[int]:
        """Families whose moves look different now that family i has moved."""
        return {i, *self._shared[i]}

    def _at(self, choice: list[int]) -> dict[str, int]:
        widths = dict(self.widths)
        for levels, level in zip(self.levels, choice, strict=True):
            widths.update(levels[level].widths)
        return widths

    # --- levels ---------------------------------------------------------------------------

    def _levels(self, family: tuple[ChannelGroup, ...]) -> tuple[Level, ...]:
        kept = {group.name: cumulative(group, self.scores) for group in family}
        found: dict[tuple[tuple[str, int], ...], Level] = {}
        for widths in self._choices(family):
            key = tuple(sorted(widths.items()))
            importance = sum(float(kept[g.name][widths[g.name] // g.parts]) for g in family)
            found.setdefault(key, Level(key, importance))
        return tuple(sorted(found.values(), key=lambda lv: (-lv.importance, lv.widths)))

    def _choices(self, family: tuple[ChannelGroup, ...]) -> list[dict[str, int]]:
        full = {group.name: group.size for group in family}
        if len(family) == 1:
            group = family[0]
            fewest = least(group, self.limits.floor) * group.parts
            # an earlier cut may have left less than the cost model knows steps for
            offered = set(self.cost.steps(group.name))
            if self.limits.size_bytes is not None:  # bytes have no steps
                each = group.size // group.parts
                offered |= {group.parts * max(1, round(share * each)) for share in SHARES}
            steps = [w for w in sorted(offered) if fewest <= w <= group.size]
            return [full, *({group.name: w} for w in steps if w % group.parts == 0)]
        return [
            full,
            *(
                nearest(
                    family,
                    self.groups.equal_counts,
                    {g.name: share * g.size for g in family},
                    self.limits.floor,
                )
                for share in SHARES
                if share >= self.limits.floor
            ),
        ]


def check_reachable(smallest: Usage, limits: Limits) -> None:
    """Raise BudgetError where even the smallest plan takes more than `limits`."""
    latency, size = limits.latency_ms, limits.size_bytes
    floor = f"at least {limits.floor:.0%} of every group kept"
    if latency is not None and smallest.latency_ms > latency:
        raise BudgetError(
            f"a latency of {show_ms(latency)} cannot be met: the smallest plan is predicted to "
            f"take {show_ms(smallest.latency_ms)} ({floor}). Try --budget-ms "
            f"{smallest.latency_ms * 1.05:.4g}, or a smaller model"
        )
    if size is not None and smallest.size_bytes > size:
        raise BudgetError(
            f"a size of {show_bytes(size)} cannot be met: the smallest plan is predicted to "
            f"take {show_bytes(smallest.size_bytes)} ({floor}). Try --budget-mb "
            f"{smallest.size_bytes * 1.05 / 1e6:.4g}, or a smaller model"
        )


def cumulative(group: ChannelGroup, scores: Scores) -> NDArray[np.float64]:
    """Importance kept when each part keeps its best k channels, for k = 0, 1, …"""
    values = scores.values[group.name]
    total = np.zeros(group.size // group.parts + 1)
    for part in range(group.parts):
        inside = np.sort(values[group.part_of == part])[::-1]
        total[1:] += np.cumsum(inside)
    return total


def _present_or_not(block: Block, importance: float) -> tuple[Level, Level]:
    return Level(((block.key, 1),), importance), Level(((block.key, 0),), 0.0)


def _is_gone(kernel: Kernel, widths: Widths) -> bool:
    return any(widths.get(key, 1) == 0 for key in kernel.blocks)
