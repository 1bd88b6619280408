"""Segmentation with a network, loaders, a loss and a metric of one's own.

    edgeprune fit --model examples/segmentation.py:make --data examples/segmentation.py:loaders \\
        --input 1x3x32x32 --speedup 1.5 --epochs 3 -o runs/segmentation

The images are drawn: a greenish disc and a bluish square of random place and size on noisy ground.
Every pixel is ground, disc or square. In your own file, `make` builds your network, and `loaders`
returns your DataLoaders of (images, masks).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

CLASSES = 3
SIZE = 32


def block(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()
    )


class Net(nn.Module):
    """An encoder and a decoder with one skip: (N, 3, H, W) → (N, classes, H, W)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(block(3, 16), block(16, 16))
        self.coarse = nn.Sequential(block(16, 32, 2), block(32, 64, 2), block(64, 32))
        self.merge = block(48, 24)
        self.head = nn.Conv2d(24, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        coarse = F.interpolate(self.coarse(fine), scale_factor=4.0, mode="nearest")
        return self.head(self.merge(torch.cat([fine, coarse], 1)))


def make(num_classes: int = CLASSES) -> nn.Module:
    """The network, with fresh weights."""
    return Net(num_classes)


def loaders(batch_size: int = 32, seed: int = 0) -> dict[str, Any]:
    """What edgeprune needs of a task: loaders, the loss, the metric."""
    train, val, test = (drawn(n, seed + i) for i, n in enumerate((320, 64, 64)))
    order = torch.Generator().manual_seed(seed)
    return {
        "train": DataLoader(train, batch_size, shuffle=True, generator=order, drop_last=True),
        "train_plain": DataLoader(train, batch_size),
        "val": DataLoader(val, batch_size),
        "test": DataLoader(test, batch_size),
        "loss": F.cross_entropy,
        "metric": mean_iou,
        "metric_name": "mIoU",
    }


def mean_iou(output: Tensor, masks: Tensor) -> float:
    """Intersection over union in percent, averaged over the classes that are there."""
    found = output.argmax(1)
    shares = []
    for c in range(output.shape[1]):
        either = ((found == c) | (masks == c)).sum()
        if either:
            shares.append(float(((found == c) & (masks == c)).sum() / either))
    return 100 * sum(shares) / len(shares)


def drawn(count: int, seed: int) -> TensorDataset:
    """Images (N, 3, 32, 32) and masks (N, 32, 32)."""
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, SIZE, SIZE, generator=random) * 0.3
    masks = torch.zeros(count, SIZE, SIZE, dtype=torch.int64)
    rows = torch.arange(SIZE).view(1, SIZE, 1)
    columns = torch.arange(SIZE).view(1, 1, SIZE)
    for shape in (1, 2):
        y, x = (torch.randint(8, SIZE - 8, (count, 1, 1), generator=random) for _ in range(2))
        size = torch.randint(4, 10, (count, 1, 1), generator=random)
        if shape == 1:
            inside = (rows - y) ** 2 + (columns - x) ** 2 <= size**2
        else:
            inside = ((rows - y).abs() <= size) & ((columns - x).abs() <= size)
        colour = 0.3 * torch.randn(count, 3, 1, 1, generator=random)
        colour[:, shape] += 1
        images = torch.where(inside.unsqueeze(1), images + colour, images)
        masks = torch.where(inside, shape, masks)
    return TensorDataset(images, masks)
