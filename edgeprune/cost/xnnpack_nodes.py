"""How each kernel is written as an XNNPACK node: one small function per family of ops.

Field names and layouts follow the wheel's XNNPACK schema: images N H W C, convolution weights
O H W I, depthwise weights 1 H W (C times multiplier), linear weights O I. Keys speak of N C H W.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeprune.cost.shapes import Shape, output_shape
from edgeprune.cost.xnnpack_graph import FP32, INT8, KEEP_DIMS, Graph
from edgeprune.records import KernelKey

WEIGHTED = frozenset({"conv", "dwconv", "conv_transpose", "linear"})
"""The ops that have weights."""

_Emit = Callable[[Graph, KernelKey, Mapping[str, Any]], None]
_EMITTERS: dict[str, _Emit] = {}


def emitter(*ops: str) -> Callable[[_Emit], _Emit]:
    """Registers how `ops` are written into a graph; a second registration raises."""

    def register(function: _Emit) -> _Emit:
        for op in ops:
            if op in _EMITTERS:
                raise ValueError(f"{op} has two emitters")
            _EMITTERS[op] = function
        return function

    return register


def delegated(op: str) -> bool:
    """Whether `op` is one that can be written as an XNNPACK node."""
    return op in _EMITTERS


def kernel_graph(key: KernelKey, name: str = "k") -> Graph:
    """The one-node XNNPACK graph of `key`. Raises KeyError where `delegated` says no."""
    attrs = dict(key.attrs)
    dtype = FP32 if attrs.get("dtype") is None else INT8
    graph = Graph(name, dtype, dtype)
    _EMITTERS[key.op](graph, key, attrs)
    return graph


def nhwc(shape: Shape, layout: str = "nhwc") -> Shape:
    """A shape as XNNPACK keeps it: channels last where the network keeps it so."""
    if layout == "nhwc" and len(shape) == 4:
        return (shape[0], shape[2], shape[3], shape[1])
    return shape


# --- convolution and linear ------------------------------------------------------------------


@emitter("conv", "dwconv", "conv_transpose")
def _convolution(graph: Graph, key: KernelKey, attrs: Mapping[str, Any]) -> None:
    """One of the three convolutions with its bias; batch norm is folded in before this point."""
    kinds = {
        "conv": "XNNConv2d",
        "dwconv": "XNNDepthwiseConv2d",
        "conv_transpose": "XNNConvTranspose2d",
    }
    (kh, kw), groups = attrs["kernel"], attrs["groups"]
    c_in, c_out = key.shapes[0][1] // groups, attrs["out_channels"] // groups
    filters = (1, kh, kw, groups * c_out) if key.op == "dwconv" else (groups * c_out, kh, kw, c_in)
    source = graph.input(nhwc(key.shapes[0]))
    top, right, bottom, left = attrs["padding"]
    adjust = attrs.get("output_padding", (0, 0))
    graph.node(
        kinds[key.op],
        attrs.get("activation"),
        padding_top=top,
        padding_right=right,
        padding_bottom=bottom,
        padding_left=left,
        kernel_height=kh,
        kernel_width=kw,
        subsampling_height=attrs["stride"][0],
        subsampling_width=attrs["stride"][1],
        dilation_height=attrs["dilation"][0],
        dilation_width=attrs["dilation"][1],
        group_input_channels=c_in,
        group_output_channels=c_out,
        groups=groups,
        adjustment_height=adjust[0],
        adjustment_width=adjust[1],
        input1_id=source,
        filter_id=graph.weights(filters, 3 if key.op == "dwconv" else 0),
        bias_id=graph.bias(groups * c_out),
        output_id=graph.result(nhwc(output_shape(key))),
    )


@emitter("linear")
def _linear(graph: Graph, key: KernelKey, attrs: Mapping[str, Any]) -> None:
    c_out = attrs["out_channels"]
    graph.node(
        "XNNFullyConnected",
        attrs.get("activation"),
        input1_id=graph.input(key.shapes[0]),
        filter_id=graph.weights((c_out, key.shapes[0][-1])),
        bias_id=graph.bias(c_out),
        output_id=graph.result(output_shape(key)),
    )


# --- pooling ---------------------------------------------------------------------------------


@emitter("max_pool", "avg_pool")
def _pool(graph: Graph, key: KernelKey, attrs: Mapping[str, Any]) -> None:
    top, right, bottom, left = attrs["padding"]
    dilation = attrs.get("dilation", (1, 1))
    graph.node(
        "XNNMaxPooling2d" if key.op == "max_pool" else "XNNAvgPooling2d",
        padding_top=top,
        padding_right=right,
        padding_bottom=bottom,
        padding_left=left,
        pooling_height=attrs["kernel"][0],
        pooling_width=attrs["kernel"][1],
        stride_height=attrs["stride"][0],
        stride_width=attrs["stride"][1],
        dilation_height=dilation[0],
        dilation_width=dilation[1],
        input_id=graph.input(nhwc(key.shapes[0])),
        output_id=graph.result(nhwc(output_shape(key))),
        flags=KEEP_DIMS if key.op == "max_pool" else 0,
    )


@emitter("global_avg_pool")
def _global_pool(graph: Graph, key: KernelKey, attrs: Mapping[str, Any]) -> None:
    graph.node(
        "XNNGlobalAvgPooling2d",
        input_id=graph.input(nhwc(key.shapes[0])),
        output_id=graph.result(nhwc(output_shape(key))),
        flags=KEEP_DIMS,
    )


# --- elementwise -----------------------------------------------------------------------------

_BINARY = {
    "add": "XNNAdd",
    "sub": "XNNSubtract",
    "mul": "XNNMultiply",
    "div": "XNNDiv",
    "maximum": "XNNMaximum",
    "minimum": "XNNMinimum",
    "bmm": "XNNBatchMatrixMultiply",
}
_UNARY = {
    "hardswish": "XNNHardswish",
    "sigmoid": "XNNSigmoid",
    "gelu": "XNNGelu",
    "tanh": "XNNTanh",
    "abs": "XNNAbs",
    "neg": "XNNNegate",
    "square": "XNNSquare",
    "sqrt": "XNNSquareRoot",
    "rsqrt": "XNNReciprocalSquareRoot",
    "exp": "XNNExp",
    "log": "XNNLog",
    "floor": "XNNFloor",
    "ceil": "XNNCeiling",
    "softmax": "XNNSoftmax",
    "delegate_call": "XNNCopy",  # of one number: what is left is entering and leaving the delegate
}


@emitter(*_BINARY)
def _binary(graph: Graph, key: KernelKey, attrs: Mapping[str, Any]) -> None:
    layout = attrs.get("layout", "nchw")
    first, second = (graph.input(nhwc(shape, layout)) for shape in key.shapes)
    graph.node(
        _BINARY[key.op],
        attrs.get("activation"),
        input1_id=first,
        input2_id=second,
        output_id=graph.result(nhwc(output_shape(key), layout)),
    )


@emitter(*_UNARY)
def _unary(graph: Graph, key: KernelKey, attrs: Mapping[str, Any]) -> None:
    _one_to_one(graph, _UNARY[key.op], key, attrs)


@emitter("clamp")
def _clamp(graph: Graph, key: KernelKey, attrs: Mapping[str, Any]) -> None:
    _one_to_one(graph, "XNNClamp", key, attrs, activation=attrs["activation"])


@emitter("leaky_relu")
def _leaky_relu(graph: Graph, key: KernelKey, attrs: Mapping[str, Any]) -> None:
    _one_to_one(graph, "XNNLeakyReLU", key, attrs, negative_slope=attrs["slope"])


@emitter("convert")
def _convert(graph: Graph, key: KernelKey, attrs: Mapping[str, Any]) -> None:
    """fp32 to int8, or back."""
    graph.read, graph.written = (FP32, INT8) if attrs["to"] == "int8" else (INT8, FP32)
    _one_to_one(graph, "XNNConvert", key, attrs)


def _one_to_one(
    graph: Graph, kind: str, key: KernelKey, attrs: Mapping[str, Any], **fields: Any
) -> None:
    layout = attrs.get("layout", "nchw")
    graph.node(
        kind,
        fields.pop("activation", None),
        input_id=graph.input(nhwc(key.shapes[0], layout)),
        output_id=graph.result(nhwc(output_shape(key), layout)),
        **fields,
    )


# --- moving data -----------------------------------------------------------------------------


@emitter("cat")
def _cat(graph: Graph, key: KernelKey, attrs: Mapping[str, Any]) -> None:
    """Two to five tensors side by side."""
    layout, axis = attrs.get("layout", "nchw"), attrs["axis"]
    sources = [graph.input(nhwc(shape, layout)) for shape in key.shapes]
    if layout == "nhwc" and len(key.shapes[0]) == 4:
        axis = (0, 3, 1, 2)[axis]
    inputs: dict[str, Any] = {f"input{i + 1}_id": source for i, source in enumerate(sources)}
    result = graph.result(nhwc(output_shape(key), layout))
    graph.node(f"XNNConcatenate{len(sources)}", axis=axis, output_id=result, **inputs)


@emitter("transpose")
def _transpose(graph: Graph, key: KernelKey, attrs: Mapping[str, Any]) -> None:
    graph.node(
        "XNNStaticTranspose",
        num_dims=len(attrs["perm"]),
        perm=attrs["perm"],
        input_id=graph.input(key.shapes[0]),
        output_id=graph.result(output_shape(key)),
    )


@emitter("pad")
def _pad(graph: Graph, key: KernelKey, attrs: Mapping[str, Any]) -> None:
    layout, (inner, outer) = attrs.get("layout", "nchw"), key.shapes
    # A pruned network may pad fewer channels in front than the original did.
    sizes = list(zip(attrs["before"], inner, outer, strict=True))
    before = tuple(min(b, o - i) for b, i, o in sizes)
    after = tuple(o - i - min(b, o - i) for b, i, o in sizes)
    graph.node(
        "XNNStaticConstantPad",
        pre_paddings=nhwc(before, layout),
        post_paddings=nhwc(after, layout),
        padding_value=0.0,
        input_id=graph.input(nhwc(inner, layout)),
        output_id=graph.result(nhwc(outer, layout)),
    )


@emitter("slice")
def _slice(graph: Graph, key: KernelKey, attrs: Mapping[str, Any]) -> None:
    layout, (whole, part) = attrs.get("layout", "nchw"), key.shapes
    axis = attrs["axis"]
    start = min(attrs["start"], whole[axis] - part[axis])
    offsets = tuple(start if d == axis else 0 for d in range(len(whole)))
    graph.node(
        "XNNStaticSlice",
        num_dims=len(whole),
        offsets=nhwc(offsets, layout),
        sizes=nhwc(part, layout),
        input_id=graph.input(nhwc(whole, layout)),
        output_id=graph.result(nhwc(part, layout)),
    )
