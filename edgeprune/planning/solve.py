"""The best solution within limits, with a proof of how good it is.

First prices: elimination gives a bound and solutions near the limits (dual.py), small changes make
the best of them better (polish.py). Then every level whose bound lies below what is found is out;
what is left is usually a few levels of some variables, which a mixed-integer solver closes
(programme.py). Whoever needs less than all of that stops early: the gap says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from edgeprune.planning.dual import Goal, Prices, cheapest, possible, price
from edgeprune.planning.elimination import Array, Order, order, scopes_of
from edgeprune.planning.polish import Found, polished
from edgeprune.planning.problem import Levels, Problem
from edgeprune.planning.programme import closed, columns

TIME_LIMIT = 10.0
ENOUGH = 1e-6
"""A relative gap below which nothing is left to win."""
_STARTS = 6
_MOST_COLUMNS = 40_000
_SMALL = 1e-3
_PATIENCE = 3.0
"""A gap below which no more than so many seconds are spent on closing it."""
_POLISHING = 0.4  # of the time


@dataclass(frozen=True)
class Solution:
    """The best found: `bound` is what no solution within the limits is worth more than.

    `how` says what closed the gap: "prices", "prices and programme". `exact` is False where tables
    were too large, and the bound comes from copies of variables.
    """

    levels: Levels
    taken: Array
    value: float
    bound: float
    seconds: float
    how: str
    exact: bool = True

    @property
    def gap(self) -> float:
        """By how much, of the bound, the solution may fall short of the best: 0 is optimal."""
        missing = max(self.bound - self.value, 0.0)
        scale = max(abs(self.bound), 1e-30)
        return 0.0 if missing <= ENOUGH * scale else missing / scale


class OutOfReach(Exception):
    """No solution stays within the limits; `proven` unless only none was found."""

    def __init__(self, proven: bool) -> None:
        super().__init__("no solution stays within the limits")
        self.proven = proven


@dataclass(frozen=True)
class Solver:
    """A problem ready to be solved for one goal after the other."""

    problem: Problem
    starts: tuple[Levels, ...] = ()
    """Solutions that somebody else found: they are improved, and no others."""

    @cached_property
    def order(self) -> Order:
        """In which order variables are eliminated."""
        return order(self.problem.sizes, scopes_of(self.problem))

    def least(self, weights: Array) -> float:
        """The least that `weights @ taken` can be (a bound on it, where not exact)."""
        return cheapest(self.problem, self.order, weights)[0]

    def solve(self, goal: Goal, time_limit: float = TIME_LIMIT) -> Solution:
        """The best solution found for `goal`; raises OutOfReach where none fits."""
        start = monotonic()
        deadline = start + time_limit
        order = self.order
        if not len(goal.uses):
            goal = replace(goal, uses=np.zeros((1, len(goal.worth))))
        prices = price(self.problem, order, goal, start + _POLISHING * time_limit)
        until = max(start + _POLISHING * time_limit, monotonic() + 0.05 * time_limit)
        top = self._found(goal, prices, until)
        if top is None:
            top = self._forced(goal, deadline)
        how, bound = "prices", max(prices.bound, top.value)
        if bound - top.value > ENOUGH * abs(bound):
            top, bound, how = self._closed(goal, (prices, top, bound), deadline)
        seconds = monotonic() - start
        return Solution(top.levels, top.taken, top.value, bound, seconds, how, order.exact)

    def _found(self, goal: Goal, prices: Prices, until: float) -> Found | None:
        """The best within the limits of what the prices met, made better by small changes."""

        def excess(taken: Array) -> float:
            return float(np.maximum(goal.uses @ taken - 1, 0).sum())

        given = {levels: self.problem.taken(levels) for levels in self._completed()}
        known = list({**prices.found, **given}.items())
        inside = [item for item in known if goal.allows(item[1])]
        outside = [item for item in known if not goal.allows(item[1])]
        inside.sort(key=lambda item: (-goal.value(item[1]), item[0]))
        outside.sort(key=lambda item: (excess(item[1]), item[0]))
        starts = [*given] or [levels for levels, _ in (*inside[:_STARTS], *outside[:_STARTS])]
        top = polished(self.problem, goal, starts, until)
        if inside:  # even where there was no time to climb
            levels, taken = inside[0]
            if top is None or top.value < goal.value(taken):
                return Found(levels, taken, goal.value(taken))
        return top

    def _completed(self) -> Iterable[Levels]:
        return (self.problem.complete(start) for start in self.starts)

    def _forced(self, goal: Goal, deadline: float) -> Found:
        """Any allowed solution at all; raises OutOfReach."""
        still = Goal(np.zeros_like(goal.worth), goal.uses)
        tried = price(self.problem, self.order, still, deadline)
        if tried.bound < -1e-9:
            raise OutOfReach(proven=True)
        found = self._found(goal, tried, deadline)
        if found is not None:
            return found
        every = [np.arange(size) for size in self.problem.sizes]
        if columns(self.problem, every) > _MOST_COLUMNS:
            raise OutOfReach(proven=False)
        answer = closed(self.problem, goal, every, -np.inf, deadline - monotonic())
        if answer.levels is None:
            raise OutOfReach(proven=answer.bound == -np.inf)
        taken = self.problem.taken(answer.levels)
        return Found(answer.levels, taken, goal.value(taken))

    def _closed(
        self, goal: Goal, so_far: tuple[Prices, Found, float], deadline: float
    ) -> tuple[Found, float, str]:
        """What is found and its bound after the solver looked at all levels that can be better."""
        prices, top, bound = so_far
        # just below what is found: a programme that its solution solves, too, is never infeasible
        least = top.value - 0.1 * ENOUGH * abs(bound)
        most = possible(self.problem, self.order, goal, prices.prices)
        left: list[NDArray[np.int64]] = [np.flatnonzero(m >= least) for m in most]
        if any(not len(levels) for levels in left):  # a bound below what is found: rounding
            return top, top.value, "prices"
        if columns(self.problem, left) > _MOST_COLUMNS or monotonic() > deadline - 0.05:
            return top, bound, "prices"
        seconds = deadline - monotonic()
        if bound - top.value < _SMALL * abs(bound):
            seconds = min(seconds, _PATIENCE)
        answer = closed(self.problem, goal, left, least, seconds)
        if answer.levels is not None:
            taken = self.problem.taken(answer.levels)
            if goal.allows(taken) and goal.value(taken) > top.value:
                top = Found(answer.levels, taken, goal.value(taken))
        bound = min(bound, max(answer.bound, top.value))
        return top, bound, "prices and programme"
