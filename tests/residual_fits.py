"""A whole fit of a network of four residual blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeprune import fit, load_target
from edgeprune.data import DataRequest, load_data
from edgeprune.models import ModelRequest, load_model
from edgeprune.records import Budget, FitOptions, Recipe, Report

RESIDUAL = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(2))
        self.na, self.nb = nn.BatchNorm2d(16), nn.BatchNorm2d(16)

    def forward(self, x):
        return (x + self.nb(self.b(self.na(self.a(x)).relu()))).relu()

def make(num_classes=10):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), *(Block() for _ in range(4)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes))
"""


def residual_fit(folder: Path, **wishes: Any) -> Report:
    """A fit of the residual network to 60 kB; full, it takes 88."""
    (folder / "net.py").write_text(RESIDUAL)
    data = load_data(DataRequest("digits", (1, 8, 8)))
    request = ModelRequest(f"{folder / 'net.py'}:make", input_shape=(1, 1, 8, 8), classes=10)
    options = FitOptions(
        load_target("host"),
        Budget(size_bytes=60_000),
        folder / "run",
        Recipe(epochs=2),
        baseline_epochs=2,
        **wishes,
    )
    return fit(load_model(request), data, options)
