"""Run a graph on ids and unite them: the classes of ids that live or die together."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor, fx

from edgeprune.channels.core import Flow, Label, Shape, Value, as_captured, run, spread
from edgeprune.graph import attribute
from edgeprune.records import Graph

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Pin:
    """Ids that may not be removed, by whom and why."""

    ids: Ids
    node: fx.Node
    reason: str


@dataclass(frozen=True)
class Analysis:
    """Everything the flow found. `classes[id]` is the class of an id; class 0 is never removed.

    `parameters[name]` holds one vector of ids per dimension (None where the size is 1);
    `roles[name, dim]` is "out" or "in"; `held` has every node's value; `made` the ids that nodes
    made themselves, by (node name, key);
    `choices` what nodes chose.
    """

    held: dict[fx.Node, Any]
    classes: Ids
    parameters: dict[str, tuple[Tensor | None, ...]]
    roles: dict[tuple[str, int], str]
    pins: tuple[Pin, ...]
    equal_counts: tuple[tuple[Ids, ...], ...]
    made: dict[tuple[str, str], Tensor]
    choices: dict[str, bool]

    def class_of(self, ids: Tensor) -> Ids:
        """Classes of a tensor of ids."""
        found: Ids = self.classes[ids.numpy()]
        return found


_KNOWN: weakref.WeakKeyDictionary[fx.GraphModule, Analysis] = weakref.WeakKeyDictionary()


def analyse(graph: Graph) -> Analysis:
    """The analysis of a graph; made once per captured program, since programs are not rewritten."""
    found = _KNOWN.get(graph.program)
    if found is None:
        found = _KNOWN[graph.program] = _Union(graph.program).analysis()
    return found


@dataclass
class _Union(Flow):
    module: fx.GraphModule
    tracks_layouts: bool = True
    next_id: int = 1
    pairs: list[Tensor] = field(default_factory=list)
    parameters: dict[str, tuple[Tensor | None, ...]] = field(default_factory=dict)
    roles: dict[tuple[str, int], str] = field(default_factory=dict)
    pins: list[Pin] = field(default_factory=list)
    counts: list[tuple[Ids, ...]] = field(default_factory=list)
    made: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    choices: dict[str, bool] = field(default_factory=dict)

    def analysis(self) -> Analysis:
        with torch.no_grad():
            held = run(self, self.module, as_captured, self.constant)
        classes = self._classes()
        while self._pin_uneven(classes):
            classes = self._classes()
        return Analysis(
            held,
            classes,
            self.parameters,
            self.roles,
            tuple(self.pins),
            tuple(self.counts),
            self.made,
            self.choices,
        )

    def constant(self, node: fx.Node) -> Value:
        name = str(node.target)
        shape: Shape = tuple(attribute(self.module, name).shape)
        if name not in self.parameters:
            self.parameters[name] = tuple(self._new(s) if s > 1 else None for s in shape)
        labels = tuple(
            Label(spread(ids, d, shape))
            for d, ids in enumerate(self.parameters[name])
            if ids is not None
        )
        return Value(shape, labels, parameter=name)

    def fresh(self, count: int, key: str) -> Tensor:
        ids = self._new(count)
        self.made[self.node.name, key] = ids
        return ids

    def _new(self, count: int) -> Tensor:
        ids = torch.arange(self.next_id, self.next_id + count)
        self.next_id += count
        return ids

    def unite(self, a: Tensor, b: Tensor) -> None:
        a, b = torch.broadcast_tensors(a, b)
        index = tuple(
            0 if a.stride(d) == 0 and b.stride(d) == 0 else slice(None) for d in range(a.dim())
        )
        pair = torch.stack([a[index].flatten(), b[index].flatten()])
        pair = pair[:, pair[0] != pair[1]]
        if pair.size(1) > 4096:
            pair = torch.unique(pair, dim=1)
        self.pairs.append(pair)

    def pin(self, ids: Tensor, reason: str) -> None:
        index = tuple(0 if ids.stride(d) == 0 else slice(None) for d in range(ids.dim()))
        found = np.unique(ids[index].numpy())
        found = found[found != 0]
        if found.size:
            self.pins.append(Pin(found, self.node, reason))

    def equal_counts(self, parts: Sequence[Tensor]) -> None:
        if len(parts) > 1:
            self.counts.append(tuple(part.numpy().copy() for part in parts))

    def consume(self, weight: Value, dim: int, ids: Tensor) -> None:
        own = next((label.along(dim) for label in weight.labels if dim in label.dims), None)
        if own is not None:
            self.unite(own, ids)
        elif ids.numel() == 1:
            self.pin(ids, "a single channel")

    def choose(self, choice: bool) -> bool:
        return self.choices.setdefault(self.node.name, choice)

    def role(self, weight: Value, dim: int, role: str) -> None:
        if weight.parameter is not None:
            self.roles.setdefault((weight.parameter, dim), role)

    def _pin_uneven(self, classes: Ids) -> bool:
        """Parts that must keep equal counts, of which some have more pinned ids than others, cannot
        give up any: pin them. Returns whether that pinned anything new."""
        stuck = []
        for parts in self.counts:
            fixed = {int((classes[part] == 0).sum()) for part in parts}
            if len(fixed) > 1:
                ids = np.concatenate(parts)
                stuck.append(ids[classes[ids] != 0])
        found = np.unique(np.concatenate(stuck)) if stuck else np.empty(0, np.int64)
        if found.size:
            self.pins.append(Pin(found, self.node, "counted with channels that cannot be removed"))
        return bool(found.size)

    def _classes(self) -> Ids:
        pinned = [np.stack([np.zeros_like(p.ids), p.ids]) for p in self.pins]
        pairs = np.concatenate(
            [*(p.numpy() for p in self.pairs), *pinned, np.zeros((2, 1), int)], 1
        )
        ones = np.ones(pairs.shape[1], dtype=np.int8)
        links = coo_matrix((ones, (pairs[0], pairs[1])), shape=(self.next_id, self.next_id))
        _, classes = connected_components(links, directed=False)
        zero = classes[0]
        if zero != 0:  # scipy numbers components by first member, but does not promise it
            classes = np.where(classes == zero, -1, np.where(classes == 0, zero, classes))
            classes = np.where(classes == -1, 0, classes)
        found: Ids = classes.astype(np.int64)
        return found
