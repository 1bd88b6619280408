"""Small networks and random plans that several tests share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.planning.widths import families, nearest, strongest
from edgeprune.plans import Plan
from edgeprune.records import ChannelGroups, Scores


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in eval mode with batch-norm statistics that are not the trivial ones."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 1.5),
            ):
                if tensor is not None:
                    size = tensor.shape
                    drawn = torch.rand(size, generator=generator) * (high - low) + low
                    tensor.data.copy_(drawn)
    return model.eval()


def random_plan(groups: ChannelGroups, seed: int, low: float = 0.2, high: float = 0.9) -> Plan:
    """A plan that keeps random channels, a random share of every family."""
    random = np.random.default_rng(seed)
    widths: dict[str, int] = {}
    for family in families(groups):
        wanted = {g.name: random.uniform(low, high) * g.size for g in family}
        widths.update(nearest(family, groups.equal_counts, wanted))
    scores = Scores("random", {g.name: random.random(g.size) for g in groups.groups})
    return Plan(
        {g.name: strongest(g, scores, widths[g.name]) for g in groups.groups},
        {g.name: g.size for g in groups.groups},
        groups.fingerprint,
    )


def relative_error(a: Tensor, b: Tensor) -> float:
    """max |a - b| over max |b|."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))


class TextbookNet(nn.Module):
    """Two convolutions on 28x28 digits, as every introduction has it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 8, 3, padding=1)
        self.fc1 = nn.Linear(8 * 7 * 7, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))


class Shuffled(nn.Module):
    """A channel shuffle whose halves go different ways, and a residual over one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.left = nn.Conv2d(8, 8, 1)
        self.branch = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.cat([self.left(x), self.branch(x)], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        a, b = x.chunk(2, 1)
        x = torch.cat([a, torch.relu(b)], 1)
        return self.head(x.mean((2, 3)))


class Residual(nn.Module):
    """Branches that are added, one shortcut without parameters: stride and zero padding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one = nn.Conv2d(8, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 16, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x += self.one(x)
        short = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        x = torch.relu(self.norm(self.two(x)) + short)
        return self.head(x.mean((2, 3)))
