"""What runs for ops that compute each element by itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from edgeprune.cost.rules_compute import activation_name, argument, fused
from edgeprune.cost.rules_outside import outside
from edgeprune.cost.walk import Dims, Layout, Walk, rule
from edgeprune.records import Extent

aten = torch.ops.aten

_SCALAR: Dims = (Extent(1),)
_BINARY: dict[Any, str] = {
    aten.add.Tensor: "add",
    aten.add_.Tensor: "add",
    aten.sub.Tensor: "sub",
    aten.sub_.Tensor: "sub",
    aten.mul.Tensor: "mul",
    aten.mul_.Tensor: "mul",
    aten.div.Tensor: "div",
    aten.div_.Tensor: "div",
    aten.add.Scalar: "add",
    aten.sub.Scalar: "sub",
    aten.mul.Scalar: "mul",
    aten.div.Scalar: "div",
    aten.maximum.default: "maximum",
    aten.minimum.default: "minimum",
}
_FUSES = {"add", "sub", "mul"}
_UNARY: dict[Any, str] = {
    aten.hardswish.default: "hardswish",
    aten.hardswish_.default: "hardswish",
    aten.sigmoid.default: "sigmoid",
    aten.sigmoid_.default: "sigmoid",
    aten.gelu.default: "gelu",
    aten.tanh.default: "tanh",
    aten.tanh_.default: "tanh",
    aten.abs.default: "abs",
    aten.neg.default: "neg",
    aten.sqrt.default: "sqrt",
    aten.rsqrt.default: "rsqrt",
    aten.exp.default: "exp",
    aten.log.default: "log",
    aten.floor.default: "floor",
    aten.ceil.default: "ceil",
}


@rule(*_BINARY)
def binary(walk: Walk, node: fx.Node) -> None:
    """Two tensors, or a tensor and a number. A constant that is no image forces N C H W."""
    alpha = node.kwargs.get("alpha", 1)
    if alpha != 1 or node.kwargs.get("rounding_mode") is not None:
        outside(walk, node)
        return
    op, call = _BINARY[node.target], walk.call_for(node)
    sources = walk.computed(node)
    operands = [_operand(walk, arg) for arg in node.args[:2]]
    layout = walk.layout(sources, call, converts=all(len(d) == 4 for d in operands))
    for source in sources:
        walk.read(source, layout, call)
    nodes, activation = fused(walk, node, norm=False) if op in _FUSES else ([node], None)
    walk.emit(op, nodes, operands, layout=_named(walk, node, layout), activation=activation)
    walk.write(nodes, layout, call)


def _operand(walk: Walk, arg: Any) -> Dims:
    return (walk.dims(arg) or _SCALAR) if walk.is_tensor(arg) else _SCALAR


@rule(*_UNARY)
def unary(walk: Walk, node: fx.Node) -> None:
    _one(walk, node, _UNARY[node.target])


@rule(
    aten.relu.default,
    aten.relu_.default,
    aten.relu6.default,
    aten.hardtanh.default,
    aten.hardtanh_.default,
)
def activation(walk: Walk, node: fx.Node) -> None:
    """One that nothing took in."""
    _one(walk, node, "clamp", activation=activation_name(node))


@rule(aten.clamp.default, aten.clamp_.default)
def clamp(walk: Walk, node: fx.Node) -> None:
    low, high = argument(node, 1, None), argument(node, 2, None)
    low = float("-inf") if low is None else float(low)
    high = float("inf") if high is None else float(high)
    _one(walk, node, "clamp", activation=f"clamp({low},{high})")


@rule(aten.leaky_relu.default, aten.leaky_relu_.default)
def leaky_relu(walk: Walk, node: fx.Node) -> None:
    _one(walk, node, "leaky_relu", slope=float(argument(node, 1, 0.01)))


@rule(aten.pow.Tensor_Scalar)
def power(walk: Walk, node: fx.Node) -> None:
    if node.args[1] == 2:
        _one(walk, node, "square")
    else:
        outside(walk, node)


@rule(aten.softmax.int, aten._softmax.default)
def softmax(walk: Walk, node: fx.Node) -> None:
    """Only along the last dimension; others fall out of the delegate."""
    source = walk.source(node)
    rank = len(walk.dims(source))
    if int(argument(node, 1, -1)) % rank != rank - 1:
        outside(walk, node)
        return
    call = walk.call_for(node)
    walk.emit("softmax", [node], (walk.read(source, "nchw", call),))
    walk.write([node], "nchw", call)


@rule(aten.silu.default, aten.silu_.default)
def silu(walk: Walk, node: fx.Node) -> None:
    """x · sigmoid(x), as it is decomposed."""
    layout, call, dims = _start(walk, node)
    walk.emit("sigmoid", [node], (dims,), layout=_named(walk, node, layout))
    walk.emit("mul", [node], (dims, dims), layout=_named(walk, node, layout))
    walk.write([node], layout, call)


@rule(aten.hardsigmoid.default, aten.hardsigmoid_.default)
def hardsigmoid(walk: Walk, node: fx.Node) -> None:
    """clamp(x + 3, 0, 6) / 6, as it is decomposed; the numbers force N C H W."""
    source = walk.source(node)
    call = walk.call_for(node)
    dims = walk.read(source, "nchw", call)
    walk.emit("add", [node], (dims, _SCALAR))
    walk.emit("clamp", [node], (dims,), activation="relu6")
    walk.emit("div", [node], (dims, _SCALAR))
    walk.write([node], "nchw", call)


def _one(walk: Walk, node: fx.Node, op: str, **attrs: Any) -> None:
    layout, call, dims = _start(walk, node)
    walk.emit(op, [node], (dims,), layout=_named(walk, node, layout), **attrs)
    walk.write([node], layout, call)


def _start(walk: Walk, node: fx.Node) -> tuple[Layout, int, Dims]:
    source, call = walk.source(node), walk.call_for(node)
    layout = walk.layout([source], call)
    return layout, call, walk.read(source, layout, call)


def _named(walk: Walk, node: fx.Node, layout: Layout) -> str | None:
    # Only images have two layouts; leaving the name out lets equal kernels share a measurement.
    return layout if len(walk.dims(node)) == 4 else None
