"""The networks and budgets of benchmarks/plan, all with weights drawn from seed 0.

Planning and latency do not depend on what weights say; importance does, see `run.drawn`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "architectures"))

Shape = tuple[int, ...]


def small_vit() -> nn.Module:
    """A ViT of six layers for 64 x 64 images."""
    return torchvision.models.VisionTransformer(64, 8, 6, 6, 192, 768, num_classes=100)


def small_swin() -> nn.Module:
    """Two stages of Swin for 64 x 64 images."""
    return torchvision.models.SwinTransformer([4, 4], 48, [2, 2], [3, 6], [4, 4], num_classes=100)


def resnet56() -> nn.Module:
    """The CIFAR network of He et al. 2015, section 4.2."""
    from resnet_cifar import resnet56 as make

    return make()


def resnet20() -> nn.Module:
    """The same with three blocks a stage."""
    from resnet_cifar import resnet20 as make

    return make()


_OWN: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "small_vit": (small_vit, (1, 3, 64, 64)),
    "small_swin": (small_swin, (1, 3, 64, 64)),
    "resnet56": (resnet56, (1, 3, 32, 32)),
    "resnet20": (resnet20, (1, 3, 32, 32)),
}

MEASURED = (
    *(("squeezenet1_1", x) for x in (1.5, 2.0, 3.0)),
    *(("resnet18", x) for x in (1.5, 2.0, 4.0)),
    *(("resnet20", x) for x in (1.5, 2.0, 3.0)),
    *(("mobilenet_v3_small", x) for x in (1.3, 2.0)),
    *(("mobilenet_v2", x) for x in (1.3, 2.0, 3.0)),
    *(("small_vit", x) for x in (1.3, 2.0, 3.0)),
    *(("regnet_y_400mf", x) for x in (1.5, 3.0)),
    *(("shufflenet_v2_x1_0", x) for x in (1.5, 2.0)),
    *(("resnet56", x) for x in (1.5, 3.0)),
    *(("small_swin", x) for x in (1.3, 2.0)),
)
"""Twenty-five speed-ups over the baseline, ten networks; those that lower fast come first."""

SIZED = (
    *(("squeezenet1_1", x) for x in (1.5, 3.0)),
    *(("resnet18", x) for x in (2.0, 4.0)),
    *(("resnet20", x) for x in (2.0, 3.0)),
    *(("mobilenet_v2", x) for x in (1.5, 3.0)),
    *(("small_vit", x) for x in (2.0, 3.0)),
)
"""Ten size budgets: the baseline's .pte over a ratio."""


def build(name: str) -> tuple[nn.Module, Shape]:
    """A network in eval mode, and the shape of its input."""
    torch.manual_seed(0)
    if name in _OWN:
        make, shape = _OWN[name]
        return make().eval(), shape
    return torchvision.models.get_model(name, weights=None).eval(), (1, 3, 224, 224)
