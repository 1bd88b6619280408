"""What runs where tensors go into int8 and come out of it."""

from __future__ import annotations

from torch import fx

from edgeprune.cost.int8_nodes import DEQUANTISE, INT8, QUANTISE, in_int8
from edgeprune.cost.walk import Walk, rule


@rule(QUANTISE)
def quantise(walk: Walk, node: fx.Node) -> None:
    source = walk.source(node)
    if walk.is_int8(source):
        walk.same(node, source)
    else:
        _convert(walk, node, to=INT8)


@rule(DEQUANTISE)
def dequantise(walk: Walk, node: fx.Node) -> None:
    source = walk.source(node)
    if all(in_int8(user) for user in node.users):
        walk.same(node, source)
    else:
        _convert(walk, node, to="fp32")


def _convert(walk: Walk, node: fx.Node, to: str) -> None:
    source, call = walk.source(node), walk.call_for(node)
    layout = walk.layout([source], call)
    walk.emit("convert", (), (walk.read(source, layout, call),), to=to)
    walk.write([node], layout, call)
