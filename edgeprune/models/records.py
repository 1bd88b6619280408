"""What is asked for, and what is handed out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn


@dataclass(frozen=True)
class ModelRequest:
    """A model to load.

    `spec` is `torchvision:NAME`, `timm:NAME`, `package.module:factory`, `file.py:factory` or the
    path of a `.pt2` file; `input_shape` is (N, C, H, W), None where it can be inferred; `classes`
    replaces the number of outputs where the model takes one; `seed` decides fresh weights.
    """

    spec: str
    weights: Path | None = None
    input_shape: tuple[int, ...] | None = None
    classes: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode. `has_weights` is False where its weights are fresh, to be trained."""

    module: nn.Module
    input_shape: tuple[int, ...]
    name: str
    has_weights: bool
    notes: tuple[str, ...] = ()
