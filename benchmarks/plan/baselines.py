"""How others choose widths, on the same groups, scores and costs, to hold the planner against.

Each returns levels of a tabulated problem (`edgeprune.planning.tabulate`) whose predicted latency
is within a limit, by a rule published elsewhere; only the rule is theirs, importance stands in for
the accuracy that they measure or estimate.
"""

from __future__ import annotations

import numpy as np

from edgeprune.planning.dual import Goal
from edgeprune.planning.polish import Neighbourhood
from edgeprune.planning.problem import Factor, Levels, Problem, merged
from edgeprune.planning.solve import OutOfReach, Solver
from edgeprune.records import CostModel, Extent

IMPORTANCE, LATENCY = 0, 1


def uniform(problem: Problem, limit_ms: float) -> Levels | None:
    """The largest share, the same for every family, whose nearest levels fit."""
    for share in np.linspace(1.0, 0.0, 401):
        free = []
        for variable in problem.variables:
            full = sum(width for _, width in variable.widths[0])
            kept = [sum(width for _, width in level) / full for level in variable.widths]
            free.append(int(np.argmin(np.abs(np.array(kept) - share))))
        levels = problem.complete(free)
        if problem.taken(levels)[LATENCY] <= limit_ms:
            return levels
    return None


def netadapt(problem: Problem, limit_ms: float, step: float = 0.02) -> Levels | None:
    """NetAdapt (Yang et al. 2018, arXiv 1804.03230, algorithm 1): in every iteration the latency
    must fall by a step; each layer by itself offers the most channels that make it fall so far, and
    the offer that keeps the most importance is taken."""
    local = Neighbourhood(problem, (0,) * len(problem.variables))
    full = local.taken[LATENCY]
    while local.taken[LATENCY] > limit_ms:
        goal = max(limit_ms, local.taken[LATENCY] - step * full)
        at, deltas = local.moves()
        after = local.taken[LATENCY] + deltas[:, LATENCY]
        enough = np.flatnonzero(after <= goal)
        if not len(enough):  # no layer alone can: the largest step that one can
            enough = np.flatnonzero(after < local.taken[LATENCY] - 1e-12)
            if not len(enough):
                return None
            enough = enough[[int(np.argmin(after[enough]))]]
        pick = enough[int(np.argmax(deltas[enough, IMPORTANCE]))]
        local.make(((int(at[pick, 0]), int(at[pick, 1])),))
    return local.levels


def one_sided(problem: Problem, limit_ms: float, cost: CostModel) -> Levels | None:
    """HALP (Shen et al. 2022, arXiv 2110.10811): a knapsack in which a layer's latency depends on
    its own output channels only, its inputs being as they are; the layers before it are not
    credited for what they save it.

    The knapsack is solved exactly; its capacity is raised until the plan's true predicted latency
    uses the limit.
    """
    full = problem.complete([0] * len(problem.variables))
    taken = problem.taken(full)
    charged = _charged(problem, cost)
    scale = taken[LATENCY] / sum(cost.kernel_us(k.at(problem.widths(full))) for k in cost.kernels)
    factors = []
    constant = taken.copy()
    for v, variable in enumerate(problem.variables):
        tables = np.zeros((len(problem.quantities), variable.size))
        for f in problem.touching[v]:
            tables[IMPORTANCE] += problem.factors[f].along(v, full)[IMPORTANCE]
        tables[LATENCY] = scale * charged[v]
        constant[[IMPORTANCE, LATENCY]] -= tables[[IMPORTANCE, LATENCY], 0]
        factors.append(Factor((v,), tables))
    sizes = tuple(v.size for v in problem.variables)
    alone = Problem(
        problem.quantities,
        problem.variables,
        sizes,
        merged([*factors, Factor((), constant)]),
    )
    worth = np.zeros(len(problem.quantities))
    worth[IMPORTANCE] = 1 / max(problem.taken(full)[IMPORTANCE], 1e-30)
    whole = float(alone.taken((0,) * len(sizes))[LATENCY])
    best: Levels | None = None
    low, high = 0.0, 1.0
    for _ in range(16):
        share = (low + high) / 2
        row = np.zeros(len(problem.quantities))
        row[LATENCY] = 1 / (share * whole)
        try:
            found = Solver(alone).solve(Goal(worth, row[None]), 1.0)
        except OutOfReach:  # this capacity holds nothing
            low = share
            continue
        levels = problem.complete(found.levels)
        if problem.taken(levels)[LATENCY] <= limit_ms:
            best, low = levels, share
        else:
            high = share
    return best


def _charged(problem: Problem, cost: CostModel) -> list[np.ndarray]:
    """By variable and level, the microseconds of the kernels whose outputs it is, inputs full."""
    widths = problem.widths((0,) * len(problem.variables))
    families = enumerate(problem.variables)
    home = {name: v for v, variable in families for name, _ in variable.widths[0]}
    found = [np.zeros(variable.size) for variable in problem.variables]
    for kernel in cost.kernels:
        made = dict(kernel.attrs).get("out_channels")
        names = made.groups if isinstance(made, Extent) else frozenset()
        if made is None:
            names = kernel.groups
        for v in sorted({home[name] for name in names if name in home}):
            for level, changed in enumerate(problem.variables[v].widths):
                found[v][level] += cost.kernel_us(kernel.at({**widths, **dict(changed)}))
    return found
