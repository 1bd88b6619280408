"""How good any solution within limits can be: prices for what is limited.

With a price for every limited quantity, the limits become part of the sum, and elimination finds
the best solution for the prices. Its value is a bound on every solution within the limits; the
prices with the lowest bound are found by cutting planes (Kelley 1960), a solution being a plane.
With one limit that walks along the corners of the convex front of importance against cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from edgeprune.planning.elimination import Array, Order, best, bounds, weighted
from edgeprune.planning.problem import Levels, Problem

_MOST_TURNS = 120
_CLOSE = 1e-9


@dataclass(frozen=True)
class Goal:
    """What to maximise and what to stay within, as weights over a problem's quantities.

    A solution that takes t is worth `worth @ t`; it is allowed where `uses @ t <= 1` holds in every
    row (each limited quantity is divided by its limit).
    """

    worth: Array
    uses: Array

    def value(self, taken: Array) -> float:
        """What a solution is worth."""
        return float(self.worth @ taken)

    def allows(self, taken: Array) -> bool:
        """Whether a solution stays within every limit."""
        return bool(np.all(self.uses @ taken <= 1 + _CLOSE))


@dataclass
class Prices:
    """Prices with their bound, and the solutions met on the way, by what they take."""

    prices: NDArray[np.float64]
    bound: float
    found: dict[Levels, Array] = field(default_factory=dict)
    settled: bool = False
    """Whether no other prices give a lower bound."""


def cheapest(problem: Problem, order: Order, weights: Array) -> tuple[float, Levels]:
    """The least that `weights @ taken` can be (a bound on it), and a solution that takes it."""
    answer = best(order, weighted(problem, -weights))
    return -answer.bound, answer.levels


def price(problem: Problem, order: Order, goal: Goal, deadline: float) -> Prices:
    """The prices with the lowest bound on the goal, or the best until `deadline` (monotonic)."""
    rows = len(goal.uses)
    state = Prices(np.zeros(rows), np.inf)
    planes: list[tuple[float, Array]] = []
    box = 1.0
    for asked in _asking(planes, rows):
        answer = best(order, weighted(problem, goal.worth - asked @ goal.uses))
        bound = answer.bound + float(asked.sum())
        taken = problem.taken(answer.levels)
        state.found[answer.levels] = taken
        over = goal.uses @ taken - 1
        if bound < state.bound:
            state.bound, state.prices = bound, asked
        # the plane under the bound: where copies were split, the bound lies above its solution
        planes.append((bound + float(asked @ over), over))
        box = max(box, 2 * abs(planes[-1][0]))
        lowest = _lowest(planes, rows, box)[1]
        if state.bound - lowest <= _CLOSE * max(1.0, abs(state.bound)):
            state.settled = True
            break
        if monotonic() > deadline or len(planes) >= _MOST_TURNS:
            break
    return state


def _asking(planes: list[tuple[float, Array]], rows: int) -> Iterator[Array]:
    """No price at all, then a high one on each row, then where the planes meet lowest."""
    yield np.zeros(rows)
    for row in range(rows):
        high = np.zeros(rows)
        high[row] = 100 * max(1.0, abs(planes[0][0]))
        yield high
    box = 1e4 * max(1.0, max(abs(value) for value, _ in planes))
    while True:
        yield _lowest(planes, rows, box)[0]


def _lowest(planes: list[tuple[float, Array]], rows: int, box: float) -> tuple[Array, float]:
    """Prices where the highest of the planes `value - prices @ over` is lowest, and that height."""
    values = np.array([value for value, _ in planes])
    overs = np.stack([over for _, over in planes])
    if rows == 1 and len(planes) > 1:
        return _crossing(values, overs[:, 0])
    solved = linprog(
        np.concatenate([np.zeros(rows), [1.0]]),
        A_ub=np.hstack([-overs, -np.ones((len(planes), 1))]),
        b_ub=-values,
        bounds=[(0, 1e4 * box)] * rows + [(None, None)],
    )
    if solved.x is None:
        return np.zeros(rows), -np.inf
    return solved.x[:rows], float(solved.fun)


def _crossing(values: Array, overs: Array) -> tuple[Array, float]:
    """With one price: the planes are lines, and the lowest point of their maximum is a corner."""
    low = 0.0
    while True:
        heights = values - low * overs
        top = int(np.lexsort((overs, -np.round(heights, 12)))[0])
        falling = overs[top] > _CLOSE
        if not falling:
            return np.array([low]), float(heights[top])
        flatter = np.flatnonzero(overs < overs[top] - 1e-15)
        if not len(flatter):
            return np.array([low]), -np.inf
        meets = (values[top] - values[flatter]) / (overs[top] - overs[flatter])
        low = float(np.min(meets[meets > low - 1e-15], initial=np.inf))
        if not np.isfinite(low):
            return np.array([0.0]), -np.inf


def possible(problem: Problem, order: Order, goal: Goal, prices: Array) -> list[Array]:
    """By variable and level, a bound on the worth of every allowed solution that has it."""
    weights = goal.worth - prices @ goal.uses
    return [found + float(prices.sum()) for found in bounds(order, weighted(problem, weights))]
