"""The problem as a mixed-integer linear programme, for HiGHS (in SciPy) to close what is left open.

One-hot levels; every table of several variables has a share for each combination of their levels,
whose margins are those of the one-hots (the local marginal polytope: Wainwright and Jordan 2008,
"Graphical models, exponential families, and variational inference", section 4). That is the
tightest way to say what a table adds without looking at several tables together.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, vstack

from edgeprune.planning.dual import Goal
from edgeprune.planning.elimination import Array, scopes_of
from edgeprune.planning.problem import Levels, Problem

_FAILED = 4
_MOST_BARRED = 32


@dataclass(frozen=True)
class Answer:
    """What the solver says: a solution if it has one, and a bound on what any is worth."""

    levels: Levels | None
    bound: float


@dataclass(frozen=True)
class _Matrices:
    worth: Array
    uses: Array
    margins: coo_array
    margin_values: Array
    whole: NDArray[np.bool_]
    starts: tuple[int, ...]
    barred: tuple[Array, ...] = ()
    """Rows that are 1 at the levels of a solution that may not be."""


def columns(problem: Problem, left: Sequence[NDArray[np.int64]]) -> int:
    """How many unknowns the programme has when variable v has the levels `left[v]`."""
    one_hot = sum(len(levels) for levels in left)
    shares = sum(
        int(np.prod([float(len(left[v])) for v in scope]))
        for scope in scopes_of(problem)
        if len(scope) > 1
    )
    return one_hot + shares


def closed(
    problem: Problem,
    goal: Goal,
    left: Sequence[NDArray[np.int64]],
    at_least: float,
    seconds: float,
) -> Answer:
    """The best solution among the levels `left` that is worth more than `at_least`.

    Where the solver proves that there is none, the bound is `at_least` and there is no solution.
    The solver takes what exceeds a limit by a millionth for allowed: such solutions are barred,
    one by one, and it is asked again.
    """
    made = _matrices(problem, goal, left)
    deadline = monotonic() + seconds
    answer = _answer(problem, made, left, (at_least, seconds))
    while answer.levels is not None and not goal.allows(problem.taken(answer.levels)):
        if len(made.barred) == _MOST_BARRED or monotonic() > deadline:
            return replace(answer, levels=None)
        made = _barring(problem, made, left, answer.levels)
        answer = _answer(problem, made, left, (at_least, deadline - monotonic()))
    return answer


def _answer(
    problem: Problem,
    made: _Matrices,
    left: Sequence[NDArray[np.int64]],
    wanted: tuple[float, float],
) -> Answer:
    at_least, seconds = wanted
    solved = _run(made, at_least, seconds)
    if solved.status == _FAILED:  # numbers too close to each other: once more, by another way
        solved = _run(made, None, seconds)
    if solved.status == 2:  # infeasible: nothing is worth more
        return Answer(None, at_least)
    bound = np.inf if solved.mip_dual_bound is None else -float(solved.mip_dual_bound)
    if solved.x is None:
        return Answer(None, bound)
    chosen = [
        int(levels[int(np.argmax(solved.x[start : start + len(levels)]))])
        for start, levels in zip(made.starts, left, strict=True)
    ]
    return Answer(problem.complete(chosen), bound)


def _barring(
    problem: Problem, made: _Matrices, left: Sequence[NDArray[np.int64]], levels: Levels
) -> _Matrices:
    """The same without one solution: not all of its levels at once."""
    row = np.zeros(made.worth.shape[0])
    for v in range(len(problem.variables)):
        row[made.starts[v] + int(np.searchsorted(left[v], levels[v]))] = 1.0
    return replace(made, barred=(*made.barred, row))


def _run(made: _Matrices, at_least: float | None, seconds: float) -> Any:
    """HiGHS's answer; without `at_least` without presolve either."""
    constraints = [
        LinearConstraint(made.margins, made.margin_values, made.margin_values),
        LinearConstraint(made.uses, -np.inf, 1.0),
    ]
    constraints += [LinearConstraint(row[None], -np.inf, row.sum() - 1) for row in made.barred]
    if at_least is not None:
        constraints.append(LinearConstraint(made.worth[None], at_least, np.inf))
    with _unheard():
        return milp(
            -made.worth,
            constraints=constraints,
            integrality=made.whole.astype(int),
            bounds=Bounds(0, 1),
            options={
                "time_limit": max(seconds, 0.05),
                "mip_rel_gap": 1e-9,
                "presolve": at_least is not None,
            },
        )


@contextmanager
def _unheard() -> Iterator[None]:
    """Keeps what the solver prints from the process's own output: SciPy 1.17's HiGHS writes remarks
    of its own ("transformNewIntegerFeasibleSolution") to file descriptor 1 with display off."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        if os.name == "posix":
            ctypes.CDLL(None).fflush(None)  # what C still holds in its buffers
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _matrices(problem: Problem, goal: Goal, left: Sequence[NDArray[np.int64]]) -> _Matrices:
    starts = np.concatenate([[0], np.cumsum([len(levels) for levels in left])])
    count = int(starts[-1])
    rows: list[coo_array] = []
    values: list[Array] = []
    worth, uses = [np.zeros(count)], [np.zeros((len(goal.uses), count))]
    hot = np.arange(count)
    owner = np.repeat(np.arange(len(left)), [len(levels) for levels in left])
    rows.append(coo_array((np.ones(count), (owner, hot)), shape=(len(left), count)))
    values.append(np.ones(len(left)))
    tables = [factor.tables for factor in problem.factors]
    tables += [tie[None] for tie in problem.ties]
    for scope, table in zip(scopes_of(problem), tables, strict=True):
        if not scope:
            continue
        index = np.ix_(np.arange(len(table)), *(left[v] for v in scope))
        part = table[index]
        shape = part.shape[1:]
        flat = part.reshape(len(part), -1)
        if len(scope) == 1:
            here = slice(int(starts[scope[0]]), int(starts[scope[0]]) + shape[0])
            worth[0][here] += goal.worth @ flat
            uses[0][:, here] += goal.uses @ flat
            continue
        possible = np.flatnonzero(np.isfinite(flat[0]))
        first, count = count, count + len(possible)
        is_tie = len(flat) == 1  # combinations of a sum: nothing is taken, few are possible
        rates = np.zeros((len(goal.worth), len(possible))) if is_tie else flat[:, possible]
        worth.append(goal.worth @ rates)
        uses.append(goal.uses @ rates)
        places = np.unravel_index(possible, shape)
        for v, place, size in zip(scope, places, shape, strict=True):
            share = coo_array(
                (np.ones(len(possible)), (place, first + np.arange(len(possible)))),
                shape=(size, count),
            )
            one = coo_array(
                (-np.ones(size), (np.arange(size), int(starts[v]) + np.arange(size))),
                shape=(size, count),
            )
            rows.append(coo_array(share + one))
            values.append(np.zeros(size))
    constant = np.zeros(len(problem.quantities))
    for factor in problem.factors:
        if not factor.scope:
            constant += factor.tables
    total_uses = np.concatenate(uses, axis=1)
    # constants are spread over the first variable, one level of which is always chosen
    worth_all = np.concatenate(worth)
    worth_all[: len(left[0])] += float(goal.worth @ constant)
    total_uses[:, : len(left[0])] += (goal.uses @ constant)[:, None]
    wide = [coo_array((r.data, r.coords), shape=(r.shape[0], count)) for r in rows]
    whole = np.zeros(count, dtype=bool)
    whole[: int(starts[len(problem.variables)])] = True  # sums follow from the rest
    return _Matrices(
        worth_all,
        total_uses,
        vstack(wide),
        np.concatenate(values),
        whole,
        tuple(int(s) for s in starts[:-1]),
    )
