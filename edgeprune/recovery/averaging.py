"""The average of weights over training, which is what is judged and kept where it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of a module's parameters and floating-point buffers.

    The decay starts low and rises to `decay`, as in (1 + t) / (10 + t), so that a short training is
    not held back by the weights that it began with (Tarvainen and Valpola 2017, arXiv 1703.01780;
    the ramp is TensorFlow's).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state = {
            k: v.detach().clone()
            for k, v in module.state_dict().items()
            if v.is_floating_point()
        }  # fmt: skip

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the module's weights in, after an update of them."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for key, value in module.state_dict().items():
            if key in self.state:
                self.state[key].lerp_(value.detach(), 1 - decay)

    @contextmanager
    def lent(self, module: nn.Module) -> Iterator[None]:
        """Inside, the module has the averaged weights; outside, its own again."""
        own = {k: v.detach().clone() for k, v in module.state_dict().items() if k in self.state}
        _load(module, self.state)
        try:
            yield
        finally:
            _load(module, own)


@torch.no_grad()
def _load(module: nn.Module, state: dict[str, Tensor]) -> None:
    for key, value in module.state_dict().items():
        if key in state:
            value.copy_(state[key])
