"""The whole problem as one mixed-integer programme, by HiGHS and CP-SAT, against prices first."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import numpy as np

from edgeprune.planning.dual import Goal
from edgeprune.planning.problem import Problem
from edgeprune.planning.programme import closed, columns
from edgeprune.planning.solve import Solver

SECONDS = 10.0
_UNIT = 1_000_000


def plain_answers(problem: Problem, limit_ms: float) -> dict[str, Any]:
    """Value (share of the importance), gap and seconds of each way, with ten seconds each."""
    full = problem.taken(problem.complete([0] * len(problem.variables)))
    worth, row = np.zeros(len(full)), np.zeros(len(full))
    worth[0], row[1] = 1 / full[0], 1 / limit_ms
    goal = Goal(worth, row[None])
    every = [np.arange(size) for size in problem.sizes]
    start = time.monotonic()
    ours = Solver(problem).solve(goal, SECONDS)
    found: dict[str, Any] = {
        "columns": columns(problem, every),
        "prices": [ours.value, ours.gap, round(time.monotonic() - start, 2)],
    }
    start = time.monotonic()
    answer = closed(problem, goal, every, -10.0, SECONDS)
    value = None if answer.levels is None else goal.value(problem.taken(answer.levels))
    gap = None if value is None else max(answer.bound - value, 0.0) / abs(answer.bound)
    found["highs"] = [value, gap, round(time.monotonic() - start, 2)]
    if importlib.util.find_spec("ortools") is not None:
        start = time.monotonic()
        value, bound, found["cp-sat status"] = cp_sat(problem, goal)
        gap = None if value is None or bound is None else max(bound - value, 0.0) / abs(bound)
        found["cp-sat"] = [value, gap, round(time.monotonic() - start, 2)]
    return found


def cp_sat(problem: Problem, goal: Goal) -> tuple[float | None, float | None, str]:
    """OR-tools' CP-SAT on two workers: one-hot levels, a literal for each pair of levels, numbers
    rounded to a millionth of the whole."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    hot = [[model.new_bool_var("") for _ in range(size)] for size in problem.sizes]
    for literals in hot:
        model.add_exactly_one(literals)
    for total in problem.sums:
        for (a, b), level in np.ndenumerate(total.level_of):
            model.add_bool_or(
                [
                    hot[total.first][a].negated(),
                    hot[total.second][b].negated(),
                    hot[total.result][int(level)],
                ]
            )
    worth: list[tuple[Any, int]] = []
    uses: list[tuple[Any, int]] = []
    constant = np.zeros(2)
    for factor in problem.factors:
        value = np.tensordot(goal.worth, factor.tables, axes=1)
        use = np.tensordot(goal.uses[0], factor.tables, axes=1)
        if not factor.scope:
            constant += float(value), float(use)
            continue
        literals = np.empty(value.shape, dtype=object)
        if len(factor.scope) == 1:
            literals[:] = hot[factor.scope[0]]
        else:
            for at in np.ndindex(*value.shape):
                literals[at] = model.new_bool_var("")
            for axis, v in enumerate(factor.scope):
                for level in range(problem.sizes[v]):
                    members = np.take(literals, level, axis=axis).ravel().tolist()
                    model.add(sum(members) == hot[v][level])
        for at in np.ndindex(*value.shape):
            worth.append((literals[at], round(float(value[at]) * _UNIT)))
            uses.append((literals[at], round(float(use[at]) * _UNIT)))
    model.add(sum(x * n for x, n in uses if n) <= round((1 - constant[1]) * _UNIT))
    model.maximize(sum(x * n for x, n in worth if n))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = SECONDS
    solver.parameters.num_workers = 2
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None, None, solver.status_name(status)
    levels = [
        next(i for i, x in enumerate(literals) if solver.boolean_value(x)) for literals in hot
    ]
    value = goal.value(problem.taken(problem.complete(levels)))
    bound = solver.best_objective_bound / _UNIT + constant[0]
    return value, bound, solver.status_name(status)
