"""Networks so small that every plan can be tried: pieces one channel wide, in any order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from exactness import EXACT, Checked, captured
from torch import Tensor, nn
from torch.nn import functional as F

from edgeprune.errors import PlanError
from edgeprune.plans import Plan, check_plan

MOST = 100


class Shuffled(nn.Module):
    """Two makers, shuffled, halved, and the halves the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.a(x), self.b(x)], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        a, b = x.chunk(2, 1)
        return self.head(torch.cat([b, a], 1))


class Several(nn.Module):
    """The same channels in several places of one concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.head = nn.Conv2d(18, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.a(x), self.b(x), self.c(x)
        return self.head(torch.cat([a, b, c, b * 2, c.relu(), a.sigmoid()], 1))


class Swapped(nn.Module):
    """Pieces read in two orders."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.one, self.two = nn.Conv2d(6, 3, 1), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        a, b, c = x.split([2, 2, 2], 1)
        return self.one(x) + self.two(torch.cat([b, a, c], 1))


class Written(nn.Module):
    """Writes through views, into pieces that cross each other."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.bias = nn.Parameter(torch.randn(8))
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).clone()
        x[:, 2:5] = 1.0
        x[:, :, 1:3, 1:3] *= 2
        bias = self.bias.clone()
        bias[2:4].zero_()
        y = torch.zeros_like(x)
        y[:, :4] = x[:, 4:]
        low, high = y[:, :4], y[:, 4:]
        low.add_(1)
        high.mul_(low)
        x[:, :4].add_(2).mul_(3)
        return self.head(x + bias.view(1, -1, 1, 1) + y)


class Attentive(nn.Module):
    """Two heads of three channels."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Conv2d(3, 18, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q, k, v = self.qkv(x).flatten(2).view(n, 3, 2, 3, h * w).transpose(3, 4).unbind(1)
        made = F.scaled_dot_product_attention(q, k, v)
        return self.out(made.transpose(2, 3).reshape(n, -1, h, w))


def plans(checked: Checked) -> Iterator[Plan]:
    """Every plan that is one, or a fair draw of them where there are too many."""
    groups = checked.groups.groups
    kept = [
        [k for size in range(1, g.size + 1) for k in itertools.combinations(range(g.size), size)]
        for g in groups
    ]
    random = np.random.default_rng(0)
    count, found = int(np.prod([len(k) for k in kept])), 0
    order = random.permutation(count) if count < 10**6 else random.integers(0, count, 10**5)
    for number in order.tolist():
        digits = np.unravel_index(number, [len(k) for k in kept])
        chosen = {g.name: k[int(i)] for g, k, i in zip(groups, kept, digits, strict=True)}
        plan = Plan(chosen, checked.groups.full_widths(), checked.groups.fingerprint)
        try:
            check_plan(plan, checked.groups)
        except PlanError:
            continue
        yield plan
        found += 1
        if found == MOST:
            return


@pytest.mark.parametrize("make", [Shuffled, Several, Swapped, Written, Attentive])
def test_every_plan(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    checked = captured(make(), torch.randn(1, 3, 4, 4))
    tried = 0
    for plan in plans(checked):
        found = checked.error(plan, torch.randn(1, 3, 4, 4, dtype=torch.float64))
        assert found < EXACT, f"{dict(plan.kept)}: off by {found:.2g}"
        tried += 1
    assert tried >= 15
