"""From solutions near the limits to a better one within them, by small changes.

The convex front only has some of the good solutions on it; between two of its corners, changing
one or two variables fills what a limit leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from edgeprune.planning.dual import Goal
from edgeprune.planning.elimination import Array
from edgeprune.planning.problem import Levels, Problem

_MOST_MOVES = 400
_WORTH_IT = 1e-12


@dataclass(frozen=True)
class Found:
    """A solution within the limits, with what it takes."""

    levels: Levels
    taken: Array
    value: float


def polished(
    problem: Problem, goal: Goal, starts: Iterable[Levels], deadline: float
) -> Found | None:
    """The best allowed solution reached from any of `starts`; None where none is reached."""
    top: Found | None = None
    for start in starts:
        if top is not None and monotonic() > deadline:
            break
        found = _climbed(problem, goal, start, deadline)
        if found is not None and (top is None or found.value > top.value + _WORTH_IT):
            top = found
    return top


def _climbed(problem: Problem, goal: Goal, start: Levels, deadline: float) -> Found | None:
    """One start: first into the limits, the cheapest way; then up, by the best move each time."""
    local = Neighbourhood(problem, start)
    for _ in range(_MOST_MOVES):
        if monotonic() > deadline:
            break
        move = _next(local, goal)
        if move is None:
            break
        local.make(move)
    if not goal.allows(local.taken):
        return None
    return Found(local.levels, local.taken, goal.value(local.taken))


Move = tuple[tuple[int, int], ...]
"""Variables with their new levels."""


def _next(local: Neighbourhood, goal: Goal) -> Move | None:
    """The best move from here: towards the limits while one is exceeded, else worth more."""
    at, deltas = local.moves()
    if not len(at):
        return None
    here = goal.uses @ local.taken
    worth, uses = deltas @ goal.worth, deltas @ goal.uses.T
    excess = np.maximum(here - 1, 0).sum()
    if excess > 0:
        after = np.maximum(here + uses - 1, 0).sum(axis=1)
        gained = excess - after
        useful = np.flatnonzero(gained > _WORTH_IT)
        if not len(useful):
            return None
        cost = np.maximum(-worth[useful], 0) / gained[useful]
        pick = useful[int(np.argmin(cost))]
        return (tuple(int(x) for x in at[pick]),)  # type: ignore[return-value]
    fits = np.all(here + uses <= 1, axis=1)
    single = np.where(fits & (worth > _WORTH_IT), worth, -np.inf)
    pick = int(np.argmax(single))
    alone = float(single[pick])
    together = _pair(local, goal, (at, worth, uses, here))
    if together is not None and together[0] > max(alone, 0) + _WORTH_IT:
        return together[1]
    return (tuple(int(x) for x in at[pick]),) if alone > 0 else None  # type: ignore[return-value]


def _pair(
    local: Neighbourhood, goal: Goal, moves: tuple[NDArray[np.int64], Array, Array, Array]
) -> tuple[float, Move] | None:
    """The best two moves of variables that share no factor: their changes add up exactly."""
    at, worth, uses, here = moves
    order = np.argsort(-worth, kind="stable")
    gaining = [i for i in order if worth[i] > 0][:400]
    best: tuple[float, Move] | None = None
    for i in gaining:
        if best is not None and worth[i] + float(worth[order[0]]) <= best[0]:
            break
        allowed = np.all(here + uses[i] + uses <= 1, axis=1)
        allowed &= ~local.near[at[i, 0], at[:, 0]]
        value = np.where(allowed, worth + worth[i], -np.inf)
        j = int(np.argmax(value))
        if value[j] > max(_WORTH_IT, best[0] if best else 0.0):
            pair = tuple((int(at[k, 0]), int(at[k, 1])) for k in (i, j))
            best = float(value[j]), pair
    return best


class Neighbourhood:
    """A solution and what every change of one free variable would change."""

    def __init__(self, problem: Problem, start: Levels) -> None:
        self._problem = problem
        self._follows = _followers(problem)
        factors = [
            sorted({f for u in (v, *self._follows[v]) for f in problem.touching[u]})
            for v in range(len(problem.variables))
        ]
        self._factors = factors
        self.near = _sharing(factors, len(problem.factors))
        self.levels = problem.complete(start)
        self.taken = problem.taken(self.levels)
        self._known: dict[int, Array] = {}

    def make(self, move: Move) -> None:
        """Changes the solution."""
        levels = list(self.levels)
        for v, level in move:
            levels[v] = level
            for u in np.flatnonzero(self.near[v]).tolist():
                self._known.pop(u, None)
        self.levels = self._problem.complete(levels)
        self.taken = self._problem.taken(self.levels)

    def moves(self) -> tuple[NDArray[np.int64], Array]:
        """All changes of one variable: (variable, level) rows, and what each adds, by quantity."""
        at, deltas = [], []
        for v, variable in enumerate(self._problem.variables):
            if variable.size == 1:
                continue
            if v not in self._known:
                self._known[v] = self._changes(v)
            others = [level for level in range(variable.size) if level != self.levels[v]]
            at += [(v, level) for level in others]
            deltas.append(self._known[v][others])
        if not at:
            return np.zeros((0, 2), dtype=np.int64), np.zeros((0, len(self.taken)))
        return np.array(at), np.concatenate(deltas)

    def _changes(self, v: int) -> Array:
        """(levels, quantities): what variable `v` adds at each level, less what it adds now."""
        problem, here = self._problem, self.levels
        if not self._follows[v]:
            total = np.zeros((len(problem.quantities), problem.sizes[v]))
            for f in self._factors[v]:
                total += problem.factors[f].along(v, here)
            changes: Array = (total - total[:, here[v] : here[v] + 1]).T
            return changes
        rows = []
        for level in range(problem.sizes[v]):
            there = problem.complete([*here[:v], level, *here[v + 1 :]])
            parts = [problem.factors[f].at(there) for f in self._factors[v]]
            rows.append(sum(parts, np.zeros(len(problem.quantities))))
        found: Array = np.stack(rows) - rows[here[v]]
        return found


def _followers(problem: Problem) -> list[set[int]]:
    """By variable, the sums that change with it."""
    follows: list[set[int]] = [set() for _ in problem.sizes]
    for total in problem.sums:
        for v in range(len(problem.sizes)):
            if {total.first, total.second} & {v, *follows[v]}:
                follows[v].add(total.result)
    return follows


def _sharing(factors: Sequence[Sequence[int]], count: int) -> NDArray[np.bool_]:
    """Which variables share a factor (with themselves, too)."""
    inside = np.zeros((len(factors), count), dtype=np.float32)
    for v, mine in enumerate(factors):
        inside[v, list(mine)] = 1
    shares: NDArray[np.bool_] = (inside @ inside.T) > 0
    np.fill_diagonal(shares, True)
    return shares
