"""Widths that are read together: running sums as variables of their own.

A kernel that reads a concatenation knows only how many channels there are in all. With the sum as a
variable, built up two by two as networks build it (a dense block adds one layer after the other), a
kernel knows two variables instead of twenty-five.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from edgeprune.planning.problem import Sum, Variable
from edgeprune.records import Extent

Array = NDArray[np.float64]
MOST_STATES = 128
_WIDE = 3
"""So many families in one dimension make a sum."""

Atom = tuple[int, tuple[tuple[str, int | Fraction], ...]]
"""A variable, and the terms of an extent that it decides."""


@dataclass
class Sums:
    """The sums made so far, over the free variables of a problem."""

    variables: tuple[Variable, ...]
    home: Mapping[str, int]
    """By group, its family's variable."""
    values: list[Array] = field(default_factory=list)
    """By sum, its value at each level, the largest first."""
    made: list[Sum] = field(default_factory=list)
    coarse: bool = False
    """Whether a sum had more values than are told apart."""
    _known: dict[frozenset[Atom], int] = field(default_factory=dict)

    def atoms(self, extent: Extent) -> tuple[Atom, ...]:
        """The variables that a sum of widths depends on, each with its terms."""
        found: dict[int, list[tuple[str, int | Fraction]]] = {}
        for group, times in extent.terms:
            if group in self.home:
                found.setdefault(self.home[group], []).append((group, times))
        return tuple((v, tuple(terms)) for v, terms in sorted(found.items()))

    def is_wide(self, extent: Extent) -> bool:
        """Whether an extent is better a variable of its own."""
        return not extent.products and len(self.atoms(extent)) >= _WIDE

    def variable(self, extent: Extent) -> int:
        """The variable that is a wide extent's sum."""
        atoms = self.atoms(extent)
        key = frozenset(atoms)
        if key not in self._known:
            inside = [known for known in self._known if known < key]
            start = max(inside, key=lambda known: (len(known), sorted(known)), default=None)
            rest = [atom for atom in atoms if start is None or atom not in start]
            so_far = start if start is not None else frozenset(rest[:1])
            for atom in rest if start is not None else rest[1:]:
                so_far = self._with(so_far, atom)
        return self._known[key]

    def value(self, v: int) -> Array:
        """The values of a sum variable by level."""
        return self.values[v - len(self.variables)]

    def _with(self, sum_: frozenset[Atom], atom: Atom) -> frozenset[Atom]:
        joined = sum_ | {atom}
        if joined not in self._known:
            first, left = self._operand(sum_)
            second, right = atom[0], self.contribution(atom)
            both = np.round(left[:, None] + right[None, :], 6)
            values = np.unique(both)[::-1]
            if len(values) > MOST_STATES:
                self.coarse = True
                values = np.linspace(values[0], values[-1], MOST_STATES)
            nearest = np.abs(both[:, :, None] - values).argmin(axis=2)
            result = len(self.variables) + len(self.made)
            self.made.append(Sum(result, first, second, nearest))
            self.values.append(values)
            self._known[joined] = result
        return joined

    def _operand(self, sum_: frozenset[Atom]) -> tuple[int, Array]:
        if len(sum_) == 1:
            (atom,) = sum_
            return atom[0], self.contribution(atom)
        v = self._known[sum_]
        return v, self.value(v)

    def contribution(self, atom: Atom) -> Array:
        """What an atom adds to the sum, by level of its variable."""
        v, terms = atom
        return np.array(
            [
                float(sum(times * dict(widths)[group] for group, times in terms))
                for widths in self.variables[v].widths
            ]
        )
