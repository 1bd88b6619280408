"""A network and what can be taken out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Widths = Mapping[str, int]
"""Channels kept, by group name; a dropped block is 0 under its `Block.key`."""


@dataclass(frozen=True)
class Graph:
    """A captured model: `torch.export`'s ATen program as a trainable module.

    `program` keeps the user's parameter names; `example_inputs` are the caller's own tensors
    (batch as given); `dynamic_batch` says whether dimension 0 may vary. `masks` (boolean, by
    parameter, True where a weight may be other than zero) are what `sparsify` left: training holds
    the rest at zero.
    """

    program: torch.fx.GraphModule
    example_inputs: tuple[torch.Tensor, ...]
    name: str = "model"
    dynamic_batch: bool = True
    masks: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def module(self) -> torch.nn.Module:
        """The network as an ordinary `nn.Module`: trainable, `train()` and `eval()` work.

        It is the graph's own module, not a copy: training it trains the graph.
        """
        return self.program


@dataclass(frozen=True)
class ParameterSlice:
    """What each channel of a group owns of one parameter or buffer.

    `positions` is (channels, k): channel i owns the k indices `positions[i]` along `dim`.
    `role` is "out" where the channel is produced by this parameter, "in" where it is consumed,
    and "own" for per-channel parameters (batch norm, position tables).
    """

    parameter: str
    dim: int
    positions: NDArray[np.int64]
    role: Literal["out", "in", "own"]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that may be kept or removed one by one, each with everything tied to it.

    Channel i of the group lives in part `part_of[i]`; a plan keeps the same number in every part
    (grouped convolutions, attention heads); most groups have a single part.

    A group of attention heads, whose members go whole, names in `holds` the groups of the channels
    inside of them: a channel is there while it is kept and its head is. Either may be pruned, or
    both.
    """

    name: str
    size: int
    slices: tuple[ParameterSlice, ...]
    part_of: NDArray[np.int64]
    holds: tuple[str, ...] = ()

    @property
    def parts(self) -> int:
        """How many parts must keep equal counts."""
        return int(self.part_of.max()) + 1 if self.size else 0


@dataclass(frozen=True)
class Pinned:
    """Channels that may not be removed, with the op that pins them and the user's line."""

    name: str
    size: int
    op: str
    reason: str
    source: str


@dataclass(frozen=True)
class EqualCounts:
    """The kept channels of every part, weighted by multiplicity, must add up to the same number."""

    parts: tuple[tuple[tuple[str, int | Fraction], ...], ...]


@dataclass(frozen=True)
class Extent:
    """A tensor dimension as a function of widths: fixed + sum of multiplicity * kept channels.

    A multiplicity is a fraction where the dimension holds one part of a group's channels.
    `products` are (channels, heads, multiplicity): so many for each kept channel of each kept head.
    """

    fixed: int
    terms: tuple[tuple[str, int | Fraction], ...] = ()
    products: tuple[tuple[str, str, int | Fraction], ...] = ()

    def at(self, widths: Widths) -> int:
        """The dimension's size under `widths` (channels kept by group)."""
        linear = sum(mult * widths[group] for group, mult in self.terms)
        inside = sum(mult * widths[group] * widths[heads] for group, heads, mult in self.products)
        return self.fixed + int(linear + inside)

    @property
    def groups(self) -> frozenset[str]:
        """The groups whose widths the size depends on."""
        inside = (name for group, heads, _ in self.products for name in (group, heads))
        return frozenset([*(name for name, _ in self.terms), *inside])


@dataclass(frozen=True)
class ChannelGroups:
    """Everything about a graph's channels: what can go, what cannot and why, and all sizes.

    `extents` maps each tensor-valued node's name to its dimensions (batch 1) as `Extent`s.
    """

    groups: tuple[ChannelGroup, ...]
    pinned: tuple[Pinned, ...]
    equal_counts: tuple[EqualCounts, ...]
    extents: Mapping[str, tuple[Extent, ...]]
    fingerprint: str

    def __getitem__(self, name: str) -> ChannelGroup:
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(name)

    def full_widths(self) -> dict[str, int]:
        """Every group's full size."""
        return {group.name: group.size for group in self.groups}


def block_key(name: str) -> str:
    """A block's name among widths, apart from groups' names."""
    return f"block:{name}"


@dataclass(frozen=True)
class Block:
    """A residual branch that can be dropped whole: `add` becomes the operand that is not `branch`.

    `add` and `branch` are node names; `nodes` are the nodes that are computed for the branch only,
    in the graph's order, and `parameters` the parameters and buffers that nothing else reads.
    """

    name: str
    add: str
    branch: str
    nodes: tuple[str, ...]
    parameters: tuple[str, ...]

    @property
    def key(self) -> str:
        """Its name among widths, where 0 says that the block is dropped (see `Widths`)."""
        return block_key(self.name)


@dataclass(frozen=True)
class Scores:
    """Importance of each channel: one float array of length `group.size` per group name."""

    criterion: str
    values: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Sparsity:
    """Single weights to set to zero. `pattern` is a word of choices.PATTERNS, or N:M as in "2:4".

    `share` is the share of the weights that go (the most that may go, for "lsh"; None: as many as
    the pattern says, for "lsh" and N:M), counted over all layers or in every layer by itself.
    """

    pattern: str = "magnitude"
    share: float | None = None
    scope: Literal["global", "layer"] = "layer"
    seed: int = 0
