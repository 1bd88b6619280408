"""A function as a network, and the target that its rewrites are for."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from edgeprune.records import Target

Body = Callable[[Tensor], Tensor]
HERE = Target("here", "", "xnnpack", "local", "fp32", 1, "measured")


class Calls(nn.Module):
    """A module that is one function."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)
