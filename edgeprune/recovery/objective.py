"""What training minimises, and how fast: loss, distillation, rates, weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from edgeprune.data import Data
from edgeprune.records import Recipe
from edgeprune.recovery.features import Match, difference


@dataclass(frozen=True)
class Objective:
    """The loss of a batch: `1 - recipe.distill` of the data's, `recipe.distill` of the teacher's.

    The teacher's share is the KL divergence between softened outputs, times the temperature
    squared (Hinton et al. 2015, arXiv 1503.02531) where outputs are class scores, and the mean
    squared difference of outputs elsewhere. With `matches`, outputs of both networks are pairs
    (`features.tapped`), and the difference of their tensors is added, times `recipe.features`.
    """

    data: Data
    recipe: Recipe
    teacher: nn.Module | None = None
    matches: tuple[Match, ...] = ()

    def __call__(self, inputs: Tensor, output: Any, targets: Tensor) -> Tensor:
        """The mean loss over the batch, a scalar."""
        share = self.recipe.distill if self.teacher is not None else 0.0
        total = torch.zeros((), device=targets.device)
        output, own = output if self.matches else (output, ())
        if share < 1:
            total = total + (1 - share) * self._hard(output, targets)
        if self.teacher is None or not (share or self.matches):
            return total
        with torch.no_grad():
            wanted = self.teacher(inputs)
        if self.matches:
            wanted, features = wanted
            total = total + self.recipe.features * difference(own, features, self.matches)
        return total + share * self._soft(output, wanted) if share else total

    def _hard(self, output: Any, targets: Tensor) -> Tensor:
        if self.data.loss is F.cross_entropy:
            return F.cross_entropy(output, targets, label_smoothing=self.recipe.label_smoothing)
        return self.data.loss(output, targets)

    def _soft(self, output: Any, wanted: Any) -> Tensor:
        if isinstance(output, Tensor) and self.data.classes is not None:
            t = self.recipe.temperature
            # the mean over every position that is classified, not only over the batch
            each = F.kl_div(
                F.log_softmax(output / t, 1),
                F.log_softmax(wanted / t, 1),
                reduction="none",
                log_target=True,
            )
            return each.sum(1).mean() * t * t
        pairs = zip(pytree.tree_leaves(output), pytree.tree_leaves(wanted), strict=True)
        differences = [F.mse_loss(a, b) for a, b in pairs if isinstance(a, Tensor)]
        return torch.stack(differences).mean()


def optimiser(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101); norms
    and biases are not decayed (He et al. 2018, arXiv 1812.01187, section 3.1). The recipe leaves
    nothing open (`recipes.resolved`)."""
    assert recipe.lr is not None
    assert recipe.weight_decay is not None
    trained = [p for p in module.parameters() if p.requires_grad]
    parts = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    parts = [part for part in parts if part["params"]]
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(parts, lr=recipe.lr, betas=(recipe.momentum, 0.999))
    return torch.optim.SGD(
        parts, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0
    )


def rate(step: int, steps: int, recipe: Recipe) -> float:
    """The learning rate of step `step` (from 0) of `steps`: linear warm-up, then half a cosine
    to zero (Loshchilov and Hutter 2017, arXiv 1608.03983)."""
    assert recipe.lr is not None
    warm = round(recipe.warmup * steps)
    if step < warm:
        return recipe.lr * (step + 1) / (warm + 1)
    done = (step - warm) / max(steps - warm, 1)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * done))
