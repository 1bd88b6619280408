"""The residual networks for CIFAR of He et al. 2015 (arXiv 1512.03385), section 4.2.

Shortcuts have no parameters (option A): where the shape changes, every second row and column is
taken and the new channels are zeros, a quarter of the new width on each side. Parameter names are
those of the published checkpoints of akamaster/pytorch_resnet_cifar10.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut: (N, c_in, H, W) → (N, c_out, H/stride, W/stride)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride = stride
        self.padding = c_out // 4 if c_in != c_out else 0

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.stride != 1 or self.padding:
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(out + x)


class ResNet(nn.Module):
    """Three stages of `blocks` blocks with 16, 32, 64 channels: (N, 3, 32, 32) → (N, classes)."""

    def __init__(self, blocks: int, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(blocks, 16, 16, stride=1)
        self.layer2 = _stage(blocks, 16, 32, stride=2)
        self.layer3 = _stage(blocks, 32, 64, stride=2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.linear(x)


def resnet20(num_classes: int = 10) -> ResNet:
    """20 layers, 0.27 M parameters."""
    return ResNet(3, num_classes)


def resnet56(num_classes: int = 10) -> ResNet:
    """56 layers, 0.85 M parameters."""
    return ResNet(9, num_classes)


def _stage(blocks: int, c_in: int, c_out: int, stride: int) -> nn.Sequential:
    first = Block(c_in, c_out, stride)
    return nn.Sequential(first, *(Block(c_out, c_out, 1) for _ in range(blocks - 1)))
