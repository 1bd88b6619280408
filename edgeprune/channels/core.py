"""The flow of channel ids through a graph: values, labels, and the table of rules.

Every dimension of every parameter gets integer ids of its own, one per index; id 0 means "always
there". Running the graph on ids instead of numbers says which elements of which tensors belong to
which channel. A rule per ATen op says what the op does to ids: move them (the op itself does
that), unite those that must live or die together, consume them along a contracted dimension.

A value may carry several labels, each varying along dimensions of its own: an element is there
while all its labels are. Labels are broadcast views (stride 0 where they do not vary), so they
cost what the channels cost and not what the tensors would.

Where a dimension of channels is viewed as parts (attention heads), each part gets an id of its own
too, its *owner*: a channel is there while its id and its owner are. So heads can go whole, and
inside the heads that stay, channels can go one by one. Ids are tied in two ways: as the same
element (`unite`), which ties owners as well, or as the same channel of several parts
(`unite(..., shared=True)`), where one part may still go without the others.

The same rules run twice. `Analysis` (analysis.py) unites ids and finds the groups; `Execution`
(surgery.py) runs on the ids that a plan kept, in the order in which the smaller tensors really hold
them, and checks that what was united is still aligned.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, fx

from edgeprune.channels.layout import Layout, Split, tidy, varying
from edgeprune.graph import attribute, source_of

aten = torch.ops.aten
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Label:
    """Ids of one kind over a value: broadcast to its shape, 0 where nothing can be removed.

    `layout` tells the physical order after removal where that is not simply the original order
    without the removed ones (channel shuffles), or that a dimension was split into parts.
    """

    ids: Tensor
    layout: Layout | Split | None = None

    @cached_property
    def dims(self) -> frozenset[int]:
        """The dimensions along which the label varies (the inside of parts counts as one)."""
        own = varying(self.ids)
        return frozenset(own if self.split is None else [*own, self.split.axis])

    @property
    def split(self) -> Split | None:
        """The parts, where a dimension was split into parts."""
        return self.layout if isinstance(self.layout, Split) else None

    def along(self, dim: int) -> Tensor:
        """The ids along `dim`, a vector, read at index 0 of every other dimension."""
        index: list[Any] = [0] * self.ids.dim()
        index[dim] = slice(None)
        return self.ids[tuple(index)]


@dataclass(frozen=True)
class Value:
    """What the flow knows of a tensor: its shape for a batch of one, and its labels."""

    shape: Shape
    labels: tuple[Label, ...] = ()
    parameter: str | None = None
    """The parameter or buffer this value is, where it is read directly."""

    def varying(self, dim: int) -> tuple[Label, ...]:
        """The labels that vary along `dim`."""
        return tuple(label for label in self.labels if dim in label.dims)


class Flow(ABC):
    """What a rule may ask for. `node` is the node being run, for reasons and names."""

    node: fx.Node
    tracks_layouts: bool
    """Whether orders are tracked (analysis) or simply there (execution)."""

    @abstractmethod
    def unite(self, a: Tensor, b: Tensor, *, shared: bool = False) -> None:
        """Elements of `a` and `b` (broadcast against each other) live or die together; where
        `shared`, as the same channel of several parts, each of which may go whole."""

    @abstractmethod
    def pin(self, ids: Tensor, reason: str, *, within: bool = False) -> None:
        """These ids are never removed; `within`: unless the part that holds them goes whole."""

    @abstractmethod
    def own(self, ids: Tensor, owners: Tensor) -> None:
        """Ids (parts, k) are there only while their part's owner (parts) is."""

    @abstractmethod
    def crosses(self, ids: Tensor, *, within: bool = False) -> None:
        """The node computes a statistic over these ids: removing them is not zeroing them;
        `within`: over those inside of each part."""

    @abstractmethod
    def equal_counts(self, parts: Sequence[Tensor]) -> None:
        """Every part must keep the same number of ids."""

    @abstractmethod
    def consume(self, weight: Value, dim: int, ids: Tensor) -> None:
        """`weight` is read along `dim` in the order of `ids`."""

    @abstractmethod
    def fresh(self, count: int, key: str) -> Tensor:
        """`count` new ids made by this node (channels padded with zeros); `key` tells several
        apart."""

    @abstractmethod
    def choose(self, choice: bool, key: str = "") -> bool:
        """The analysis's choice between two ways to run this node; execution repeats it."""

    @abstractmethod
    def role(self, weight: Value, dim: int, role: str) -> None:
        """Note that `weight` produces ("out") or consumes ("in") channels along `dim`."""

    @abstractmethod
    def gives_up(self, error: Exception | None) -> bool:
        """Whether the node is left alone, with everything it touches pinned: analysis does so when
        a rule meets a form it does not know (`error`), execution where analysis did."""

    # --- what rules are made of -----------------------------------------------------------

    def pin_all(self, value: Value, reason: str) -> None:
        """Pin every label of a value."""
        for label in value.labels:
            self.pin(label.ids, reason)

    def settle(self, label: Label) -> Label:
        """The label with plain order: parts are tied so that the original order survives."""
        if label.layout is not None and self.tracks_layouts:
            label.layout.settle(self.unite)
        return replace(label, layout=None)

    def contract(self, value: Value, dim: int, reason: str) -> tuple[Tensor | None, list[Label]]:
        """Split a value's labels into the ids along a contracted dimension, and what is left.

        Of a label with parts the owners are left, and its parts share the ids; any other label
        that varies along more dimensions is united over them.
        """
        dim %= len(value.shape)
        found: Tensor | None = None
        others = []
        for label in value.labels:
            if dim not in label.dims:
                others.append(label)
                continue
            if found is not None:
                self.pin(label.ids, reason)
                continue
            split = label.split
            if split is not None and split.axis == dim:
                found = self.shared(label, dim)
                others += owners_of(label)
                continue
            found = label.along(dim)
            if label.dims != {dim}:
                label = self.settle(label)
                self.unite(label.ids, spread(found, dim, value.shape))
        return found, others

    def shared(self, label: Label, dim: int) -> Tensor:
        """One vector of ids for the same dimension of every part of a label."""
        assert label.split is not None
        for part in label.split.parts:
            if self.tracks_layouts:
                part.settle(self.unite)
        vector = self.fresh(label.ids.size(dim), f"shared {dim}")
        self.unite(label.ids, spread(vector, dim, tuple(label.ids.shape)), shared=True)
        return vector


def owners_of(label: Label) -> list[Label]:
    """The owners of a label's parts as a label over the dimensions that tell the parts apart."""
    split = label.split
    if split is None or not varying(split.which) or not bool(split.owners.any()):
        return []
    return [Label(tidy(split.owner_ids()))]


Rule = Callable[..., Any]
Registered = TypeVar("Registered", bound=Rule)
_RULES: dict[Any, Rule] = {}


def rule(*ops: Any) -> Callable[[Registered], Registered]:
    """Register how ids flow through ATen ops: `rule(flow, *args, **kwargs) -> Value | tuple`.

    Tensor arguments arrive as `Value`s, everything else as in the graph. A second registration
    for an op raises.
    """

    def register(function: Registered) -> Registered:
        for op in ops:
            if op in _RULES:
                raise ValueError(f"{op} already has a rule")
            _RULES[op] = function
        return function

    return register


def rule_for(target: Any) -> Rule | None:
    """The rule for an op: its own, or the elementwise one for ops that ATen tags pointwise."""
    found = _RULES.get(target)
    if found is None and torch.Tag.pointwise in getattr(target, "tags", ()):
        return _RULES["pointwise"]
    return found


def spread(ids: Tensor, dim: int, shape: Shape) -> Tensor:
    """A vector of ids along `dim`, broadcast to `shape`."""
    view = [1] * len(shape)
    view[dim] = -1
    return ids.view(view).expand(shape)


def labelled(shape: Shape, labels: Sequence[Label]) -> Value:
    """A value of `shape` with those of `labels` that still vary or pin anything."""
    return Value(tuple(shape), tuple(label for label in labels if label.dims))


@dataclass(frozen=True)
class Call:
    """What a node calls, with the graph's own arguments (nodes where tensors go)."""

    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def as_captured(node: fx.Node) -> Call:
    """A node's call as the graph has it."""
    return Call(node.target, tuple(node.args), dict(node.kwargs))


def run(
    flow: Flow,
    module: fx.GraphModule,
    call: Callable[[fx.Node], Call],
    constant: Callable[[fx.Node], Value],
) -> dict[fx.Node, Any]:
    """Run the graph on ids; returns what every node holds.

    `call(node)` says what a node calls, `constant(node)` what a parameter or buffer holds.
    """
    held: dict[fx.Node, Any] = {}
    for node in module.graph.nodes:
        flow.node = node
        if node.op == "placeholder":
            held[node] = Value(node.meta["shape"])
        elif node.op == "get_attr":
            is_tensor = isinstance(attribute(module, str(node.target)), Tensor)
            held[node] = constant(node) if is_tensor else False
        elif node.op == "output":
            for value in values_in(fx.node.map_arg(node.args, held.__getitem__)):
                flow.pin_all(value, "reaches the model's output")
        else:
            made = call(node)
            args, kwargs = fx.node.map_arg((made.args, made.kwargs), held.__getitem__)
            held[node] = _apply(flow, made.target, args, kwargs)
    return held


def _apply(flow: Flow, target: Any, args: Any, kwargs: Any) -> Any:
    if target is operator.getitem:
        return args[0][args[1]]
    inputs = values_in((args, kwargs))
    if target is aten.sym_size.int:
        return inputs[0].shape[args[1]]
    shape = flow.node.meta["shape"]
    if not inputs and shape is None:
        return target(*args, **kwargs)
    function = rule_for(target)
    if function is None or flow.gives_up(None):
        return _left_alone(flow, inputs, f"{name_of(flow.node)} has no rule")
    try:
        return function(flow, *args, **kwargs)
    except _UNKNOWN_FORM as error:
        if not flow.gives_up(error):
            raise
        text = f"{name_of(flow.node)} in a form that its rule does not know ({error})"
        return _left_alone(flow, inputs, text)


_UNKNOWN_FORM = (TypeError, ValueError, IndexError, KeyError, RuntimeError, AssertionError)


def _left_alone(flow: Flow, inputs: Sequence[Value], reason: str) -> Any:
    """Nothing is known of what the node does: all it touches stays."""
    for value in inputs:
        flow.pin_all(value, reason)
    return unlabelled(flow.node.meta["shape"])


def unlabelled(shape: Any) -> Any:
    """A value (or tuple of values) of the given shape(s) that carries no labels."""
    if shape is None:
        return None
    if shape and isinstance(shape[0], tuple):
        return tuple(unlabelled(s) for s in shape)
    return Value(tuple(shape))


def values_in(tree: Any) -> list[Value]:
    """Every `Value` in nested arguments."""
    if isinstance(tree, Value):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, tuple | list):
        return [value for item in tree for value in values_in(item)]
    return []


def name_of(node: fx.Node) -> str:
    """An op as users know it: `aten.conv2d`."""
    return str(node.target).removesuffix(".default")


def where(node: fx.Node) -> str:
    """The user's source line of a node, or its name in the graph."""
    return source_of(node) or node.name
