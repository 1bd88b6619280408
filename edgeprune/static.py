"""A captured network as `torch.export` has it with every size fixed: what compilers read."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.export import ExportedProgram

from edgeprune.records import Graph


def static_program(graph: Graph, inputs: Sequence[Tensor] | None = None) -> ExportedProgram:
    """`graph` in eval mode, exported on `inputs` (its example inputs by default).

    The graph is not changed. Raises whatever `torch.export` raises.
    """
    # A copy, because the graph may be in the middle of training and must stay in that mode.
    # (It also drops the guard that forbids eval() on exported modules.)
    module = copy.deepcopy(graph.program)
    module.eval()
    with torch.no_grad():
        return torch.export.export(module, tuple(inputs or graph.example_inputs))
