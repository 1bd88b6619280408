"""Core ATen → the ops that `torch.export` itself records, in programs that users decomposed.

`ExportedProgram.run_decompositions()` leaves batch norms that cannot train, linear layers as
transposed products, and convolutions of one kind. The ops they came from say more: they train,
and every rule knows them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten

New = tuple[Any, tuple[Any, ...]]
Composition = Callable[[fx.Node], New | None]
_COMPOSITIONS: dict[Any, Composition] = {}
_CONVOLUTIONS = {
    1: (aten.conv1d.default, aten.conv_transpose1d.default),
    2: (aten.conv2d.default, aten.conv_transpose2d.input),
    3: (aten.conv3d.default, aten.conv_transpose3d.input),
}


def recompose(graph: fx.Graph) -> None:
    """Replace what `run_decompositions` made of norms, convolutions, linear layers and softmax."""
    for node in list(graph.nodes):
        compose = _COMPOSITIONS.get(node.target)
        made = compose(node) if compose is not None else None
        if made is None:
            continue
        old = _only_result(node)
        with graph.inserting_before(node):
            new = graph.call_function(*made)
        new.meta = dict(old.meta)
        old.replace_all_uses_with(new)
        for gone in [old, node] if old is not node else [node]:
            graph.erase_node(gone)


def composes(*ops: Any) -> Callable[[Composition], Composition]:
    """Register what an op came from: its target and arguments, or None where it cannot be told."""

    def register(function: Composition) -> Composition:
        for op in ops:
            if op in _COMPOSITIONS:
                raise ValueError(f"{op} is already registered")
            _COMPOSITIONS[op] = function
        return function

    return register


def _only_result(node: fx.Node) -> fx.Node:
    """The node itself, or where it has several results, the reader of the first."""
    readers = [user for user in node.users if user.target is operator.getitem]
    return readers[0] if readers else node


def _gives_first_only(node: fx.Node) -> bool:
    return [user.args[1:] for user in node.users if user.target is operator.getitem] == [(0,)]


@composes(aten._native_batch_norm_legit_no_training.default)
def batch_norm(node: fx.Node) -> New | None:
    if not _gives_first_only(node):
        return None
    *tensors, momentum, eps = node.args
    return aten.batch_norm.default, (*tensors, False, momentum, eps, False)


@composes(aten.native_layer_norm.default)
def layer_norm(node: fx.Node) -> New | None:
    if not _gives_first_only(node):
        return None
    return aten.layer_norm.default, (*node.args, False)


@composes(aten.native_group_norm.default)
def group_norm(node: fx.Node) -> New | None:
    if not _gives_first_only(node):
        return None
    x, weight, bias, _, _, _, groups, eps = node.args
    return aten.group_norm.default, (x, groups, weight, bias, eps, False)


@composes(aten.convolution.default)
def convolution(node: fx.Node) -> New | None:
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = node.args
    if not isinstance(stride, list | tuple) or len(stride) not in _CONVOLUTIONS:
        return None
    forward, backward = _CONVOLUTIONS[len(stride)]
    if transposed:
        return backward, (x, weight, bias, stride, padding, output_padding, groups, dilation)
    return forward, (x, weight, bias, stride, padding, dilation, groups)


@composes(aten.addmm.default)
def linear(node: fx.Node) -> New | None:
    bias, x, transposed = node.args
    weight = _transposed(transposed)
    if weight is None or node.kwargs:
        return None
    return aten.linear.default, (x, weight, bias)


@composes(aten.mm.default)
def linear_without_bias(node: fx.Node) -> New | None:
    x, transposed = node.args
    weight = _transposed(transposed)
    return None if weight is None else (aten.linear.default, (x, weight))


def _transposed(node: Any) -> fx.Node | None:
    """What a parameter was transposed from."""
    if not isinstance(node, fx.Node) or not node.args:
        return None
    source = node.args[0]
    turned = node.target is aten.t.default or (
        node.target is aten.permute.default and node.args[1] == [1, 0]
    )
    is_weight = isinstance(source, fx.Node) and source.op == "get_attr"
    return source if turned and is_weight else None  # type: ignore[return-value]


@composes(aten._softmax.default)
def softmax(node: fx.Node) -> New | None:
    x, dim, _half_to_float = node.args
    return aten.softmax.int, (x, dim)
