"""Run a graph on ids and unite them: the classes of ids that live or die together."""

from __future__ import annotations

import weakref
from collections import Counter
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
from edgeprune.channels.layout import compressed
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
class Counted:
    """Parts that must keep equal counts, and the node that asks for it."""

    parts: tuple[Ids, ...]
    node: fx.Node


@dataclass(frozen=True)
class Analysis:
    """Everything the flow found. `classes[id]` is the class of an id; class 0 is never removed.

    `owners[id]` is the class of the owner of the part that an id lies in, 0 where there is none: an
    element is there while its class and its owner are. `linked[id]` tells which ids were tied
    before any was pinned. `parameters[name]` holds one vector of ids per dimension (None where the
    size is 1); `roles[name, dim]` is "out" or "in"; `held` has every node's value; `made` the ids
    that nodes made themselves, by (node name, key); `choices` what nodes chose; `crossed` the ids
    that each node computes a statistic over, and those over which it does inside of parts only;
    `buffers` names which of `parameters` are not trained.
    """

    held: dict[fx.Node, Any]
    classes: Ids
    owners: Ids
    linked: Ids
    parameters: dict[str, tuple[Tensor | None, ...]]
    roles: dict[tuple[str, int], str]
    pins: tuple[Pin, ...]
    counts: tuple[Counted, ...]
    made: dict[tuple[str, str], Tensor]
    choices: dict[tuple[str, str], bool]
    crossed: dict[fx.Node, tuple[Ids, Ids]]
    buffers: frozenset[str] = frozenset()

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


def followed(graph: Graph) -> Analysis:
    """The analysis of a graph of which nothing is to be removed by it: nothing is pinned, so every
    channel is told that is tied to a parameter's."""
    return _Union(graph.program).analysis(pins=False)


@dataclass
class _Union(Flow):
    module: fx.GraphModule
    tracks_layouts: bool = True
    next_id: int = 1
    pairs: list[Tensor] = field(default_factory=list)
    shared_pairs: list[Tensor] = field(default_factory=list)
    owned: list[Tensor] = field(default_factory=list)
    parameters: dict[str, tuple[Tensor | None, ...]] = field(default_factory=dict)
    roles: dict[tuple[str, int], str] = field(default_factory=dict)
    pins: list[Pin] = field(default_factory=list)
    pins_within: list[Pin] = field(default_factory=list)
    counts: list[Counted] = field(default_factory=list)
    made: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    times: Counter[tuple[str, str]] = field(default_factory=Counter)
    choices: dict[tuple[str, str], bool] = field(default_factory=dict)
    crossed: dict[fx.Node, list[Tensor]] = field(default_factory=dict)
    crossed_within: dict[fx.Node, list[Tensor]] = field(default_factory=dict)

    def analysis(self, *, pins: bool = True) -> Analysis:
        with torch.no_grad():
            held = run(self, self.module, as_captured, self.constant)
        if not pins:
            self.pins, self.pins_within, self.counts = [], [], []
        links, shared = _joined(self.pairs), _joined(self.shared_pairs)
        linked = _components(self.next_id, [links, shared])
        classes, owners = self._classes(links, shared)
        while self._pin_uneven(classes, owners):
            classes, owners = self._classes(links, shared)
        return Analysis(
            held=held,
            classes=classes,
            owners=owners,
            linked=linked,
            parameters=self.parameters,
            roles=self.roles,
            pins=(*self.pins, *self.pins_within),
            counts=tuple(self.counts),
            made=self.made,
            choices=self.choices,
            crossed={
                node: (_unique(self.crossed, node), _unique(self.crossed_within, node))
                for node in {**self.crossed, **self.crossed_within}
            },
            buffers=frozenset(name for name, _ in self.module.named_buffers()),
        )

    def constant(self, node: fx.Node) -> Value:
        """A constant with ids of its own; numbers that count or address have none: they stay."""
        name = str(node.target)
        tensor = attribute(self.module, name)
        shape: Shape = tuple(tensor.shape)
        if name not in self.parameters:
            counts = not (tensor.is_floating_point() or tensor.is_complex())
            self.parameters[name] = tuple(None if counts or s == 1 else self._new(s) for s in shape)
        labels = tuple(
            Label(spread(ids, d, shape))
            for d, ids in enumerate(self.parameters[name])
            if ids is not None
        )
        return Value(shape, labels, parameter=name)

    def fresh(self, count: int, key: str) -> Tensor:
        ids = self._new(count)
        self.times[self.node.name, key] += 1
        self.made[self.node.name, f"{key} {self.times[self.node.name, key]}"] = ids
        return ids

    def _new(self, count: int) -> Tensor:
        ids = torch.arange(self.next_id, self.next_id + count)
        self.next_id += count
        return ids

    def unite(self, a: Tensor, b: Tensor, *, shared: bool = False) -> None:
        if a is b:
            return
        a, b = torch.broadcast_tensors(a, b)
        index = tuple(
            0 if a.stride(d) == 0 and b.stride(d) == 0 else slice(None) for d in range(a.dim())
        )
        pair = torch.stack([a[index].flatten(), b[index].flatten()])
        (self.shared_pairs if shared else self.pairs).append(pair)

    def own(self, ids: Tensor, owners: Tensor) -> None:
        self.owned.append(torch.stack([ids.flatten(), owners.repeat_interleave(ids.size(1))]))

    def pin(self, ids: Tensor, reason: str, *, within: bool = False) -> None:
        found = np.unique(compressed(ids).numpy())
        found = found[found != 0]
        if found.size:
            (self.pins_within if within else self.pins).append(Pin(found, self.node, reason))

    def crosses(self, ids: Tensor, *, within: bool = False) -> None:
        noted = self.crossed_within if within else self.crossed
        noted.setdefault(self.node, []).append(compressed(ids).flatten())

    def equal_counts(self, parts: Sequence[Tensor]) -> None:
        if len(parts) > 1:
            self.counts.append(Counted(tuple(part.numpy().copy() for part in parts), self.node))

    def consume(self, weight: Value, dim: int, ids: Tensor) -> None:
        own = next((label.along(dim) for label in weight.labels if dim in label.dims), None)
        if own is not None:
            self.unite(own, ids)
        elif ids.numel() == 1:
            self.pin(ids, "a single channel")

    def choose(self, choice: bool, key: str = "") -> bool:
        return self.choices.setdefault((self.node.name, key), choice)

    def gives_up(self, error: Exception | None) -> bool:
        if error is not None:
            self.choices[self.node.name, "given up"] = True
        return error is not None

    def role(self, weight: Value, dim: int, role: str) -> None:
        if weight.parameter is not None:
            self.roles.setdefault((weight.parameter, dim), role)

    def _classes(self, links: Ids, shared: Ids) -> tuple[Ids, Ids]:
        """Classes of ids, and the class of every id's owner (0: none, or one that stays)."""
        pinned, within = _to_zero(self.pins), _to_zero(self.pins_within)
        same = _components(self.next_id, [links, pinned])
        owned = _joined(self.owned)
        extra = np.zeros((2, 1), dtype=np.int64)
        while True:
            classes = _components(self.next_id, [links, shared, pinned, within, extra])
            of = np.full(int(same.max()) + 1, -1, dtype=np.int64)
            of[0] = 0  # the owner of what stays stays
            order = classes[owned[1]]
            of[same[owned[0]][::-1]] = order[::-1]
            of[0] = 0
            differ = of[same[owned[0]]] != order
            if not differ.any():
                return classes, np.maximum(of, 0)[same]
            # two owners of one element are one: tie an id of each
            first = np.zeros(int(classes.max()) + 1, dtype=np.int64)
            first[classes[::-1]] = np.arange(self.next_id)[::-1]
            ties = np.stack([owned[1][differ], first[of[same[owned[0]][differ]]]])
            extra = np.concatenate([extra, ties], axis=1)

    def _pin_uneven(self, classes: Ids, owners: Ids) -> bool:
        """Parts that must keep equal counts, of which some have more pinned ids than others, cannot
        give up any; parts of which owners hold unequal shares cannot lose an owner: pin them.
        Returns whether that pinned anything new."""
        found = False
        for counted in self.counts:
            fixed = {int((classes[part] == 0).sum()) for part in counted.parts}
            ids = np.concatenate(counted.parts)
            if len(fixed) > 1:
                stuck = np.unique(ids[classes[ids] != 0])
                if stuck.size:
                    reason = "counted with channels that cannot be removed"
                    self.pins_within.append(Pin(stuck, counted.node, reason))
                    found = True
            if owners[ids].any() and not _evenly_owned([owners[part] for part in counted.parts]):
                held = np.unique(ids[owners[ids] != 0])
                self.pins.append(
                    Pin(held, counted.node, "counted with parts that cannot be removed")
                )
                found = True
        return found


def _evenly_owned(parts: Sequence[Ids]) -> bool:
    """Whether removing any owner leaves equal counts: each part has one owner of its own, or all
    parts hold the same shares of the same owners."""
    if all(bool((part == part[0]).all()) and part[0] for part in parts):
        return True
    shares = [Counter(part.tolist()) for part in parts]
    return all(share == shares[0] for share in shares)


def _joined(pairs: Sequence[Tensor]) -> Ids:
    """All pairs as one array (2, n), each once."""
    if not pairs:
        return np.zeros((2, 0), dtype=np.int64)
    every: Ids = torch.cat(list(pairs), dim=1).numpy()
    return every[:, every[0] != every[1]]


def _unique(noted: dict[fx.Node, list[Tensor]], node: fx.Node) -> Ids:
    found = noted.get(node, [])
    return np.unique(torch.cat([torch.zeros(0, dtype=torch.int64), *found]).numpy())


def _to_zero(pins: Sequence[Pin]) -> Ids:
    ids = np.concatenate([np.zeros(0, dtype=np.int64), *(pin.ids for pin in pins)])
    return np.stack([np.zeros_like(ids), ids])


def _components(count: int, pairs: Sequence[Ids]) -> Ids:
    """The connected component of every id; that of id 0 is number 0."""
    every = np.concatenate(pairs, axis=1)
    ones = np.ones(every.shape[1], dtype=np.int8)
    links = coo_matrix((ones, (every[0], every[1])), shape=(count, count))
    _, found = connected_components(links, directed=False)
    zero = found[0]
    if zero != 0:  # scipy numbers components by first member, but does not promise it
        found = np.where(found == zero, 0, np.where(found == 0, zero, found))
    components: Ids = found.astype(np.int64)
    return components
