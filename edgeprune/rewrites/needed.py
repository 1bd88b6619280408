"""Whether a network has anything to rewrite: most convolutional ones have not, and are left as
they are, since tracing the rewrites into a program takes seconds."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

from edgeprune.rewrites.constants import shaped_like
from edgeprune.rewrites.core import rewrites
from edgeprune.rewrites.numbers import is_whole

aten = torch.ops.aten

_LOOKED_AT = (
    aten.scaled_dot_product_attention.default,
    aten.expand.default,
    aten.hardsigmoid_.default,
    *shaped_like(),
)
"""What passes of their own may change, as no table of operators says."""


def needed(graph: fx.Graph, inputs: Collection[str] | None = None) -> bool:
    """Whether a rewrite applies to a node of `graph`, or one computes from constants alone.

    `inputs` names the placeholders that are the network's inputs (by default all), the others hold
    parameters. Shapes are taken for a batch of one where they are open.
    """
    table = rewrites()
    flowing: set[fx.Node] = set()
    with FakeTensorMode():
        for node in graph.nodes:
            if node.op == "placeholder" and (inputs is None or node.name in inputs):
                flowing.add(node)
            if node.op != "call_function":
                continue
            looked_at = node.target in _LOOKED_AT or is_whole(node)
            if looked_at or flowing.isdisjoint(node.all_input_nodes):
                return True
            flowing.add(node)
            if node.target in table:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), _stand_in)
                if table[node.target](*args, **kwargs) is not NotImplemented:
                    return True
    return False


def _stand_in(node: fx.Node) -> Any:
    """A tensor of the node's shape; 1 for what is none, a size that is the batch."""
    value, shape = node.meta.get("val"), node.meta.get("shape")
    if isinstance(value, Tensor):
        return torch.empty(value.shape if shape is None else shape, dtype=value.dtype)
    return 1 if shape is None else torch.empty(shape)
