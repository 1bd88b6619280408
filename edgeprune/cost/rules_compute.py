"""What runs for convolutions, linears, batch norms, poolings and attention."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import fx

from edgeprune.cost.rules_outside import outside
from edgeprune.cost.walk import Dims, Walk, rule
from edgeprune.records import Extent

aten = torch.ops.aten

_BATCH_NORM = (aten.batch_norm.default,)
_ACTIVATIONS = (
    aten.relu.default,
    aten.relu_.default,
    aten.relu6.default,
    aten.hardtanh.default,
    aten.hardtanh_.default,
)


def argument(node: fx.Node, index: int, default: Any) -> Any:
    """A positional argument, or the default where the call stops short of it."""
    return node.args[index] if index < len(node.args) else default


def pair(value: Any) -> tuple[int, int]:
    """A spatial argument as (height, width): ATen also takes one number for both."""
    if isinstance(value, int):
        return (value, value)
    values = tuple(int(v) for v in value)
    return (values[0], values[-1])


def activation_name(node: fx.Node | None) -> str | None:
    """How a fused activation is named in a kernel's attributes."""
    if node is None:
        return None
    if node.target in (aten.relu.default, aten.relu_.default):
        return "relu"
    if node.target == aten.relu6.default:
        return "relu6"
    low, high = float(argument(node, 1, -1.0)), float(argument(node, 2, 1.0))
    return "relu6" if (low, high) == (0.0, 6.0) else f"clamp({low},{high})"


def fused(walk: Walk, node: fx.Node, *, norm: bool) -> tuple[list[fx.Node], str | None]:
    """`node` and the readers that are fused into it, and the activation among them."""
    nodes = [node]
    bn = walk.only_user(node, _BATCH_NORM) if norm else None
    if bn is not None:
        nodes.append(bn)
    activation = walk.only_user(nodes[-1], _ACTIVATIONS)
    if activation is not None:
        nodes.append(activation)
    return nodes, activation_name(activation)


@rule(aten.conv2d.default, aten.conv2d.padding)
def conv(walk: Walk, node: fx.Node) -> None:
    """Convolution; depthwise to XNNPACK is one input channel per group, even with one group."""
    weight = walk.constant(walk.source(node, 1)).shape
    source, dims_out = walk.source(node), walk.dims(node)
    stride, dilation = pair(argument(node, 3, 1)), pair(argument(node, 5, 1))
    kernel, padding = (int(weight[2]), int(weight[3])), argument(node, 4, 0)
    if padding == "same":
        total = tuple(d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
        top, left = total[0] // 2, total[1] // 2
        sides = (top, total[1] - left, total[0] - top, left)
    else:
        high, wide = (0, 0) if padding == "valid" else pair(padding)
        sides = (high, wide, high, wide)
    call = walk.call_for(node)
    nodes, activation = fused(walk, node, norm=True)
    dims_in = walk.read(source, "nhwc", call)
    walk.emit(
        "dwconv" if weight[1] == 1 else "conv",
        nodes,
        (dims_in,),
        out_channels=dims_out[1],
        kernel=kernel,
        stride=stride,
        padding=sides,
        dilation=dilation,
        groups=_groups(walk, node, int(argument(node, 6, 1))),
        activation=activation,
    )
    walk.write(nodes, "nhwc", call)


@rule(aten.conv_transpose2d.input)
def conv_transpose(walk: Walk, node: fx.Node) -> None:
    weight, source = walk.constant(walk.source(node, 1)).shape, walk.source(node)
    high, wide = pair(argument(node, 4, 0))
    call = walk.call_for(node)
    nodes, activation = fused(walk, node, norm=True)
    walk.emit(
        "conv_transpose",
        nodes,
        (walk.read(source, "nhwc", call),),
        out_channels=walk.dims(node)[1],
        kernel=(int(weight[2]), int(weight[3])),
        stride=pair(argument(node, 3, 1)),
        padding=(high, wide, high, wide),
        output_padding=pair(argument(node, 5, 0)),
        dilation=pair(argument(node, 7, 1)),
        groups=int(argument(node, 6, 1)),
        activation=activation,
    )
    walk.write(nodes, "nhwc", call)


def _groups(walk: Walk, node: fx.Node, groups: int) -> int | Extent:
    """A grouped convolution's groups: fixed, or as many as channels where each part is whole.

    Where channels go but the weight's own input dimension stays, whole groups go.
    """
    source, weight = walk.source(node), walk.source(node, 1)
    channels, inside = walk.dims(source)[1], walk.dims(weight)[1]
    if groups == 1 or not channels.groups or inside.groups:
        return groups
    each = inside.fixed
    return Extent(
        channels.fixed // each,
        tuple((name, Fraction(times) / each) for name, times in channels.terms),
        tuple((a, b, Fraction(times) / each) for a, b, times in channels.products),
    )


@rule(*_BATCH_NORM)
def batch_norm(walk: Walk, node: fx.Node) -> None:
    """A batch norm that no convolution takes in: a depthwise 1×1 convolution (on images)."""
    source = walk.source(node)
    if len(walk.dims(source)) != 4:
        outside(walk, node)
        return
    call = walk.call_for(node)
    nodes, activation = fused(walk, node, norm=False)
    dims = walk.read(source, "nhwc", call)
    walk.emit(
        "dwconv",
        nodes,
        (dims,),
        out_channels=dims[1],
        kernel=(1, 1),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        dilation=(1, 1),
        groups=dims[1],
        activation=activation,
    )
    walk.write(nodes, "nhwc", call)


@rule(aten.linear.default)
def linear(walk: Walk, node: fx.Node) -> None:
    source = walk.source(node)
    call = walk.call_for(node)
    nodes, activation = fused(walk, node, norm=True)
    dims = walk.read(source, "nchw", call)
    walk.emit("linear", nodes, (dims,), out_channels=walk.dims(node)[-1], activation=activation)
    walk.write(nodes, "nchw", call)


@rule(aten.max_pool2d.default)
def max_pool(walk: Walk, node: fx.Node) -> None:
    """Args: input, kernel, stride, padding, dilation, ceil. Ceil is extra padding at the end."""
    kernel = pair(node.args[1])
    stride = pair(argument(node, 2, None) or kernel)
    if stride[0] > kernel[0] or stride[1] > kernel[1]:
        outside(walk, node)
        return
    _pool(walk, node, "max_pool", stride, dilation=pair(argument(node, 4, 1)))


@rule(aten.avg_pool2d.default)
def avg_pool(walk: Walk, node: fx.Node) -> None:
    """Args: input, kernel, stride, padding, ceil, count_include_pad, divisor."""
    kernel = pair(node.args[1])
    padded = any(pair(argument(node, 3, 0)))
    divisor = argument(node, 6, None)
    if (
        argument(node, 4, False)
        or (padded and argument(node, 5, True))
        or divisor not in (None, kernel[0] * kernel[1])
    ):
        outside(walk, node)
        return
    _pool(walk, node, "avg_pool", pair(argument(node, 2, None) or kernel))


def _pool(walk: Walk, node: fx.Node, op: str, stride: tuple[int, int], **attrs: Any) -> None:
    source, kernel, pad = walk.source(node), pair(node.args[1]), pair(argument(node, 3, 0))
    call = walk.call_for(node)
    dims, out = walk.read(source, "nhwc", call), walk.dims(node)
    dilation = attrs.get("dilation", (1, 1))
    end = [
        # What the last window needs beyond the input; with ceil this is more than the padding.
        max(p, (o.fixed - 1) * s + d * (k - 1) + 1 - i.fixed - p)
        for p, o, s, d, k, i in zip(pad, out[2:], stride, dilation, kernel, dims[2:], strict=True)
    ]
    sides = (pad[0], end[1], end[0], pad[1])
    walk.emit(op, [node], (dims,), kernel=kernel, stride=stride, padding=sides, **attrs)
    walk.write([node], "nhwc", call)


@rule(aten.adaptive_avg_pool2d.default)
def adaptive_pool(walk: Walk, node: fx.Node) -> None:
    """To one pixel it is a mean; to more it falls out of the delegate."""
    if pair(node.args[1]) == (1, 1):
        _global_pool(walk, node)
    else:
        outside(walk, node)


@rule(aten.mean.dim)
def mean(walk: Walk, node: fx.Node) -> None:
    """A mean over an image that keeps its dimensions; others fall out of the delegate."""
    source = walk.source(node)
    rank = len(walk.dims(source))
    axes = sorted(int(d) % rank for d in argument(node, 1, None) or range(rank))
    if rank == 4 and axes == [2, 3] and argument(node, 2, False):
        _global_pool(walk, node)
    else:
        outside(walk, node)


def _global_pool(walk: Walk, node: fx.Node) -> None:
    source = walk.source(node)
    call = walk.call_for(node)
    walk.emit("global_avg_pool", [node], (walk.read(source, "nhwc", call),))
    walk.write([node], "nhwc", call)


@rule(aten.bmm.default, aten.matmul.default)
def matmul(walk: Walk, node: fx.Node) -> None:
    """A product of two computed tensors of the same rank; others fall out of the delegate."""
    sources = walk.computed(node)
    if len(sources) != 2 or len({len(walk.dims(s)) for s in sources}) != 1:
        outside(walk, node)
        return
    call = walk.call_for(node)
    dims = [walk.read(source, "nchw", call) for source in sources]
    walk.emit("bmm", [node], dims)
    walk.write([node], "nchw", call)


@rule(aten.scaled_dot_product_attention.default)
def attention(walk: Walk, node: fx.Node) -> None:
    """Scale queries and keys, multiply, softmax, multiply: what the attention decomposes into."""
    query, key, value = (walk.source(node, i) for i in range(3))
    call = walk.call_for(node)
    q, k, v = (walk.read(source, "nchw", call) for source in (query, key, value))
    one: Dims = (Extent(1),)
    turned = (*k[:-2], k[-1], k[-2])
    scores = (*q[:-1], k[-2])
    walk.emit("mul", [node], (q, one))
    walk.emit("transpose", [node], (k,), perm=(*range(len(k) - 2), len(k) - 1, len(k) - 2))
    walk.emit("mul", [node], (turned, one))
    walk.emit("bmm", [node], (q, turned))
    walk.emit("softmax", [node], (scores,))
    walk.emit("bmm", [node], (scores, v))
    walk.write([node], "nchw", call)
