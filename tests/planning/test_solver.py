"""The solver against brute force: random problems, with sums, several limits, and none at all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.planning.dual import Goal, possible, price
from edgeprune.planning.elimination import best, bounds, order, scopes_of, weighted
from edgeprune.planning.problem import Factor, Problem, Sum, Variable, merged
from edgeprune.planning.programme import closed
from edgeprune.planning.solve import OutOfReach, Solver

QUANTITIES = ("importance", "cost", "bytes")


def drawn(seed: int, sums: bool) -> Problem:
    """A few variables with random tables over one, two and three of them, and running sums."""
    random = np.random.default_rng(seed)
    count = int(random.integers(2, 6))
    sizes = [int(n) for n in random.integers(1, 5, size=count)]
    variables = tuple(
        Variable(f"v{i}", tuple(((f"v{i}", n - level),) for level in range(n)))
        for i, n in enumerate(sizes)
    )
    ties = []
    if sums and count > 2:
        values = np.arange(sizes[0])[::-1]
        first = 0
        for second in range(1, min(count, 4)):
            both = values[:, None] + np.arange(sizes[second])[::-1][None, :]
            values, level_of = np.unique(-both, return_inverse=True)
            values = -values
            result = count + len(ties)
            ties.append(Sum(result, first, second, level_of.reshape(both.shape)))
            sizes.append(len(values))
            first = result
    scopes = [(v,) for v in range(count)]
    for _ in range(count):
        width = int(random.integers(2, 4))
        chosen = random.choice(len(sizes), size=min(width, len(sizes)), replace=False)
        scopes.append(tuple(sorted(int(v) for v in chosen)))
    factors = [Factor((), random.random(3))]
    for scope in scopes:
        shape = tuple(sizes[v] for v in scope)
        tables = random.random((3, *shape)) ** 2
        tables[0] *= 1.0 if len(scope) == 1 else 0.2
        factors.append(Factor(scope, tables))
    return Problem(QUANTITIES, variables, tuple(sizes), merged(factors), tuple(ties))


def every(problem: Problem) -> list[tuple[tuple[int, ...], np.ndarray]]:
    free = [range(v.size) for v in problem.variables]
    solutions = [problem.complete(levels) for levels in itertools.product(*free)]
    return [(levels, problem.taken(levels)) for levels in solutions]


def goal_of(problem: Problem, share: float, rows: int) -> Goal:
    """Importance within a share of the way from the least to the most of each limited quantity."""
    taken = np.stack([t for _, t in every(problem)])
    uses = []
    for q in range(1, 1 + rows):
        limit = taken[:, q].min() + share * (taken[:, q].max() - taken[:, q].min())
        row = np.zeros(3)
        row[q] = 1 / max(limit, 1e-9)
        uses.append(row)
    return Goal(np.array([1.0, 0, 0]), np.stack(uses) if uses else np.zeros((0, 3)))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    share=st.floats(0.02, 1.0),
    rows=st.integers(0, 2),
    sums=st.booleans(),
)
def test_a_gap_of_nothing_is_the_best_there_is(
    seed: int, share: float, rows: int, sums: bool
) -> None:
    problem = drawn(seed, sums)
    goal = goal_of(problem, share, rows)
    allowed = [t for _, t in every(problem) if goal.allows(t)]
    if not allowed:
        with pytest.raises(OutOfReach):
            Solver(problem).solve(goal)
        return
    top = max(goal.value(t) for t in allowed)
    found = Solver(problem).solve(goal)
    assert goal.allows(found.taken)
    assert np.allclose(found.taken, problem.taken(found.levels))
    assert found.value <= top + 1e-9
    assert found.bound >= top - 2e-6 * top
    assert found.gap == 0
    assert found.value == pytest.approx(top, rel=2e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), sums=st.booleans(), largest=st.sampled_from([8, 10_000]))
def test_elimination_finds_the_best_or_a_bound_on_it(seed: int, sums: bool, largest: int) -> None:
    problem = drawn(seed, sums)
    weights = np.array([1.0, -0.7, 0.2])
    made = order(problem.sizes, scopes_of(problem), largest)
    tables = weighted(problem, weights)
    answer = best(made, tables)
    values = {levels: float(weights @ taken) for levels, taken in every(problem)}
    top = max(values.values())
    assert answer.bound >= top - 1e-9
    if made.exact:
        assert answer.bound == pytest.approx(top)
        assert values[problem.complete(answer.levels)] == pytest.approx(top)
    margins = bounds(made, tables)
    for v, margin in enumerate(margins):
        for level in range(problem.sizes[v]):
            having = [value for levels, value in values.items() if levels[v] == level]
            if having:
                assert margin[level] >= max(having) - 1e-9
                if made.exact:
                    assert margin[level] == pytest.approx(max(having))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.2, 0.9), rows=st.integers(1, 2))
def test_no_level_of_the_best_is_priced_out(seed: int, share: float, rows: int) -> None:
    problem = drawn(seed, sums=True)
    goal = goal_of(problem, share, rows)
    allowed = [(goal.value(t), levels) for levels, t in every(problem) if goal.allows(t)]
    if not allowed:
        return
    value, levels = max(allowed)
    made = order(problem.sizes, scopes_of(problem))
    prices = price(problem, made, goal, float("inf"))
    assert prices.bound >= value - 1e-9
    for v, most in enumerate(possible(problem, made, goal, prices.prices)):
        assert most[levels[v]] >= value - 1e-7


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.2, 0.9), sums=st.booleans())
def test_the_programme_alone_finds_the_best(seed: int, share: float, sums: bool) -> None:
    problem = drawn(seed, sums)
    goal = goal_of(problem, share, 1)
    allowed = [goal.value(t) for _, t in every(problem) if goal.allows(t)]
    left = [np.arange(size) for size in problem.sizes]
    answer = closed(problem, goal, left, -1e9, 30.0)
    assert (answer.levels is not None) == bool(allowed)
    if answer.levels is not None:
        taken = problem.taken(answer.levels)
        assert goal.value(taken) == pytest.approx(max(allowed), rel=1e-5)
        assert answer.bound == pytest.approx(max(allowed), rel=1e-5)


def test_a_solver_with_no_time_still_answers_within_its_bound() -> None:
    problem = drawn(5, sums=True)
    goal = goal_of(problem, 0.4, 1)
    top = max(goal.value(t) for _, t in every(problem) if goal.allows(t))
    found = Solver(problem).solve(goal, time_limit=1e-6)
    assert goal.allows(found.taken)
    assert found.value <= top + 1e-9 <= found.bound + 2e-9


def test_the_same_problem_has_the_same_answer() -> None:
    problem = drawn(11, sums=True)
    goal = goal_of(problem, 0.5, 1)
    answers = {Solver(problem).solve(goal).levels for _ in range(3)}
    assert len(answers) == 1


def test_solutions_of_others_are_starting_points() -> None:
    problem = drawn(7, sums=False)
    goal = goal_of(problem, 0.5, 1)
    given_levels = max(((goal.value(t), levels) for levels, t in every(problem) if goal.allows(t)))[
        1
    ]
    found = Solver(problem, (given_levels,)).solve(goal, time_limit=1e-6)
    assert found.levels == given_levels
