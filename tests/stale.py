"""Stale constants: sizes in a pruned graph that do not follow from its tensors.

A pruned graph may run and still carry a size that only happens to work: a slice that ends past the
end, a view that was inferred, a running statistic that nobody reads. `stale_constants` looks for
them in two ways that know nothing of how a graph was cut: each node is run by itself and compared
with what the graph says of it, and its numbers are compared with those of the same op in a graph
captured from the pruned module anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx

from edgeprune import capture
from edgeprune.records import Graph

aten = torch.ops.aten


def stale_constants(graph: Graph, *, anew: bool = True) -> list[str]:
    """What in a graph does not fit its own tensors, one sentence each; for a batch of one.

    `anew`: whether it is also compared with a fresh capture, which takes longer.
    """
    found = list(_unread(graph))
    inputs = tuple(x[:1] if graph.dynamic_batch else x for x in graph.example_inputs)
    shown = _Shown(graph)
    with torch.no_grad():
        shown.run(*inputs)
    found += shown.stale
    if anew:
        again = capture(graph.module(), inputs)
        found += _differing(_sized(graph.program), _sized(again.program))
    return found


class _Shown(fx.Interpreter):
    """Runs a graph and notes constants and recorded shapes that do not fit what the ops see."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph.program)
        self.stale: list[str] = []
        self.inputs = {n for n in graph.program.graph.nodes if n.op == "placeholder"}

    def run_node(self, n: fx.Node) -> Any:
        made = super().run_node(n)
        recorded = n.meta.get("shape")
        if isinstance(made, Tensor) and recorded is not None and tuple(made.shape) != recorded:
            self.stale.append(f"{n.name} is {tuple(made.shape)}, recorded as {recorded}")
        check = _CHECKS.get(n.target)
        if check is not None:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            self.stale += [f"{n.name}: {fault}" for fault in check(made, *args, **kwargs)]
        return made


Faults = Iterator[str]
_CHECKS: dict[Any, Callable[..., Faults]] = {}


def _checks(*ops: Any) -> Callable[[Callable[..., Faults]], Callable[..., Faults]]:
    def register(function: Callable[..., Faults]) -> Callable[..., Faults]:
        _CHECKS.update(dict.fromkeys(ops, function))
        return function

    return register


@_checks(aten.slice.Tensor)
def _slice(
    made: Tensor, x: Tensor, dim: int = 0, start: Any = None, end: Any = None, *_: Any
) -> Faults:
    length = x.size(dim)
    for what, at in (("begins", start), ("ends", end)):
        if isinstance(at, int) and length < at < 2**62:
            yield f"{what} at {at} of {length}"


@_checks(aten.narrow.default, aten.select.int)
def _inside(made: Tensor, x: Tensor, dim: int, index: int, *_: Any) -> Faults:
    if not -x.size(dim) <= index < x.size(dim):
        yield f"takes {index} of {x.size(dim)}"


@_checks(aten.split_with_sizes.default, aten.split.sizes)
def _split(made: Any, x: Tensor, sizes: list[int], dim: int = 0) -> Faults:
    if sum(sizes) != x.size(dim):
        yield f"splits {x.size(dim)} into {sizes}"


@_checks(aten.view.default, aten.reshape.default)
def _view(made: Tensor, x: Tensor, size: list[int]) -> Faults:
    told = math.prod(s for s in size if s != -1)
    if told and x.numel() % told:
        yield f"views {tuple(x.shape)} as {size}"


@_checks(aten.expand.default)
def _expand(made: Tensor, x: Tensor, size: list[int], **_: Any) -> Faults:
    if any(s not in (-1, m) for s, m in zip(size, made.shape, strict=True)):
        yield f"expands {tuple(x.shape)} to {size}"


@_checks(aten.layer_norm.default, aten.rms_norm.default)
def _norm(made: Tensor, x: Tensor, shape: list[int], *parameters: Any) -> Faults:
    if list(x.shape[-len(shape) :]) != list(shape):
        yield f"normalises {shape} of {tuple(x.shape)}"


@_checks(aten.batch_norm.default, aten.instance_norm.default)
def running(made: Tensor | None, x: Tensor, *rest: Any) -> Faults:
    for tensor in rest[:4]:
        if isinstance(tensor, Tensor) and tensor.numel() != x.size(1):
            yield f"has {tensor.numel()} statistics of {x.size(1)} channels"


@_checks(aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
def _conv(made: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> Faults:
    groups = rest[4] if len(rest) > 4 else 1
    if x.size(1) != weight.size(1) * groups or weight.size(0) % groups:
        yield f"{groups} groups of {tuple(weight.shape)} read {x.size(1)} channels"


@_checks(aten.embedding.default, aten.index_select.default)
def _lookup(made: Tensor, table: Any, *rest: Any) -> Faults:
    index = rest[-1] if isinstance(rest[-1], Tensor) else rest[0]
    dim = rest[0] if isinstance(rest[0], int) else 0
    if index.numel() and int(index.max()) >= table.size(dim):
        yield f"looks up {int(index.max())} of {table.size(dim)}"


@_checks(aten.index.Tensor)
def _index(made: Tensor | None, x: Tensor, indices: list[Any]) -> Faults:
    for dim, index in enumerate(indices):
        if not isinstance(index, Tensor) or index.dtype != torch.int64 or not index.numel():
            continue
        if int(index.max()) >= x.size(dim):
            yield f"looks up {int(index.max())} of {x.size(dim)}"


def lookups(graph: Graph) -> list[str]:
    """Indices into parameters that are past their end; needs no run, which they would stop."""
    tensors = dict(_tensors(graph))
    found = []
    for node in graph.program.graph.nodes:
        if node.target is not aten.index.Tensor or node.args[0].op != "get_attr":
            continue
        given = [None if i is None else tensors.get(str(i.target)) for i in node.args[1]]
        found += _index(None, tensors[str(node.args[0].target)], given)
    return found


def _unread(graph: Graph) -> Faults:
    """Parameters that nothing reads keep whatever size they had."""
    read = {str(n.target) for n in graph.program.graph.nodes if n.op == "get_attr"}
    known = {id(t) for n, t in _tensors(graph) if n in read}
    for name, tensor in _tensors(graph):
        if id(tensor) not in known and tensor.dim() > 0:
            yield f"{name} {tuple(tensor.shape)} is read by nothing"


def _tensors(graph: Graph) -> list[tuple[str, Tensor]]:
    module = graph.program
    return [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]


def _sized(program: fx.GraphModule) -> list[tuple[str, tuple[Any, ...]]]:
    """The shapes that every op with a tensor result records, in order."""
    return [
        (str(n.target), n.meta["shape"])
        for n in program.graph.nodes
        if n.op == "call_function" and isinstance(n.meta.get("shape"), tuple)
    ]


def _differing(one: list[Any], other: list[Any]) -> Faults:
    """Ops that a fresh capture records at another size. It may lack or add some that do nothing."""
    kept = [entry for entry in one if entry in other]
    rest = list(other)
    for entry in kept:
        if entry in rest:
            rest.remove(entry)
    known = {op for op, _ in other}
    for op, shape in one:
        if op in known and (op, shape) not in other:
            yield f"{op} at {shape} is nowhere in a fresh capture"
