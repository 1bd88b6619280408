"""Graph → kernels: what XNNPACK really executes for a network, at any widths."""

from __future__ import annotations

from collections.abc import Mapping

from edgeprune.cost import rules_compute, rules_elementwise, rules_layout
from edgeprune.cost.walk import Walk, delegate_calls
from edgeprune.records import Extent, Graph, Kernel

# Importing the rules fills the table that Walk reads.
_RULE_FILES = (rules_compute, rules_elementwise, rules_layout)


def kernels(graph: Graph, extents: Mapping[str, tuple[Extent, ...]]) -> tuple[Kernel, ...]:
    """The kernels of `graph` in order of execution, batch 1, sizes as functions of widths.

    `extents` gives each tensor node's dimensions (`ChannelGroups.extents`). Batch norm is folded
    into the convolution or linear before it, ReLU and hardtanh are fused where ExecuTorch fuses
    them, transpositions between layouts are kernels of their own, views are free. An op that falls
    out of the delegate is a kernel named "portable:<ATen op>"; each delegate call that the network
    is cut into is a kernel "delegate_call" (the time of entering and leaving it).
    """
    # Which ops fall out is known once all rules have run; where the network is cut follows from it.
    first = Walk(graph.program, extents)
    first.run()
    calls = delegate_calls(graph.program.graph, first.left)
    return Walk(graph.program, extents, calls).run()
