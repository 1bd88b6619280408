"""Kernels with gaps where sizes are to be chosen, quick to fill in many thousand times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from edgeprune.records import Extent, Kernel, KernelKey


@dataclass(frozen=True)
class Gap:
    """The place of size number `number`."""

    number: int


@dataclass(frozen=True)
class Template:
    """A kernel whose shapes and attributes may hold gaps.

    With `axis`, it is a concatenation along it: `shapes` are the full network's, and the one gap is
    the total length, of which each input has the share that it has in the full network.
    """

    op: str
    shapes: tuple[tuple[Any, ...], ...]
    attrs: tuple[tuple[str, Any], ...]
    axis: int | None = None

    def key(self, sizes: Sequence[int]) -> KernelKey:
        """The kernel with all its gaps filled."""
        if self.axis is not None:
            return KernelKey(self.op, self._shared(sizes[0], self.axis), self.attrs)
        return KernelKey(
            self.op,
            tuple(
                tuple(sizes[e.number] if type(e) is Gap else e for e in shape)
                for shape in self.shapes
            ),
            tuple((n, sizes[v.number] if type(v) is Gap else v) for n, v in self.attrs),
        )

    def _shared(self, total: int, axis: int) -> tuple[tuple[int, ...], ...]:
        lengths = [shape[axis] for shape in self.shapes]
        shares = [max(1, n * total // sum(lengths)) for n in lengths]
        shares[-1] = max(1, total - sum(shares[:-1]))
        return tuple(
            (*shape[:axis], n, *shape[axis + 1 :])
            for shape, n in zip(self.shapes, shares, strict=True)
        )


def template(kernel: Kernel, gaps: Sequence[Extent], full: Mapping[str, int]) -> Template:
    """`kernel` with a gap for each of `gaps`, all other sizes being those of the full network."""
    if kernel.op == "cat" and tuple(gaps) == (joined(kernel),):
        whole = kernel.at(full)
        return Template(whole.op, whole.shapes, whole.attrs, dict(whole.attrs)["axis"])
    place = {extent: Gap(i) for i, extent in enumerate(gaps)}

    def at(size: Any) -> Any:
        if not isinstance(size, Extent):
            return size
        return place[size] if size in place else size.at(full)

    return Template(
        kernel.op,
        tuple(tuple(at(e) for e in shape) for shape in kernel.shapes),
        tuple((name, at(value)) for name, value in kernel.attrs),
    )


def sizes_in(kernel: Kernel) -> list[Extent]:
    """Every size that a kernel's shapes and attributes hold."""
    found = [e for shape in kernel.shapes for e in shape]
    return found + [value for _, value in kernel.attrs if isinstance(value, Extent)]


def joined(kernel: Kernel) -> Extent:
    """The length of a concatenation along its axis."""
    axis = dict(kernel.attrs)["axis"]
    pieces = [shape[axis] for shape in kernel.shapes]
    terms: dict[str, int | Fraction] = {}
    for group, times in (term for piece in pieces for term in piece.terms):
        terms[group] = terms.get(group, 0) + times
    products = tuple(product for piece in pieces for product in piece.products)
    return Extent(sum(e.fixed for e in pieces), tuple(sorted(terms.items())), products)
