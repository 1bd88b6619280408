"""The physical order of channels after removal, where the original order does not tell it.

A channel shuffle views C channels as g parts of k, transposes and flattens. After removal every
part holds as many channels as the others, but they need not be the same ones of each part: the
shuffled tensor then interleaves the parts by rank, not by original position. A `Layout` is a small
tree that knows this order; cutting it at a boundary (chunk, split, slice) says what must hold for
the cut to fall between the right channels: equal counts on this side of it in every part. That is
all that shuffles need; any op that asks for more has the tree settled, which ties the parts
position by position, so that rank and original position agree again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Unite = Callable[[Tensor, Tensor], None]
EqualCounts = Callable[[Sequence[Tensor]], None]


class Layout:
    """The order of the ids along one dimension."""

    def ids(self) -> Tensor:
        """All ids in the original order."""
        raise NotImplementedError

    def cut(self, start: int, end: int, unite: Unite, equal: EqualCounts) -> Layout:
        """The layout of original positions start..end."""
        raise NotImplementedError

    def settle(self, unite: Unite) -> None:
        """Tie what must be tied for the original order to be the physical one."""
        raise NotImplementedError


@dataclass(frozen=True)
class Plain(Layout):
    """Original order without the removed ones."""

    vector: Tensor

    def ids(self) -> Tensor:
        return self.vector

    def cut(self, start: int, end: int, unite: Unite, equal: EqualCounts) -> Layout:
        return Plain(self.vector[start:end])

    def settle(self, unite: Unite) -> None:
        return None


@dataclass(frozen=True)
class Chain(Layout):
    """One layout after another (concatenation)."""

    links: tuple[Layout, ...]

    def ids(self) -> Tensor:
        return torch.cat([link.ids() for link in self.links])

    def cut(self, start: int, end: int, unite: Unite, equal: EqualCounts) -> Layout:
        pieces, at = [], 0
        for link in self.links:
            size = link.ids().numel()
            low, high = max(start - at, 0), min(end - at, size)
            if low < high:
                pieces.append(link.cut(low, high, unite, equal))
            at += size
        return chain(pieces)

    def settle(self, unite: Unite) -> None:
        for link in self.links:
            link.settle(unite)


@dataclass(frozen=True)
class Interleaved(Layout):
    """Parts of equal length, interleaved by rank: first of each part, second of each, …"""

    parts: tuple[Layout, ...]

    def ids(self) -> Tensor:
        return torch.stack([part.ids() for part in self.parts], dim=1).flatten()

    def cut(self, start: int, end: int, unite: Unite, equal: EqualCounts) -> Layout:
        g = len(self.parts)
        if start % g or end % g:
            self.settle(unite)
            return Plain(self.ids()[start:end])
        pieces = tuple(part.cut(start // g, end // g, unite, equal) for part in self.parts)
        equal([piece.ids() for piece in pieces])
        return Interleaved(pieces)

    def settle(self, unite: Unite) -> None:
        first = self.parts[0].ids()
        for part in self.parts:
            part.settle(unite)
            unite(part.ids(), first)


@dataclass(frozen=True)
class Split:
    """One dimension viewed as several: `axes` hold the parts (row-major), `axis` what is in one.

    Every part keeps the same number of ids, in its own layout.
    """

    axes: tuple[int, ...]
    axis: int
    parts: tuple[Layout, ...]

    def settle(self, unite: Unite) -> None:
        Interleaved(self.parts).settle(unite)

    def moved(self, to: Callable[[int], int]) -> Split:
        """The same split with its dimensions renamed."""
        return Split(tuple(to(a) for a in self.axes), to(self.axis), self.parts)


def chain(links: Sequence[Layout]) -> Layout:
    """Layouts one after another; plain ones side by side become one."""
    if all(isinstance(link, Plain) for link in links):
        return Plain(torch.cat([link.ids() for link in links]))
    return Chain(tuple(links))
