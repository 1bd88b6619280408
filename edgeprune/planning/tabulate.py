"""Kernels and importance as the factors of a `Problem`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.planning.levels import Choices, Importance
from edgeprune.planning.limits import Blocks, Limits
from edgeprune.planning.macs import kernel_macs
from edgeprune.planning.memory import Moment, Tensor
from edgeprune.planning.problem import Factor, Problem, Variable, merged
from edgeprune.planning.sums import Sums
from edgeprune.planning.templates import joined, sizes_in, template
from edgeprune.records import CostModel, Extent, Kernel, KernelKey, Scores

Array = NDArray[np.float64]
QUANTITIES = ("importance", "latency", "bytes", "macs", "one")
"""In the scores' units, milliseconds, bytes and multiply-accumulates; and a constant."""
_LARGEST = 400_000


@dataclass(frozen=True)
class Tabulated:
    """A problem with what was simplified on the way: notes for whoever reads the plan."""

    problem: Problem
    notes: tuple[str, ...]
    tables: Tables

    def watching(self, moments: Sequence[Moment]) -> Tabulated:
        """The same with the memory of each of `moments` (bytes) as a quantity more."""
        if not moments:
            return self
        problem, more = self.problem, len(moments)
        base = len(problem.quantities)
        factors = [
            Factor(f.scope, np.concatenate([f.tables, np.zeros((more, *f.tables.shape[1:]))]))
            for f in problem.factors
        ]
        for i, moment in enumerate(moments):
            for tensor in moment:
                scope, sizes = self.tables.tensor(tensor)
                tables = np.zeros((base + more, *sizes.shape))
                tables[base + i] = sizes
                factors.append(Factor(scope, tables))
        names = (*problem.quantities, *(f"memory {i}" for i in range(more)))
        watched = replace(
            problem,
            quantities=names,
            sizes=self.tables.level_counts,  # a tensor may be the first to have some sum
            factors=merged(factors),
            sums=tuple(self.tables.sums.made),
        )
        return replace(self, problem=watched)


def tabulated(choices: Choices, scores: Scores, blocks: Blocks) -> Tabulated:
    """The problem of choosing widths and blocks. Importance is what is kept, blocks included."""
    cost = choices.cost.with_blocks(blocks.known) if blocks.known else choices.cost
    families = choices.variables()
    free = [
        b for b in blocks.known if b.name in blocks.importance and b.name not in blocks.dropped
        if not choices.rules.stays(b.name)
    ]  # fmt: skip
    present = tuple(Variable(b.key, (((b.key, 1),), ((b.key, 0),))) for b in free)
    gone = {b.key for b in blocks.known if b.name in blocks.dropped}
    table = Tables(cost, (*families, *present), gone, choices.limits)
    factors = table.kernels()
    factors += _importance(Importance(choices.groups, scores), families)
    for v, block in enumerate(free, len(families)):
        factors.append(_only(v, 0, np.array([blocks.importance[block.name], 0.0])))
    sums = tuple(table.sums.made)
    problem = Problem(QUANTITIES, table.variables, table.level_counts, merged(factors), sums)
    return Tabulated(problem, table.notes(), table)


@dataclass
class Tables:
    """Factors of kernels: what every combination of the levels that a kernel knows costs."""

    cost: CostModel
    variables: tuple[Variable, ...]
    gone: set[str]
    limits: Limits
    """Only what these limit is looked up (and latency, always): the rest stays zero."""
    sums: Sums = field(init=False)
    additive: int = 0
    """How many kernels knew too much at once and were added up over what they know."""
    _seen: dict[Any, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._full = {name: width for v in self.variables for name, width in v.widths[0]}
        self._home = {name: i for i, v in enumerate(self.variables) for name, _ in v.widths[0]}
        self.sums = Sums(self.variables, self._home)

    @property
    def level_counts(self) -> tuple[int, ...]:
        """How many levels every variable has, sums last."""
        return (*(v.size for v in self.variables), *(len(s) for s in self.sums.values))

    def kernels(self) -> list[Factor]:
        """All kernels, and what the whole has beside them."""
        live = [k for k in self.cost.kernels if not self.gone.intersection(k.blocks)]
        wide = sorted(
            {e for k in live for e in self._extents(k) if self.sums.is_wide(e)},
            key=lambda e: (len(e.terms), e.terms),
        )
        for extent in wide:
            self.sums.variable(extent)
        factors = [factor for kernel in live for factor in self._factors(kernel)]
        full = {**self._full, **dict.fromkeys(self.gone, 0)}
        total = sum((self._values(k.at(full)) for k in live), np.zeros(3))
        scale = self.cost.latency_ms(full) / total[0] if total[0] else 1e-3
        for i, factor in enumerate(factors):
            tables = factor.tables.copy()
            tables[1] *= scale
            factors[i] = Factor(factor.scope, tables)
        rest = np.array([0.0, 0.0, self.cost.size_bytes(full) - total[1], 0.0, 1.0])
        return [*factors, Factor((), rest)]

    def notes(self) -> tuple[str, ...]:
        """What was simplified."""
        found = []
        if self.sums.coarse:
            found.append("sums of concatenated widths were rounded while planning")
        if self.additive:
            found.append(
                f"{self.additive} kernel(s) read too many groups at once: their cost was taken as "
                "a sum over the groups"
            )
        return tuple(found)

    def _factors(self, kernel: Kernel) -> list[Factor]:
        """One kernel: a table over all that it knows, or where that is too much the sum of what
        each variable changes by itself."""
        extents = [e for e in dict.fromkeys(self._extents(kernel)) if self._known(e)]
        scope = tuple(sorted({v for e in extents for v in self._places(e)}))
        if np.prod([float(self._size(v)) for v in scope]) <= _LARGEST:
            return [self._over(kernel, extents, (scope, scope))]
        self.additive += 1
        whole = self._over(kernel, extents, (scope, ()))
        alone = [self._over(kernel, extents, (scope, (v,))) for v in scope]
        rest = Factor(whole.scope, whole.tables * (1 - len(scope)))
        return [rest, *alone]

    def _over(
        self, kernel: Kernel, extents: list[Extent], scopes: tuple[tuple[int, ...], tuple[int, ...]]
    ) -> Factor:
        """A kernel of the first scope over the variables of the second, others at full width."""
        scope, over = scopes
        here = tuple(slice(None) if v in over else slice(0, 1) for v in scope)
        shape = tuple(self._size(v) if v in over else 1 for v in scope)
        columns = [
            np.broadcast_to(_part(self._sizes(e, scope), here), shape).ravel().astype(np.int64)
            for e in extents
        ]
        rows = np.stack(columns, axis=1) if columns else np.zeros((1, 0), dtype=np.int64)
        unique, back = np.unique(rows, axis=0, return_inverse=True)
        values = self._looked_up(kernel, extents, unique)
        none = np.zeros((1, len(unique)))
        inside = np.concatenate([none, values.T, none])[:, back.ravel()]
        tables = inside.reshape(-1, *(self._size(v) for v in over))
        return Factor(*self._in_blocks(over, tables, kernel.blocks))

    def tensor(self, tensor: Tensor) -> tuple[tuple[int, ...], Array]:
        """A stored tensor's variables, and its bytes at all their levels."""
        known = [e for e in tensor.dims if self._known(e)]
        scope = tuple(sorted({v for e in known for v in self._places(e)}))
        sizes = np.ones((1, *(self._size(v) for v in scope)))
        for extent in tensor.dims:
            one = self._sizes(extent, scope) if extent in known else extent.at(self._full)
            sizes = sizes * one
        scope, tables = self._in_blocks(scope, 4 * sizes, tensor.blocks)
        return scope, tables[0]

    def _in_blocks(
        self, scope: tuple[int, ...], tables: Array, blocks: Sequence[str]
    ) -> tuple[tuple[int, ...], Array]:
        """Tables (quantities first) that are zero where a block of `blocks` is dropped."""
        for key in blocks:
            if key in self._home:
                tables = np.stack([tables, np.zeros_like(tables)], axis=-1)
                scope = (*scope, self._home[key])
        ordered = tuple(sorted(scope))
        return ordered, tables.transpose([0, *(1 + scope.index(v) for v in ordered)])

    def _looked_up(self, kernel: Kernel, extents: list[Extent], rows: NDArray[np.int64]) -> Array:
        """(rows, 3): microseconds, bytes and MACs where the extents have the sizes of a row."""
        gapped = template(kernel, extents, self._full)
        known = (gapped, rows.tobytes())
        if known not in self._seen:
            found = [self._values(gapped.key(row)) for row in rows.tolist()]
            self._seen[known] = np.array(found).reshape(-1, 3)
        return self._seen[known]

    def _extents(self, kernel: Kernel) -> list[Extent]:
        """The sizes that a kernel's cost depends on; of what is joined, only the total."""
        if kernel.op == "cat":
            total = joined(kernel)
            if self.sums.is_wide(total):
                return [total]
        return sizes_in(kernel)

    def _values(self, key: KernelKey) -> Array:
        if not key.shapes:
            return np.zeros(3)
        size = self.cost.kernel_bytes(key) if self.limits.size_bytes is not None else 0
        macs = kernel_macs(key) if self.limits.macs is not None else 0
        return np.array([self.cost.kernel_us(key), size, macs], dtype=float)

    def _known(self, extent: Extent) -> bool:
        return any(group in self._home for group in extent.groups)

    def _places(self, extent: Extent) -> tuple[int, ...]:
        """The variables that an extent depends on."""
        if self.sums.is_wide(extent):
            return (self.sums.variable(extent),)
        return tuple(sorted({self._home[group] for group in extent.groups}))

    def _size(self, v: int) -> int:
        count = len(self.variables)
        return self.variables[v].size if v < count else len(self.sums.value(v))

    def _sizes(self, extent: Extent, scope: Sequence[int]) -> Array:
        """An extent's size at all levels of `scope`, to be broadcast."""
        if self.sums.is_wide(extent):
            v = self.sums.variable(extent)
            total = _along(self.sums.value(v), v, scope)
        else:
            total = np.zeros((1,) * len(scope))
            for atom in self.sums.atoms(extent):
                total = total + _along(self.sums.contribution(atom), atom[0], scope)
            for inner, outer, times in extent.products:
                pair = [
                    _along(self.sums.contribution((self._home[g], ((g, 1),))), self._home[g], scope)
                    for g in (inner, outer)
                ]
                total = total + float(times) * pair[0] * pair[1]
        sizes: Array = extent.fixed + np.floor(total + 1e-6)
        return sizes


def _part(sizes: Array, here: tuple[slice, ...]) -> Array:
    """A piece of a table that may still have length 1 where it does not vary."""
    return sizes[tuple(s if n > 1 else slice(None) for s, n in zip(here, sizes.shape, strict=True))]


def _along(values: Array, v: int, scope: Sequence[int]) -> Array:
    return values.reshape([len(values) if u == v else 1 for u in scope])


def _only(v: int, quantity: int, values: Array) -> Factor:
    """A factor of one variable and one quantity."""
    tables = np.zeros((len(QUANTITIES), len(values)))
    tables[quantity] = values
    return Factor((v,), tables)


def _importance(importance: Importance, families: tuple[Variable, ...]) -> list[Factor]:
    """What families keep; channels inside heads share a table with their heads."""
    curves, heads = importance.by_group(), importance.heads_of()
    home = {name: i for i, family in enumerate(families) for name, _ in family.widths[0]}
    parts = {group.name: group.parts for group in importance.groups.groups}
    found = []
    for v, family in enumerate(families):
        for name, _ in family.widths[0]:
            curve = curves[name]
            widths = [dict(level)[name] for level in family.widths]
            kept = np.array([float(curve[w // parts[name]]) for w in widths])
            above = heads.get(name)
            if above is None:
                found.append(_only(v, 0, kept))
                continue
            u = home[above.name]
            alive = np.array([dict(level)[above.name] / above.size for level in families[u].widths])
            if u == v:
                found.append(_only(v, 0, curve[-1] - (curve[-1] - kept) * alive))
                continue
            table = curve[-1] - np.outer(curve[-1] - kept, alive)
            scope = (v, u) if v < u else (u, v)
            tables = np.zeros((len(QUANTITIES), *(families[s].size for s in scope)))
            tables[0] = table if v < u else table.T
            found.append(Factor(scope, tables))
    return found
