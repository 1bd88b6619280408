"""What is asked of a data source, and what every one of them hands out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

Loader = DataLoader[Any]
"""Yields (inputs, targets): tensors with the batch as dimension 0."""


@dataclass(frozen=True)
class DataRequest:
    """A data set to load.

    `spec` is `digits`, `imagefolder:DIR`, `torchvision:CLASS:ROOT` or `file.py:function`;
    `sample_shape` is the (C, H, W) the model wants, None where the data may decide. `seed` decides
    which part of the training data (`val_fraction`) is held out for validation, and the order.
    """

    spec: str
    sample_shape: tuple[int, ...] | None = None
    batch_size: int = 128
    seed: int = 0
    download: bool = False
    val_fraction: float = 0.1
    workers: int = 0


def top1(output: Any, target: Tensor) -> float:
    """The percentage of a batch (N, classes) whose largest output is the target (N)."""
    return 100 * float((output.argmax(1) == target).double().mean())


@dataclass(frozen=True)
class Data:
    """Loaders, and what they are judged by.

    `train` is shuffled and augmented; `train_plain` is the same samples in one fixed order, not
    augmented, for statistics. `loss` and `metric` take (the model's output, targets) and return
    the mean over the batch. `test` is None where the source has none; nothing is trained or
    chosen on it. `normalisation` says what was done to the inputs, and for images `mean` and `std`
    say it in numbers, of pixels in 0..1. `labels` are the classes' names, where they have any.
    """

    name: str
    train: Loader
    train_plain: Loader
    validation: Loader
    test: Loader | None
    classes: int | None
    sample_shape: tuple[int, ...]
    loss: Callable[[Any, Tensor], Tensor] = cross_entropy
    metric: Callable[[Any, Tensor], float | torch.Tensor] = top1
    metric_name: str = "top1"
    higher_is_better: bool = True
    normalisation: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def batch_size(self) -> int | None:
        """Samples in a batch of `train`; None where its sampler does not say."""
        size: int | None = getattr(self.train.batch_sampler, "batch_size", None)
        return size
