"""The planner's problem in numbers: variables with levels, and tables of what combinations take.

Every variable (the widths of a family, a block that stays or goes, a running sum of widths) takes
one of its levels. Every factor adds, for each combination of the levels of a few variables, to all
quantities at once: importance, microseconds, bytes. A solution is a level per variable; what it
takes is the sum over the factors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Levels = tuple[int, ...]
"""One level per variable, by index."""


@dataclass(frozen=True)
class Variable:
    """Something to choose: the widths that each of its levels stands for, level 0 the fullest."""

    name: str
    widths: tuple[tuple[tuple[str, int], ...], ...]

    @property
    def size(self) -> int:
        """How many levels there are."""
        return len(self.widths)


@dataclass(frozen=True)
class Sum:
    """A variable that follows from others: the sum of widths that several kernels read together.

    Variable `result` is `values[level]`; `level_of[a, b]` is its level where the two variables that
    it adds (`first`, `second`) are at levels a and b.
    """

    result: int
    first: int
    second: int
    level_of: NDArray[np.int64]


@dataclass(frozen=True)
class Factor:
    """What the levels of the variables in `scope` (ascending) add: (quantities, *levels)."""

    scope: tuple[int, ...]
    tables: Array

    def at(self, levels: Sequence[int]) -> Array:
        """What a solution takes of it: (quantities,)."""
        index: Any = (slice(None), *(levels[v] for v in self.scope))
        found: Array = self.tables[index]
        return found

    def along(self, v: int, levels: Sequence[int]) -> Array:
        """What it takes at every level of variable `v`, the others as in `levels`."""
        index: Any = (slice(None), *(slice(None) if u == v else levels[u] for u in self.scope))
        found: Array = self.tables[index]
        return found


@dataclass(frozen=True)
class Problem:
    """Everything to choose from, and what it takes.

    `sizes` are the numbers of levels of all variables, sums last; quantities are rows of the
    factors' tables, by name in `quantities`.
    """

    quantities: tuple[str, ...]
    variables: tuple[Variable, ...]
    sizes: tuple[int, ...]
    factors: tuple[Factor, ...]
    sums: tuple[Sum, ...] = ()

    def complete(self, free: Sequence[int]) -> Levels:
        """The levels of all variables, sums included, given those of the free ones."""
        levels = [*free[: len(self.variables)], *([0] * len(self.sums))]
        for total in self.sums:
            levels[total.result] = int(total.level_of[levels[total.first], levels[total.second]])
        return tuple(levels)

    def taken(self, levels: Levels) -> Array:
        """What a solution takes of every quantity: (quantities,)."""
        total = np.zeros(len(self.quantities))
        for factor in self.factors:
            total += factor.at(levels)
        return total

    def widths(self, levels: Levels) -> dict[str, int]:
        """The widths that a solution stands for; blocks are 0 or 1 under their keys."""
        found: dict[str, int] = {}
        for variable, level in zip(self.variables, levels, strict=False):
            found.update(variable.widths[level])
        return found

    def index(self, quantity: str) -> int:
        """The row of a quantity in the factors' tables."""
        return self.quantities.index(quantity)

    @cached_property
    def touching(self) -> tuple[tuple[int, ...], ...]:
        """By variable, the indices of the factors that it is in."""
        found: list[list[int]] = [[] for _ in self.sizes]
        for i, factor in enumerate(self.factors):
            for v in factor.scope:
                found[v].append(i)
        return tuple(tuple(factors) for factors in found)

    @cached_property
    def ties(self) -> tuple[Array, ...]:
        """By sum, a table over its three variables: 0 where they agree, else -inf."""
        found = []
        for total in self.sums:
            at = (total.first, total.second, total.result)
            table = np.full(tuple(self.sizes[v] for v in at), -np.inf)
            first, second = np.indices(total.level_of.shape)
            table[first, second, total.level_of] = 0.0
            found.append(table.transpose([at.index(v) for v in sorted(at)]))
        return tuple(found)


def merged(factors: Iterable[Factor]) -> tuple[Factor, ...]:
    """The same sum by as few factors as can be: one per scope, small scopes inside larger ones."""
    by_scope: dict[tuple[int, ...], Array] = {}
    for factor in factors:
        known = by_scope.get(factor.scope)
        by_scope[factor.scope] = factor.tables if known is None else known + factor.tables
    scopes = sorted(by_scope, key=lambda scope: (len(scope), scope))
    homes: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    for scope in scopes:
        for v in scope:
            homes[v].append(scope)
    for scope in scopes:
        near = homes[scope[0]] if scope else scopes
        larger = [s for s in near if len(s) > len(scope) and set(scope) <= set(s)]
        alive = [s for s in larger if s in by_scope]
        if alive:
            into = min(alive, key=lambda s: (by_scope[s].size, s))
            by_scope[into] = by_scope[into] + spread(by_scope.pop(scope), scope, into)
    return tuple(Factor(scope, by_scope[scope]) for scope in scopes if scope in by_scope)


def spread(table: Array, scope: Sequence[int], over: Sequence[int], leading: int = 1) -> Array:
    """A table over `scope` shaped to broadcast over the ascending variables `over`."""
    sizes = dict(zip(scope, table.shape[leading:], strict=True))
    return table.reshape(*table.shape[:leading], *(sizes.get(v, 1) for v in over))
