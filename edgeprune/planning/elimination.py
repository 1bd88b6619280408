"""The best solution of a sum of tables, by eliminating one variable after the other.

Bucket elimination (Dechter 1999, "Bucket elimination: a unifying framework for reasoning"): all
tables that know a variable are added up and the variable is maximised away, which leaves a table
over its neighbours. Networks are chains with short side branches, so the tables stay small. Where
one would not, the tables that know the variable are split into several lots, each with a copy of
the variable of its own (mini-buckets, Dechter and Rish 2003): the value is then an upper bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.planning.problem import Levels, Problem, spread

Array = NDArray[np.float64]
LARGEST_TABLE = 2_000_000


@dataclass(frozen=True)
class Step:
    """One lot of tables: their joined `scope` loses `variable`; `inputs` are tables by number.

    Numbers below the count of given tables are those; the output of step i is count + i.
    """

    variable: int
    scope: tuple[int, ...]
    inputs: tuple[int, ...]

    @property
    def kept(self) -> tuple[int, ...]:
        """The scope of the step's output."""
        return tuple(v for v in self.scope if v != self.variable)


@dataclass(frozen=True)
class Order:
    """The steps for a problem's structure, made once; `exact` unless a variable was copied."""

    sizes: tuple[int, ...]
    scopes: tuple[tuple[int, ...], ...]
    steps: tuple[Step, ...]
    exact: bool

    def shape(self, scope: Sequence[int]) -> tuple[int, ...]:
        """The shape of a table over `scope`."""
        return tuple(self.sizes[v] for v in scope)


@dataclass(frozen=True)
class Best:
    """A bound on the value of every solution, and a solution; its value is the bound if exact."""

    bound: float
    levels: Levels


def scopes_of(problem: Problem) -> tuple[tuple[int, ...], ...]:
    """The scopes of a problem's tables: its factors', then one for each of its sums."""
    ties = (tuple(sorted((s.first, s.second, s.result))) for s in problem.sums)
    return (*(factor.scope for factor in problem.factors), *ties)


def weighted(problem: Problem, weights: Array) -> list[Array]:
    """One number for each combination: quantities times weights. Impossible sums are -inf."""
    tables = [np.tensordot(weights, factor.tables, axes=1) for factor in problem.factors]
    return [*tables, *problem.ties]


def order(
    sizes: tuple[int, ...], scopes: tuple[tuple[int, ...], ...], largest: int = LARGEST_TABLE
) -> Order:
    """In which order variables go: always the one whose joined table is smallest."""
    live: dict[int, tuple[int, ...]] = dict(enumerate(scopes))
    knows: list[set[int]] = [set() for _ in sizes]
    for i, scope in live.items():
        for v in scope:
            knows[v].add(i)

    def weight(v: int) -> float:
        joined = {u for i in knows[v] for u in live[i]}
        return float(sum(np.log(sizes[u]) for u in sorted(joined)))

    waiting = {v: weight(v) for v in range(len(sizes))}
    steps: list[Step] = []
    exact = True
    while waiting:
        v = min(waiting, key=lambda u: (round(waiting[u], 9), u))
        del waiting[v]
        lots = _lots(sorted(knows[v]), live, sizes, largest)
        exact &= len(lots) <= 1
        touched: set[int] = set()
        for lot in lots:
            scope = tuple(sorted({u for i in lot for u in live[i]}))
            step = Step(v, scope, lot)
            number = len(scopes) + len(steps)
            steps.append(step)
            for i in lot:
                for u in live.pop(i):
                    knows[u].discard(i)
            live[number] = step.kept
            for u in step.kept:
                knows[u].add(number)
            touched |= set(step.kept)
        waiting.update({u: weight(u) for u in touched})
    return Order(sizes, scopes, tuple(steps), exact)


def _lots(
    inputs: list[int], live: dict[int, tuple[int, ...]], sizes: tuple[int, ...], largest: int
) -> list[tuple[int, ...]]:
    """Inputs of one variable, together where their table is small enough, else first fit."""
    lots: list[tuple[list[int], set[int]]] = []
    for i in sorted(inputs, key=lambda i: (-len(live[i]), i)):
        for members, scope in lots:
            joined = scope | set(live[i])
            if scope >= set(live[i]) or np.prod([float(sizes[v]) for v in joined]) <= largest:
                members.append(i)
                scope |= set(live[i])
                break
        else:
            lots.append(([i], set(live[i])))
    return [tuple(sorted(members)) for members, _ in lots]


def best(order: Order, tables: Sequence[Array]) -> Best:
    """The solution of highest value, ties to the fuller level, and a bound on every value."""
    known = _upward(order, tables)
    count = len(order.scopes)
    total = sum(float(known[i]) for i in _constants(order))
    levels = [0] * len(order.sizes)
    inputs: dict[int, list[int]] = {}
    for step in order.steps:
        inputs.setdefault(step.variable, []).extend(step.inputs)
    for v in dict.fromkeys(step.variable for step in reversed(order.steps)):
        value = np.zeros(order.sizes[v])
        for i in inputs[v]:
            scope = order.scopes[i] if i < count else order.steps[i - count].kept
            at = tuple(slice(None) if u == v else levels[u] for u in scope)
            value = value + known[i][at]
        levels[v] = int(np.argmax(value))
    return Best(total, tuple(levels))


def bounds(order: Order, tables: Sequence[Array]) -> list[Array]:
    """By variable and level, a bound on the value of every solution that has it (max-marginals)."""
    known = _upward(order, tables)
    count = len(order.scopes)
    total = sum(float(known[i]) for i in _constants(order))
    found = [np.full(size, np.inf) for size in order.sizes]
    down: dict[int, Array] = {}
    for number in reversed(range(len(order.steps))):
        step = order.steps[number]
        above = down.pop(count + number, np.zeros(order.shape(step.kept)))
        parts = {
            i: spread(known[i], order.scopes[i] if i < count else order.steps[i - count].kept,
                      step.scope, 0)
            for i in step.inputs
        }  # fmt: skip
        parts[-1] = spread(above, step.kept, step.scope, 0)
        belief = _added(list(parts.values()), order.shape(step.scope))
        top = float(belief.max())
        for axis, v in enumerate(step.scope):
            rest = tuple(a for a in range(len(step.scope)) if a != axis)
            found[v] = np.minimum(found[v], total - top + belief.max(axis=rest))
        for i in step.inputs:
            if i < count:
                continue
            others = [part for j, part in parts.items() if j != i]
            kept = order.steps[i - count].kept
            rest = tuple(a for a, v in enumerate(step.scope) if v not in kept)
            down[i] = _added(others, order.shape(step.scope)).max(axis=rest)
    return found


def _constants(order: Order) -> list[int]:
    """The numbers of the outputs (and tables) that no variable is left in."""
    count = len(order.scopes)
    return [
        *(i for i, scope in enumerate(order.scopes) if not scope),
        *(count + i for i, step in enumerate(order.steps) if not step.kept),
    ]


def _upward(order: Order, tables: Sequence[Array]) -> list[Array]:
    known = list(tables)
    count = len(order.scopes)
    for step in order.steps:
        parts = [
            spread(known[i], order.scopes[i] if i < count else order.steps[i - count].kept,
                   step.scope, 0)
            for i in step.inputs
        ]  # fmt: skip
        joined = _added(parts, order.shape(step.scope))
        known.append(joined.max(axis=step.scope.index(step.variable)))
    return known


def _added(parts: Sequence[Array], shape: tuple[int, ...]) -> Array:
    """The sum of tables that broadcast to `shape`, small ones first."""
    total = np.zeros((1,) * len(shape))
    for part in sorted(parts, key=lambda part: part.size):
        total = total + part
    return np.broadcast_to(total, shape)
