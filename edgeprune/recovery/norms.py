"""The batch norms of a network, and what they read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from edgeprune.graph import attribute

aten = torch.ops.aten


@dataclass(frozen=True)
class Norm:
    """A batch norm with running statistics: its node, and the names of its tensors."""

    node: fx.Node
    mean: str
    variance: str
    gain: str | None
    epsilon: float

    def scale(self, module: fx.GraphModule) -> Tensor:
        """What it multiplies each channel by in eval mode: (C,)."""
        variance: Tensor = attribute(module, self.variance).detach()
        scale = (variance + self.epsilon).rsqrt()
        return scale if self.gain is None else scale * attribute(module, self.gain).detach()


def norm_of(node: fx.Node) -> Norm | None:
    """The batch norm that a node is, None for other nodes and where no statistics are kept."""
    if node.target is not aten.batch_norm.default:
        return None
    arguments: tuple[Any, ...] = node.args
    _, gain, _, mean, variance, _, _, epsilon, _ = arguments
    if not all(isinstance(n, fx.Node) and n.op == "get_attr" for n in (mean, variance)):
        return None
    if gain is not None and gain.op != "get_attr":
        return None
    return Norm(
        node,
        str(mean.target),
        str(variance.target),
        None if gain is None else str(gain.target),
        float(epsilon),
    )


def norms(module: fx.GraphModule) -> tuple[Norm, ...]:
    """All batch norms with running statistics, in order."""
    found = (norm_of(node) for node in module.graph.nodes)
    return tuple(norm for norm in found if norm is not None)
