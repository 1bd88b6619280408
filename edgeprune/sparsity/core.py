"""Graph + request → the same graph with zeros, and masks that training keeps.

Zeros make a .pte compress better. They change neither its own size nor its latency: the kernels are
dense.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeprune.choices import PATTERNS, n_of_m, sparsity_problems
from edgeprune.errors import PlanError
from edgeprune.graph import own_tensors
from edgeprune.records import Graph, Sparsity

aten = torch.ops.aten


@dataclass(frozen=True)
class Layer:
    """A weight that a convolution or a linear layer reads: the dimensions of its outputs and
    inputs, and how many groups of outputs read inputs of their own."""

    name: str
    weight: Tensor
    out: int = 0
    inputs: int = 1
    groups: int = 1


Pattern = Callable[[Sequence[Layer], Sparsity], dict[str, Tensor]]
_PATTERNS: dict[str, Pattern] = {}


def pattern(name: str) -> Callable[[Pattern], Pattern]:
    """Register the function of a pattern that choices.py describes: layers → masks (True stays)."""

    def register(function: Pattern) -> Pattern:
        if name in _PATTERNS or name not in PATTERNS:
            raise ValueError(f"pattern {name} is registered already, or not in choices.py")
        _PATTERNS[name] = function
        return function

    return register


def sparsify(graph: Graph, request: Sparsity) -> Graph:
    """The network with the weights that `request` names set to zero; `graph` stays as it was.

    Weights of convolutions and linear layers are looked at; biases, norms, embeddings and tables
    are not. The masks travel with the graph: `finetune` holds the zeros. Raises PlanError for a
    request that makes no sense, and for a network without such weights.
    """
    check_sparsity(request)
    found = masks(graph, request)
    module = fx.GraphModule(graph.program, copy.deepcopy(graph.program.graph))
    for node, original in zip(module.graph.nodes, graph.program.graph.nodes, strict=True):
        node.meta["shape"] = original.meta.get("shape")
    own_tensors(module, graph.program, {})
    hold(module, found)
    module.train(graph.program.training)
    return replace(graph, program=module, masks=found)


def masks(graph: Graph, request: Sparsity) -> dict[str, Tensor]:
    """What `request` leaves of every weight: booleans of its shape, True where it stays."""
    layers = weights_of(graph)
    if not layers:
        raise PlanError(f"{graph.name} has no convolution or linear layer whose weights could go")
    word = "N:M" if n_of_m(request.pattern) else request.pattern
    with torch.no_grad():
        return _PATTERNS[word](layers, request)


def hold(module: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Set to zero, in place, whatever `kept` does not keep, in the weights and their gradients."""
    for name, mask in kept.items():
        parameter = module.get_parameter(name)
        gone = ~mask.to(parameter.device)
        with torch.no_grad():
            parameter.masked_fill_(gone, 0.0)  # a product would leave negative zeros
            if parameter.grad is not None:
                parameter.grad.masked_fill_(gone, 0.0)


def zero_share(graph: Graph) -> float:
    """The share of all parameters that are exactly zero."""
    parameters = list(graph.program.parameters())
    zeros = sum(int((p == 0).sum()) for p in parameters)
    return zeros / max(sum(p.numel() for p in parameters), 1)


def check_sparsity(request: Sparsity) -> None:
    """Raise PlanError, listing all that is wrong with a request."""
    problems = sparsity_problems(request.pattern, request.share, request.scope)
    if problems:
        raise PlanError(f"this sparsity cannot be had: {'; '.join(problems)}")


# --- which weights -------------------------------------------------------------------------------

_TRANSPOSED = {
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
}
_CONVOLUTIONS = {
    aten.conv1d.default,
    aten.conv1d.padding,
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv3d.default,
    aten.conv3d.padding,
}


def weights_of(graph: Graph) -> tuple[Layer, ...]:
    """Every trainable weight that a convolution or linear layer reads directly, once, in order."""
    parameters = dict(graph.program.named_parameters())
    found: dict[str, Layer] = {}
    for node in graph.program.graph.nodes:
        known = node.target in _CONVOLUTIONS | _TRANSPOSED | {aten.linear.default}
        source = node.args[1] if known else None
        if not isinstance(source, fx.Node) or str(source.target) not in parameters:
            continue
        name = str(source.target)
        if node.target in _TRANSPOSED:
            layer = Layer(name, parameters[name], 1, 0, _argument(node, 6))
        elif node.target in _CONVOLUTIONS:
            layer = Layer(name, parameters[name], 0, 1, _argument(node, 6))
        else:
            layer = Layer(name, parameters[name])
        found.setdefault(name, layer)
    return tuple(found.values())


def _argument(node: fx.Node, place: int) -> int:
    """The groups of a convolution."""
    value: Any = node.args[place] if len(node.args) > place else node.kwargs.get("groups", 1)
    return int(value)
