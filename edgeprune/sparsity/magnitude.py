"""Patterns that rank single weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeprune.choices import n_of_m
from edgeprune.records import Sparsity
from edgeprune.sparsity.core import Layer, pattern


@pattern("magnitude")
def magnitude(layers: Sequence[Layer], request: Sparsity) -> dict[str, Tensor]:
    """The smallest |w| go, in sorted order (Han et al. 2015, "Learning both weights and
    connections"). With scope "global" a layer of small weights may lose all of them."""
    return _smallest({layer.name: layer.weight.abs() for layer in layers}, request)


@pattern("l1")
def l1(layers: Sequence[Layer], request: Sparsity) -> dict[str, Tensor]:
    """The smallest shares of the layer's L1 norm go, times its number of weights: |w| / mean |w|.

    In one layer that is the order of |w|; with scope "global" layers compare, whatever their scale.
    """
    return _smallest({layer.name: _over_mean(layer.weight.abs()) for layer in layers}, request)


@pattern("l2")
def l2(layers: Sequence[Layer], request: Sparsity) -> dict[str, Tensor]:
    """The smallest shares of the layer's squared L2 norm go, times its number of weights: w² / mean
    w² (after Lee et al. 2021, "Layer-adaptive sparsity for magnitude-based pruning")."""
    return _smallest({layer.name: _over_mean(layer.weight.square()) for layer in layers}, request)


@pattern("N:M")
def n_per_m(layers: Sequence[Layer], request: Sparsity) -> dict[str, Tensor]:
    """Of every M consecutive weights along the input dimension, the N of largest |w| stay (Mishra
    et al. 2021, "Accelerating sparse deep neural networks"). A last block of fewer than M weights
    keeps at most N."""
    counts = n_of_m(request.pattern)
    assert counts is not None
    n, m = counts
    found = {}
    for layer in layers:
        rows = layer.weight.abs().movedim(layer.inputs, -1)
        missing = -rows.shape[-1] % m
        padded = torch.nn.functional.pad(rows, (0, missing), value=-1.0)
        blocks = padded.reshape(*rows.shape[:-1], -1, m)
        order = blocks.argsort(dim=-1, descending=True, stable=True)
        kept = torch.zeros_like(blocks, dtype=torch.bool).scatter_(-1, order[..., :n], True)
        found[layer.name] = kept.flatten(-2)[..., : rows.shape[-1]].movedim(-1, layer.inputs)
    return found


def _over_mean(values: Tensor) -> Tensor:
    return values / values.mean().clamp_min(1e-30)


def _smallest(values: dict[str, Tensor], request: Sparsity) -> dict[str, Tensor]:
    """All but the smallest `share` of the values, exactly, rounded to the nearest count; of equal
    ones those that come first go."""
    assert request.share is not None
    if request.scope == "layer":
        return {name: _without({name: v}, request.share)[name] for name, v in values.items()}
    return _without(values, request.share)


def _without(values: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    flat = torch.cat([v.flatten().float().cpu() for v in values.values()])
    kept = torch.ones(flat.numel(), dtype=torch.bool)
    kept[torch.argsort(flat, stable=True)[: round(share * flat.numel())]] = False
    pieces = kept.split([v.numel() for v in values.values()])
    return {
        name: piece.view(v.shape) for (name, v), piece in zip(values.items(), pieces, strict=True)
    }
