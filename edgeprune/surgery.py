"""Graph + Plan → a smaller graph, or the same graph with what is removed zeroed.

The rules that found the groups are run again, now on the ids that the plan keeps, in the order in
which the smaller tensors really hold them. A parameter that is read in another order than its own
(after a channel shuffle) has its slices reordered; whatever was united must still line up, or the
surgery stops with an error instead of making a wrong network. Blocks are dropped last, from the
graph whose channels are already cut.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from edgeprune.blocks import blocks
from edgeprune.channels.analysis import Analysis, Ids, analyse
from edgeprune.channels.core import Call, Flow, Label, Value, labelled, run, spread
from edgeprune.channels.grouping import partition
from edgeprune.channels.resize import Remaining, resized
from edgeprune.dropping import chosen, drop, scale_branches
from edgeprune.errors import PlanError
from edgeprune.graph import attribute, own_tensors
from edgeprune.plans import Plan, check_plan
from edgeprune.records import Graph
from edgeprune.sparsity import sparsify


def prune(graph: Graph, plan: Plan) -> Graph:
    """The network without the channels and blocks that `plan` removes; `graph` stays as it was.

    Parameters keep their names and are new tensors. Where the plan has `sparsity`, weights of what
    is left are zero. Raises PlanError when the plan does not fit.
    """
    execution, held = _executed(graph, plan)
    ops = {node.name: node for node in graph.program.graph.nodes}
    smaller = copy.deepcopy(graph.program.graph)
    names = {node.name: node for node in smaller.nodes}
    for node in smaller.nodes:
        original = ops[node.name]
        if node.op == "call_function":
            call = execution.rewritten[original]
            node.target = call.target
            node.args, node.kwargs = fx.node.map_arg(
                (call.args, call.kwargs), lambda n: names[n.name]
            )
        node.meta.pop("val", None)
        node.meta["shape"] = _shapes(held[original]) if original in held else None
    module = fx.GraphModule(graph.program, smaller)
    own_tensors(module, graph.program, execution.positions)
    if plan.dropped:
        drop(module, chosen(blocks(graph), plan.dropped))
    module.train(graph.program.training)
    pruned = Graph(module, graph.example_inputs, graph.name, graph.dynamic_batch)
    return pruned if plan.sparsity is None else sparsify(pruned, plan.sparsity)


def kept_positions(graph: Graph, plan: Plan) -> Mapping[tuple[str, int], Ids]:
    """Which positions of the full parameter stay, in the order in which the smaller one has them,
    by parameter and dimension; what is not named stays whole."""
    return _executed(graph, plan)[0].positions


def mask(graph: Graph, plan: Plan) -> Graph:
    """The network at full size, with what `plan` removes zeroed: slices, and whole branches."""
    left = remaining(graph, plan)
    module = fx.GraphModule(graph.program, copy.deepcopy(graph.program.graph))
    for node, original in zip(module.graph.nodes, graph.program.graph.nodes, strict=True):
        node.meta["shape"] = original.meta.get("shape")
    own_tensors(module, graph.program, {})
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for name, dims in left.analysis.parameters.items():
            for dim, ids in enumerate(dims):
                if ids is None or not state[name].is_floating_point():
                    continue
                dead = torch.from_numpy(np.flatnonzero(~left.stays(ids)))
                state[name].index_fill_(dim, dead, 0.0)
    scale_branches(module, [(block, 0.0) for block in chosen(blocks(graph), plan.dropped)])
    module.train(graph.program.training)
    return Graph(module, graph.example_inputs, graph.name, graph.dynamic_batch)


def _executed(graph: Graph, plan: Plan) -> tuple[_Execution, dict[fx.Node, Any]]:
    execution = _Execution(graph.program, remaining(graph, plan))
    with torch.no_grad():
        held = run(execution, graph.program, execution.call, execution.constant)
    return execution, held


def remaining(graph: Graph, plan: Plan) -> Remaining:
    found = partition(graph)
    check_plan(plan, found.groups, [block.name for block in blocks(graph)])
    analysis = analyse(graph)
    alive = np.ones(int(analysis.classes.max()) + 1, dtype=bool)
    for name, kept in plan.kept.items():
        classes = found.classes[name]
        alive[classes] = False
        alive[classes[list(kept)]] = True
    return Remaining(analysis, alive)


@dataclass
class _Execution(Flow):
    """Runs the rules on kept classes; notes new arguments and the slices of each parameter."""

    module: fx.GraphModule
    left: Remaining
    tracks_layouts: bool = False
    rewritten: dict[fx.Node, Call] = field(default_factory=dict)
    positions: dict[tuple[str, int], Ids] = field(default_factory=dict)
    reordered: set[tuple[str, int]] = field(default_factory=set)
    times: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def analysis(self) -> Analysis:
        return self.left.analysis

    @cached_property
    def _is_owner(self) -> Tensor:
        """Whether a class is one of owners: where parts are one channel wide, owners and channels
        look the same, and say nothing about each other."""
        found = torch.zeros(len(self.left.alive), dtype=torch.bool)
        found[torch.from_numpy(self.analysis.owners)] = True
        return found

    def call(self, node: fx.Node) -> Call:
        self.rewritten[node] = resized(self.left, node)
        return self.rewritten[node]

    def constant(self, node: fx.Node) -> Value:
        name = str(node.target)
        full = tuple(attribute(self.module, name).shape)
        shape, vectors = list(full), []
        for dim, ids in enumerate(self.analysis.parameters[name]):
            if ids is None:
                continue
            classes = self.analysis.class_of(ids)
            stays = np.flatnonzero(self.left.stays(ids))
            self.positions.setdefault((name, dim), stays)
            shape[dim] = len(stays)
            vectors.append((dim, torch.from_numpy(classes[stays])))
        labels = [Label(spread(v, d, tuple(shape))) for d, v in vectors]
        return replace(labelled(tuple(shape), labels), parameter=name)

    def fresh(self, count: int, key: str) -> Tensor:
        self.times[self.node.name, key] += 1
        key = f"{key} {self.times[self.node.name, key]}"
        ids = self.analysis.made.get((self.node.name, key))
        if ids is not None:
            found = torch.from_numpy(self.analysis.class_of(ids)[self.left.stays(ids)])
            if len(found) == count:
                return found
        # where widths came down to one, dimensions that told parts apart no longer do
        return torch.zeros(count, dtype=torch.int64)

    def unite(self, a: Tensor, b: Tensor, *, shared: bool = False) -> None:
        a, b = torch.broadcast_tensors(a, b)
        index = tuple(
            0 if a.stride(d) == 0 and b.stride(d) == 0 else slice(None) for d in range(a.dim())
        )
        a, b = a[index], b[index]
        if not a.numel() or not b.numel():
            return
        owners = self._is_owner
        differ = (a != b) & (a != 0) & (b != 0) & (owners[a] == owners[b])
        differ &= ~(self._alone[a] | self._alone[b])
        if bool(differ.any()):
            self._misaligned()

    @cached_property
    def _alone(self) -> Tensor:
        """Whether a class is the only one left of a part: it then stands where the part's owner
        does, beside the channels of other parts that are one wide too."""
        found = torch.zeros(len(self.left.alive), dtype=torch.bool)
        for counted in self.analysis.counts:
            for part in counted.parts:
                kept = part[self.left.stays(torch.from_numpy(part))]
                if len(kept) == 1 and self.analysis.owners[kept[0]]:
                    found[int(self.analysis.classes[kept[0]])] = True
        found[0] = False
        return found

    def own(self, ids: Tensor, owners: Tensor) -> None:
        """Owners are known from the analysis."""

    def crosses(self, ids: Tensor, *, within: bool = False) -> None:
        """Statistics are noted by the analysis."""

    def gives_up(self, error: Exception | None) -> bool:
        return error is None and (self.node.name, "given up") in self.analysis.choices

    def consume(self, weight: Value, dim: int, ids: Tensor) -> None:
        own = next((label.along(dim) for label in weight.labels if dim in label.dims), None)
        if own is None or (len(own) == len(ids) and not bool(_differ(own, ids).any())):
            return
        if own.numel() != ids.numel() or weight.parameter is None:
            self._misaligned()
        key = (str(weight.parameter), dim)
        order = _matching(own.numpy(), ids.numpy())
        stays = np.flatnonzero(self.left.stays(self._ids(*key)))[order]
        if key in self.reordered and not np.array_equal(self.positions[key], stays):
            self._misaligned()
        self.positions[key] = stays
        self.reordered.add(key)

    def _ids(self, name: str, dim: int) -> Tensor:
        ids = self.analysis.parameters[name][dim]
        assert ids is not None
        return ids

    def pin(self, ids: Tensor, reason: str, *, within: bool = False) -> None:
        """Pinned channels are all there; nothing to do."""

    def choose(self, choice: bool, key: str = "") -> bool:
        return self.analysis.choices.get((self.node.name, key), False)

    def role(self, weight: Value, dim: int, role: str) -> None:
        """Roles are noted by the analysis."""

    def equal_counts(self, parts: Sequence[Tensor]) -> None:
        if len({part.numel() for part in parts}) > 1:
            self._misaligned()

    def _misaligned(self) -> None:
        raise PlanError(
            f"the plan leaves channels that do not line up at {self.node.name} "
            f"({self.node.target}): they must be kept or removed together"
        )


def _differ(a: Tensor, b: Tensor) -> Tensor:
    """Where two vectors of classes name different ones; 0 says nothing."""
    return (a != b) & (a != 0) & (b != 0)


def _matching(own: Ids, wanted: Ids) -> Ids:
    """Positions in `own` in the order of `wanted`; zeros in `wanted` take what is left over."""
    free: dict[int, list[int]] = {}
    for position, cls in reversed(list(enumerate(own.tolist()))):
        free.setdefault(cls, []).append(position)
    order = np.full(len(wanted), -1, dtype=np.int64)
    for i, cls in enumerate(wanted.tolist()):
        if free.get(cls):
            order[i] = free[cls].pop()
    over = sorted(p for positions in free.values() for p in positions)
    order[order < 0] = over
    return order


def _shapes(held: Any) -> Any:
    if isinstance(held, Value):
        return held.shape
    if isinstance(held, tuple | list):
        return tuple(_shapes(v) for v in held)
    return None
