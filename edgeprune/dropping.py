"""Dropping residual blocks from a graph, and the same by multiplying their branches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import fx, nn

from edgeprune.dataflow import Dataflow, Readers
from edgeprune.records import Block

aten = torch.ops.aten


def chosen(blocks: Iterable[Block], names: Sequence[str]) -> tuple[Block, ...]:
    """Those of `blocks` that are named."""
    return tuple(block for block in blocks if block.name in names)


def drop(module: fx.GraphModule, blocks: Iterable[Block]) -> None:
    """Take the branches of `blocks` out of `module`: every addition becomes its other operand.

    What only they read goes with them: nodes, parameters, buffers. Views become reshapes, since
    the shortcut may lie in memory in another order than the sum did.
    """
    cuts = _cuts(module, blocks)
    dead = Dataflow(module.graph).without(cuts)
    lost = Readers(module).unread(set(dead))
    places = [(add, 1 - add.args.index(branch)) for add, branch in cuts]
    for add, place in places:  # read late: the operand may be an addition that is gone by now
        stays = add.args[place]
        assert isinstance(stays, fx.Node)
        add.replace_all_uses_with(stays)
    order = {node: i for i, node in enumerate(module.graph.nodes)}
    for node in sorted({*dead, *(add for add, _ in cuts)}, key=order.__getitem__, reverse=True):
        module.graph.erase_node(node)
    for node in module.graph.nodes:
        if node.target is aten.view.default:
            node.target = aten.reshape.default
    module.recompile()
    for name in lost:
        _discard(module, name)


def scale_branches(module: fx.GraphModule, factors: Iterable[tuple[Block, float | str]]) -> None:
    """Multiply the branch of each block: by a number, or by the parameter of that name."""
    for block, factor in factors:
        ((add, branch),) = _cuts(module, [block])
        graph = module.graph
        with graph.inserting_before(add):
            by = graph.get_attr(factor) if isinstance(factor, str) else factor
            scaled = graph.call_function(aten.mul.Tensor, (branch, by))
        scaled.meta = dict(branch.meta)
        add.update_arg(add.args.index(branch), scaled)
    module.recompile()


def _cuts(module: fx.GraphModule, blocks: Iterable[Block]) -> list[tuple[fx.Node, fx.Node]]:
    """The (addition, branch) of each block, in the graph's order."""
    nodes = {node.name: node for node in module.graph.nodes}
    order = {name: i for i, name in enumerate(nodes)}
    return [(nodes[b.add], nodes[b.branch]) for b in sorted(blocks, key=lambda b: order[b.add])]


def _discard(module: nn.Module, name: str) -> None:
    """Delete a parameter or buffer, and the modules that only held it."""
    path, _, leaf = name.rpartition(".")
    delattr(module.get_submodule(path), leaf)
    while path:
        home = module.get_submodule(path)
        if home._modules or home._parameters or home._buffers:
            return
        path, _, leaf = path.rpartition(".")
        delattr(module.get_submodule(path), leaf)
