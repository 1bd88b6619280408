"""Every tensor's sizes as functions of widths."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from torch import Tensor

from edgeprune.channels.analysis import Analysis, Ids
from edgeprune.channels.core import Value
from edgeprune.records import Extent


@dataclass(frozen=True)
class Where:
    """Where each class ended up: `group[class]` is the number of its group, or -1."""

    analysis: Analysis
    group: Ids
    names: list[str]
    sizes: list[int]
    known: dict[tuple[int, ...], Extent] = field(default_factory=dict)
    """Extents by the memory that their ids lie in: many values carry the same ids."""


def extents_of(value: Value, where: Where) -> tuple[Extent, ...]:
    """The dimensions of a value."""
    return tuple(_extent(value, dim, where) for dim in range(len(value.shape)))


def _extent(value: Value, dim: int, where: Where) -> Extent:
    for label in value.varying(dim):
        split = label.split
        if split is None:
            found = _counted(label.along(dim), where, owned=True)
        elif split.axis == dim:
            found = _count(split.parts[0].ids(), where, owned=False)
        else:
            at = tuple(slice(None) if d == dim else 0 for d in range(len(value.shape)))
            # made anew for every value: not among what is known
            found = _count(split.owners[split.which[at]], where, owned=False)
        if found.terms or found.products:
            return found
    return Extent(value.shape[dim])


def _counted(ids: Tensor, where: Where, owned: bool) -> Extent:
    """The extent of a vector of ids; `owned` says whether whole parts of it may go."""
    key = (ids.data_ptr(), ids.numel(), ids.stride(0), owned)
    if key not in where.known:
        where.known[key] = _count(ids, where, owned)
    return where.known[key]


def _count(ids: Tensor, where: Where, owned: bool) -> Extent:
    analysis = where.analysis
    index = ids.numpy()
    base = len(where.names) + 1
    both = (where.group[analysis.classes[index]] + 1) * base
    if owned:
        both += where.group[analysis.owners[index]] + 1
    keys, times = np.unique(both, return_counts=True)
    fixed = 0
    terms: dict[str, int | Fraction] = {}
    products: dict[tuple[str, str], int | Fraction] = {}
    for pair, n in zip(keys.tolist(), times.tolist(), strict=True):
        g, h = pair // base - 1, pair % base - 1
        if g < 0 and h < 0:
            fixed += n
        elif g >= 0 and h >= 0:
            key = (where.names[g], where.names[h])
            products[key] = whole(Fraction(n, where.sizes[g] * where.sizes[h]))
        else:
            name, size = where.names[max(g, h)], where.sizes[max(g, h)]
            terms[name] = whole(Fraction(n, size) + terms.get(name, 0))
    ordered = tuple((g, h, n) for (g, h), n in sorted(products.items()))
    return Extent(fixed, tuple(sorted(terms.items())), ordered)


def whole(number: Fraction) -> int | Fraction:
    """An int where the fraction is one."""
    return int(number) if number.denominator == 1 else number
