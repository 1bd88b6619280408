"""Which nodes of a network in int8 run in int8, as the quantizer of XNNPACK marks it.

torchao's PT2E flow puts a pair of nodes, quantise and dequantise, behind every tensor that is to be
in int8. An op that XNNPACK has in int8, that reads only dequantised tensors and that is quantised
again, runs in int8, and the pairs around it do not run at all. What is left of the pairs converts.
"""

from __future__ import annotations

import torch
from torch import fx

aten = torch.ops.aten

QUANTISE = "quantized_decomposed.quantize_per_tensor.default"
DEQUANTISE = "quantized_decomposed.dequantize_per_tensor.default"
_DEQUANTISE = (DEQUANTISE, "quantized_decomposed.dequantize_per_channel.default")
INT8 = "int8"

_ACTIVATIONS = frozenset(
    (
        *(aten.relu.default, aten.relu_.default, aten.relu6.default),
        *(aten.hardtanh.default, aten.hardtanh_.default, aten.clamp.default),
    )
)
_FUSING = frozenset(
    (
        *(aten.conv2d.default, aten.conv2d.padding, aten.conv_transpose2d.input),
        *(aten.linear.default, aten.add.Tensor, aten.mul.Tensor, aten.sub.Tensor),
    )
)
_IN_INT8 = frozenset(
    (
        *_ACTIVATIONS,
        *_FUSING,
        *(aten.cat.default, aten.permute.default, aten.transpose.int, aten.slice.Tensor),
        *(aten.max_pool2d.default, aten.mean.dim, aten.adaptive_avg_pool2d.default),
        *(aten.view.default, aten.reshape.default, aten.flatten.using_ints),
        *(aten.squeeze.dim, aten.unsqueeze.default, aten.dropout.default),
    )
)
"""The ops with the precision "static quant" in the wheel's partitioner (executorch 1.5.1,
backends/xnnpack/partition/config), and those that are decomposed into them."""


def in_int8(node: fx.Node) -> bool:
    """Whether `node` runs in int8, with the activation that is fused into it if there is one."""
    if is_quantise(node):
        return True
    if node.target not in _IN_INT8:
        return False
    last = node
    if node.target in _FUSING and len(node.users) == 1:
        (user,) = node.users
        last = user if user.target in _ACTIVATIONS else node
    read = [source for source in node.all_input_nodes if source.op != "get_attr"]
    return (
        all(str(source.target) in _DEQUANTISE for source in read)
        and bool(last.users)
        and all(is_quantise(user) for user in last.users)
    )


def is_quantise(node: fx.Node) -> bool:
    """Whether `node` makes int8 of fp32."""
    return str(node.target) == QUANTISE


def stored(node: fx.Node) -> fx.Node:
    """The constant behind a dequantised one; `node` where that is not what it is."""
    return node.all_input_nodes[0] if str(node.target) in _DEQUANTISE else node
