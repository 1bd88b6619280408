"""The zoo: every torchvision model by name, how to make it, and the input it is shown.

The list is torchvision's own. What stands here by name is only what an architecture demands of its
input; nothing about how it is pruned.
"""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm_models
import torch
import torchvision
from networks import lively
from torch import Tensor, nn

SMALL = (3, 64, 64)
"""The input of a model that takes any size."""

_INPUTS = {
    # position tables and window partitions of these are made for one size
    "vit_*": (3, 224, 224),
    "maxvit_t": (3, 224, 224),
    # an auxiliary or last pooling needs this much
    "inception_v3": (3, 96, 96),
    # clips: T x H x W; s3d's last pooling takes a 2 x 7 x 7 window after a reduction by 8 and 32
    "mvit_*": (3, 16, 224, 224),
    "s3d": (3, 16, 224, 224),
    "swin3d_*": (3, 8, 64, 64),
    "r3d_*": (3, 8, 64, 64),
    "mc3_*": (3, 8, 64, 64),
    "r2plus1d_*": (3, 8, 64, 64),
    # feature pyramids reduce by 128
    "*rcnn_*": (3, 128, 128),
    "retinanet_*": (3, 128, 128),
    "fcos_*": (3, 128, 128),
    # a backbone made for 300 (320) pixels
    "ssd300_*": (3, 300, 300),
    "ssdlite320_*": (3, 320, 320),
}

_ARGUMENTS: dict[str, dict[str, Any]] = {
    # the auxiliary classifiers are for training from scratch and not part of the exported model
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}

SETS = ("classification", "segmentation", "video", "detection", "timm")


@dataclass(frozen=True)
class Entry:
    """One model of the zoo: how to make it (random weights), and the shape of one sample."""

    name: str
    set: str
    make: Callable[[], nn.Module]
    sample: tuple[int, ...]

    def inputs(self, batch: int) -> Tensor:
        """A random batch (N, ...)."""
        return torch.randn(batch, *self.sample)


def zoo() -> dict[str, Entry]:
    """All models of torchvision's four sets by name, in torchvision's order; then timm's, if it is
    installed.

    A detection model is there whole, and in the parts that have no data-dependent shapes: `/dense`
    is the backbone with the head that slides over it, `/regions` the head of a single region.
    """
    modules = {
        "classification": torchvision.models,
        "segmentation": torchvision.models.segmentation,
        "video": torchvision.models.video,
        "detection": torchvision.models.detection,
    }
    entries = []
    for kind, module in modules.items():
        for name in torchvision.models.list_models(module=module):
            shape = next((s for p, s in _INPUTS.items() if fnmatch.fnmatch(name, p)), SMALL)
            entries.append(Entry(name, kind, _maker(name, kind), shape))
            if kind == "detection":
                entries.append(Entry(f"{name}/dense", kind, _maker(name, kind, Dense), shape))
                if "rcnn" in name:
                    entries.append(
                        Entry(f"{name}/regions", kind, _maker(name, kind, Regions), (256, 7, 7))
                    )
    for name, shape in timm_models.inputs().items() if timm_models.is_installed() else ():
        entries.append(Entry(f"timm/{name}", "timm", timm_models.maker(name, awake), shape))
    return {entry.name: entry for entry in entries}


def _maker(
    name: str, kind: str, part: Callable[[nn.Module], nn.Module] | None = None
) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        parameters = inspect.signature(torchvision.models.get_model_builder(name)).parameters
        given = dict(_ARGUMENTS.get(name, {}))
        if "weights_backbone" in parameters:  # its default would be downloaded
            given["weights_backbone"] = None
        model: nn.Module = torchvision.models.get_model(name, weights=None, **given)
        if kind == "detection":
            model = Images(model) if part is None else part(model)
        return awake(model)

    return make


def awake(model: nn.Module) -> nn.Module:
    """The model in eval mode without the trivial parameters of a fresh one: batch norms that do
    nothing, and biases, gates and layer scales that are zero or nearly so, hide what is wrong."""
    lively(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() and float(parameter.abs().max()) < 1e-3:
                nn.init.normal_(parameter, std=0.05)
    return model.eval()


class Images(nn.Module):
    """A detection model that takes a batch (N, 3, H, W) instead of a list of images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        return self.model(list(images.unbind(0)))


class Dense(nn.Module):
    """Backbone and sliding head of a detection model: (N, 3, H, W) → predictions everywhere."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.head = model.head if hasattr(model, "head") else model.rpn.head

    def forward(self, images: Tensor) -> Any:
        features = self.backbone(images)
        return self.head(list(features.values()))


class Regions(nn.Module):
    """The box head of a detection model: pooled regions (N, C, 7, 7) → scores and boxes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.head = model.roi_heads.box_head
        self.predictor = model.roi_heads.box_predictor

    def forward(self, regions: Tensor) -> Any:
        return self.predictor(self.head(regions))
