"""Dropping residual blocks from a module: by replacing the modules that compute them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, fx, nn

from edgeprune.errors import PlanError
from edgeprune.graph import module_path, source_of
from edgeprune.records import Block, Graph

Agrees = Callable[[nn.Module], bool]


def hollow_out(model: nn.Module, graph: Graph, block: Block, agrees: Agrees) -> nn.Module:
    """`model` without a block: the module that computes it becomes an identity.

    Where a module computes more than the block, the last child that is all of the branch gives
    zeros instead, and its other children become identities. What becomes of the model is whatever
    `agrees` accepts; raises PlanError if that is nothing.
    """
    nodes = {node.name: node for node in graph.program.graph.nodes}
    add = nodes[block.add]
    home = module_path(add)
    if home:
        whole = _replaced(model, home, nn.Identity())
        if agrees(whole):
            return whole
    inside = _children(graph, home, set(block.nodes))
    for path in reversed(inside):
        hollow = _replaced(model, path, _zeros(model.get_submodule(path)))
        if agrees(hollow):
            return _without_rest(hollow, [p for p in inside if p != path], agrees)
    raise PlanError(
        f"{type(model).__name__} cannot hold this plan: no module computes block {block.name} and "
        f"nothing else ({source_of(add) or block.add}). Keep that block, or use the pruned graph "
        "itself (prune(graph, plan).module())"
    )


class NoAttention(nn.Module):
    """Where an `nn.MultiheadAttention` was: its queries times `factor`, and no weights."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, query: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        return query * self.factor, None


def _zeros(module: nn.Module) -> nn.Module:
    """What gives zeros of its input's shape, called as `module` is: nothing is above infinity."""
    if isinstance(module, nn.MultiheadAttention):
        return NoAttention(0.0)
    return nn.Threshold(float("inf"), 0.0)


def _nothing(module: nn.Module) -> nn.Module:
    """What gives back its input, called as `module` is."""
    return NoAttention(1.0) if isinstance(module, nn.MultiheadAttention) else nn.Identity()


def _without_rest(model: nn.Module, paths: Iterable[str], agrees: Agrees) -> nn.Module:
    """Modules whose output is not looked at any more become identities, where they can."""
    for path in paths:
        less = _replaced(model, path, _nothing(model.get_submodule(path)))
        if agrees(less):
            model = less
    return model


def _children(graph: Graph, home: str, inside: set[str]) -> list[str]:
    """Direct children of a module all of whose nodes are `inside`, in order of execution."""
    found: dict[str, bool] = {}
    for node in graph.program.graph.nodes:
        child = _child(node, home)
        if child:
            found[child] = found.pop(child, True) and node.name in inside
    return [path for path, within in found.items() if within]


def _child(node: fx.Node, home: str) -> str:
    """The direct child of module `home` that a node belongs to, if it does."""
    stack = [str(path) for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    if home not in stack:
        return ""
    below = stack[stack.index(home) + 1 :]
    return below[0] if below else ""


def _replaced(model: nn.Module, path: str, by: nn.Module) -> nn.Module:
    """A copy of `model`, sharing its tensors, with another module at `path`."""
    shared = {id(t): t for t in (*model.parameters(), *model.buffers())}
    new = copy.deepcopy(model, shared)
    owner, _, leaf = path.rpartition(".")
    new.get_submodule(owner)._modules[leaf] = by.train(model.training)
    return new
