"""An op between two layers, and what its table says of the channels that pass it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from exactness import check
from networks import lively
from torch import Tensor, nn

WIDE = 12
Op = Callable[..., Tensor]


class Between(nn.Module):
    """A convolution, an op (called with the modules given), a 1x1 convolution."""

    def __init__(self, op: Op, modules: tuple[nn.Module, ...], wide: int, out: int) -> None:
        super().__init__()
        self.op = op
        self.stem = nn.Conv2d(3, wide, 3, padding=1)
        self.own = nn.ModuleList(modules)
        self.head = nn.Conv2d(out, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.op(self.stem(x), *self.own))


@dataclass(frozen=True)
class Case:
    """An op over (N, wide, 8, 8) → (N, out, *, *), and the groups there should be: name → size,
    or (size, parts). `pinned` is a part of the reason why the stem cannot lose a channel."""

    op: Op
    make: Callable[[], tuple[nn.Module, ...]] = tuple
    wide: int = WIDE
    out: int | None = None
    groups: dict[str, int | tuple[int, int]] | None = None
    pinned: str = ""


def run(case: Case, seeds: range = range(3)) -> None:
    """Removing is zeroing, and the groups are those of the table."""
    torch.manual_seed(0)
    model = Between(case.op, case.make(), case.wide, case.out or case.wide)
    checked = check(lively(model), torch.randn(1, 3, 8, 8), seeds=seeds)
    found: dict[str, Any] = {g.name: (g.size, g.parts) for g in checked.groups.groups}
    wanted = case.groups
    if wanted is None:
        wanted = {} if case.pinned else {"stem": case.wide}
    assert found == {n: (s, 1) if isinstance(s, int) else s for n, s in wanted.items()}
    reasons = {pin.name: f"{pin.op}: {pin.reason}" for pin in checked.groups.pinned}
    assert case.pinned in reasons.get("stem", "")
