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
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

Unite = Callable[[Tensor, Tensor], None]
EqualCounts = Callable[[Sequence[Tensor]], None]


def varying(ids: Tensor) -> list[int]:
    """The dimensions along which a broadcast tensor is not the same everywhere."""
    strides = ids.stride()
    return [d for d, size in enumerate(ids.shape) if size > 1 and strides[d] != 0]


def compressed(ids: Tensor) -> Tensor:
    """The same tensor with size 1 along every dimension where it does not vary."""
    for d, stride in enumerate(ids.stride()):
        if stride == 0 and ids.size(d) > 1:
            ids = ids.narrow(d, 0, 1)
    return ids


def tidy(ids: Tensor) -> Tensor:
    """The same ids, with stride 0 along every dimension where they do not vary."""
    shape, ids = ids.shape, compressed(ids)
    for d in range(ids.dim()):
        if ids.size(d) > 1:
            first = ids.narrow(d, 0, 1)
            if bool((ids == first).all()):
                ids = first
    return ids.expand(shape)


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
        _tie(self.parts, unite)


@dataclass(frozen=True)
class Split:
    """A dimension of channels viewed as parts: `axis` runs inside a part.

    `which` numbers the parts: broadcast to the value's shape, it varies along the dimensions that
    tell parts apart, and never along `axis`. Every part keeps equally many ids, in its own layout
    `parts[i]`, as long as its owner `owners[i]` is there (owner 0: always).
    """

    axis: int
    parts: tuple[Layout, ...]
    which: Tensor
    owners: Tensor

    @property
    def axes(self) -> list[int]:
        """The dimensions that tell parts apart."""
        return varying(self.which)

    @property
    def is_plain(self) -> bool:
        """Whether every part is in its original order."""
        return all(isinstance(part, Plain) for part in self.parts)

    def owner_ids(self) -> Tensor:
        """The owner of the part at every index, broadcast to the value's shape."""
        return self.owners[compressed(self.which)].expand(self.which.shape)

    def settle(self, unite: Unite) -> None:
        """Tie all parts position by position; owners of tied channels are then tied as well."""
        _tie(self.parts, unite)

    def moved(self, op: Callable[[Tensor], Tensor], axis: int) -> Split:
        """The split after an op that moves elements, `axis` to where it is told, and leaves the
        order within the parts alone. Parts are numbered in the order in which they now come, and
        those that are gone are forgotten."""
        which = tidy(op(self.which))
        small = compressed(which)
        numbers, first, inverse = np.unique(small.numpy(), return_index=True, return_inverse=True)
        order = np.argsort(first)
        if np.array_equal(numbers[order], np.arange(len(self.parts))):
            return replace(self, axis=axis, which=which)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        renumbered = torch.from_numpy(place[inverse.reshape(small.shape)]).expand(which.shape)
        old = numbers[order].tolist()
        return Split(axis, tuple(self.parts[i] for i in old), renumbered, self.owners[old])


def _tie(parts: Sequence[Layout], unite: Unite) -> None:
    """Position by position, each in its original order."""
    first = parts[0].ids()
    for part in parts:
        part.settle(unite)
        unite(part.ids(), first)


def chain(links: Sequence[Layout]) -> Layout:
    """Layouts one after another; plain ones side by side become one."""
    if all(isinstance(link, Plain) for link in links):
        return Plain(torch.cat([link.ids() for link in links]))
    return Chain(tuple(links))
