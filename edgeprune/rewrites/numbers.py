"""Whole numbers beside tensors of floating point, as 3 in x + 3, and what is decomposed to such.

Upstream makes a tensor of integers of each, which is converted outside of the delegate at every
call; a number of floating point stays within.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx

from edgeprune.rewrites.core import rewrite

if TYPE_CHECKING:
    from torch.export import ExportedProgram

aten = torch.ops.aten

NUMBERS = "numbers"
"""The name under which numbers are counted."""

_OPERATORS = (
    *(aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.rsub.Scalar),
    *(aten.add_.Tensor, aten.sub_.Tensor, aten.mul_.Tensor, aten.div_.Tensor),
)


@rewrite(NUMBERS, aten.hardsigmoid.default)
def hardsigmoid(x: Tensor) -> Tensor:
    """As upstream decomposes it."""
    return torch.clamp(x + 3.0, 0.0, 6.0) / 6.0


def is_whole(node: fx.Node) -> bool:
    """Whether a node's operator takes a whole number beside a tensor of floating point (or of a
    type that the node does not tell)."""
    if node.target not in _OPERATORS or [type(other) for other in node.args[1:2]] != [int]:
        return False
    value = node.meta.get("val")
    return not isinstance(value, Tensor) or value.is_floating_point()


def in_floating_point(program: ExportedProgram) -> int:
    """Let whole numbers in `program` (changed) be of floating point. Returns how often."""
    changed = 0
    for node in program.graph.nodes:
        if is_whole(node):
            node.update_arg(1, float(node.args[1]))
            changed += 1
    return changed
