"""Graph → kernels: what XNNPACK really executes for a network, at any widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgeprune.cost import rules_compute, rules_elementwise, rules_int8, rules_layout
from edgeprune.cost.walk import Walk, delegate_calls
from edgeprune.records import Block, Extent, Graph, Kernel

# Importing the rules fills the table that Walk reads.
_RULE_FILES = (rules_compute, rules_elementwise, rules_int8, rules_layout)


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


def in_blocks(kernels: Sequence[Kernel], blocks: Sequence[Block]) -> tuple[Kernel, ...]:
    """The same kernels, each with the keys of the blocks that it vanishes with.

    Those are the blocks that hold all of its nodes. A kernel without nodes converts between layouts
    for the next one, and goes with it; an op outside the delegate takes one delegate call with it.
    An addition with an activation fused into it stays, although dropping its block leaves only the
    activation: the runtime's time for that was not measured.
    """
    inside = {block.key: {*block.nodes, block.add} for block in blocks}
    found: list[Kernel] = []
    keys: tuple[str, ...] = ()
    for kernel in reversed(kernels):
        if kernel.nodes:
            keys = tuple(key for key, nodes in inside.items() if nodes.issuperset(kernel.nodes))
        found.append(replace(kernel, blocks=keys))
    outside = iter([kernel.blocks for kernel in found if kernel.op.startswith("portable:")])
    return tuple(
        replace(kernel, blocks=next(outside, ())) if kernel.op == "delegate_call" else kernel
        for kernel in reversed(found)
    )
