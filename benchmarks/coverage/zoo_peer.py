"""The same models through Torch-Pruning 1.6 (DepGraph, Fang et al. 2023), given no hints.

L2 magnitude, half of every layer, the last layer kept, the rest by default. It is no
dependency of edgeprune: `pip install --no-deps torch-pruning==1.6.1` to have these columns.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from zoo_checks import Note, _difference, _ready, _timed

_NORMS = (nn.LayerNorm, nn.GroupNorm)


def is_installed() -> bool:
    """Whether Torch-Pruning can be imported."""
    return find_spec("torch_pruning") is not None


def pruner_of(model: nn.Module, x: Tensor) -> Any:
    """Torch-Pruning's pruner, its graph built."""
    import torch_pruning

    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    return torch_pruning.pruner.MagnitudePruner(
        model,
        x,
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=layers[-1:],
    )


def check_peer(name: str, note: Note) -> None:
    """Build, prune, run, and compare with the same channels zeroed where that can be done."""
    entry = _ready(name)
    torch.manual_seed(0)
    model, x = entry.make(), entry.inputs(1)
    zeroed = copy.deepcopy(model)
    before = sum(p.numel() for p in model.parameters())
    pruner = _timed(note, "build", pruner_of, model, x)
    removed: dict[str, set[int]] = {}
    twice = False

    def step() -> None:
        nonlocal twice
        names = {module: path for path, module in model.named_modules()}
        for group in pruner.step(interactive=True):
            here: dict[str, set[int]] = {}
            for dependency, idxs in group:
                path = names.get(dependency.target.module)
                if path is not None and _cuts_outputs(dependency.handler):
                    here.setdefault(path, set()).update(int(i) for i in idxs)
            twice = twice or not removed.keys().isdisjoint(here)
            removed.update(here)
            group.prune()

    _timed(note, "step", step)
    note({"left": sum(p.numel() for p in model.parameters()) / before})
    with torch.no_grad():
        made = model(x)
        note({"runs": True})
        if twice or any(isinstance(m, _NORMS) for m in model.modules()):
            return
        for path, channels in removed.items():
            _zero(zeroed.get_submodule(path), channels)
        note({"exact": _difference(made, zeroed(x))})


def _cuts_outputs(handler: Any) -> bool:
    return "out_channels" in getattr(handler, "__name__", "")


def _zero(layer: nn.Module, channels: set[int]) -> None:
    """Make some outputs of a layer zero, whatever it reads."""
    index = torch.tensor(sorted(channels), dtype=torch.int64)
    for parameter in layer.parameters(recurse=False):
        dim = (
            1 if isinstance(layer, nn.modules.conv._ConvTransposeNd) and parameter.dim() > 1 else 0
        )
        parameter.index_fill_(dim, index, 0.0)
    if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
        layer.running_mean.index_fill_(0, index, 0.0)
