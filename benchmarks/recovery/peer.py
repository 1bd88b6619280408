"""The same networks cut by Torch-Pruning 1.6 (DepGraph, Fang et al. 2023).

It has no latency to aim at: cases.py raises its ratio until the program is fast enough. It is no
dependency of edgeprune: `pip install --no-deps torch-pruning==1.6.1` to have these rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from resnet_cifar import Block
from torch import nn

from edgeprune.data import Data, epoch_batches

SAMPLES = 512
"""Training samples that its gradients are summed over, as many as edgeprune's criteria see."""


@dataclass(frozen=True)
class Choice:
    """A criterion of the peer, and whether all layers are ranked together or each by itself."""

    criterion: str
    together: bool


CHOICES = {
    f"tp-{criterion}-{'global' if together else 'uniform'}": Choice(criterion, together)
    for criterion in ("l2", "group", "bn", "taylor")
    for together in (True, False)
}
"""l2: norm of the first layer of a group; group: of all its layers; bn: scales of batch norms;
taylor: first-order change of the loss over the group."""


def pruned(model: nn.Module, name: str, ratio: float, data: Data) -> nn.Module:
    """The model, changed in place: `ratio` of its channels gone, the last layer kept."""
    import torch_pruning as tp

    choice = CHOICES[name]
    importance = {
        "l2": lambda: tp.importance.GroupMagnitudeImportance(p=2, group_reduction="first"),
        "group": lambda: tp.importance.GroupMagnitudeImportance(p=2),
        "bn": lambda: tp.importance.BNScaleImportance(),
        "taylor": lambda: tp.importance.GroupTaylorImportance(),
    }[choice.criterion]()
    pruner = tp.pruner.BasePruner(
        model,
        torch.zeros(1, *data.sample_shape),
        importance=importance,
        global_pruning=choice.together,
        pruning_ratio=ratio,
        ignored_layers=_kept(model),
    )
    if choice.criterion == "taylor":
        _gradients(model, data)
    pruner.step()
    for parameter in model.parameters():
        parameter.grad = None
    return model.eval()


def _kept(model: nn.Module) -> list[Any]:
    """Layers that it must leave alone: the last one, and those that write to the shortcuts.

    Without this hint its pruned networks do not run: it cannot cut the zeros that the shortcuts of
    these networks pad channels with (no parameters, section 4.2 of He et al. 2015).
    """
    found: list[Any] = [m for m in model.modules() if isinstance(m, nn.Linear)]
    found.append(model.conv1)
    return [*found, *(m.conv2 for m in model.modules() if isinstance(m, Block))]


def _gradients(model: nn.Module, data: Data) -> None:
    """Gradients of the mean loss, added up over the first training samples."""
    seen = 0
    for inputs, targets in epoch_batches(data.train_plain, seed=0, epoch=0):
        data.loss(model(inputs), targets).backward()
        seen += len(inputs)
        if seen >= SAMPLES:
            return
