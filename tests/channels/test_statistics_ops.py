"""Norms and statistics: over positions they pass, over channels they run over the kept ones."""

from __future__ import annotations

import pytest
import torch
from between import WIDE, Case, run
from torch import Tensor, nn
from torch.nn import functional as F


def last(x: Tensor, norm: nn.Module) -> Tensor:
    """A norm over the last dimension, channels there."""
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def standardised(x: Tensor) -> Tensor:
    var, mean = torch.var_mean(x, 1, keepdim=True)
    return (x - mean) / (var + 1).sqrt()


def spatial(x: Tensor, conv: nn.Module) -> Tensor:
    """Attention over positions from statistics over channels (Woo et al. 2018)."""
    maps = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
    return x * conv(maps).sigmoid()


def squeezed(x: Tensor, down: nn.Module, up: nn.Module) -> Tensor:
    return x * up(F.relu(down(x.mean((2, 3), keepdim=True)))).sigmoid()


def responses(x: Tensor) -> Tensor:
    """Global response normalisation (Woo et al. 2023)."""
    size = x.norm(p=2, dim=(2, 3), keepdim=True)
    return x * (size / (size.mean(1, keepdim=True) + 1e-6)) + x


def standardised_weights(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Weights are normalised before they are used (Qiao et al. 2019)."""
    w = conv.weight
    w = w - w.mean((1, 2, 3), keepdim=True)
    w = w / (w.std((1, 2, 3), keepdim=True) + 1e-5)
    return F.conv2d(x, w, conv.bias, padding=1)


def deviation_of_parts(x: Tensor, parts: int) -> Tensor:
    """Each part's deviation, written out over its channels again (Liu et al. 2020, EvoNorm S0)."""
    batch, c, h, w = x.shape
    y = x.reshape(batch, parts, c // parts, h, w)
    size = (y.var((2, 3, 4), keepdim=True) + 1e-5).sqrt()
    return x / size.expand(y.shape).reshape(batch, c, h, w)


CASES = {
    "batch norm": Case(lambda x, m: m(x), lambda: (nn.BatchNorm2d(WIDE),)),
    "batch norm, plain": Case(lambda x, m: m(x), lambda: (nn.BatchNorm2d(WIDE, affine=False),)),
    "instance norm": Case(lambda x, m: m(x), lambda: (nn.InstanceNorm2d(WIDE, affine=True),)),
    "instance norm, running": Case(
        lambda x, m: m(x), lambda: (nn.InstanceNorm2d(WIDE, track_running_stats=True),)
    ),
    "group norm": Case(
        lambda x, m: m(x), lambda: (nn.GroupNorm(3, WIDE),), groups={"stem": (WIDE, 3)}
    ),
    "group norm of one": Case(lambda x, m: m(x), lambda: (nn.GroupNorm(1, WIDE),)),
    "group norm of each": Case(lambda x, m: m(x), lambda: (nn.GroupNorm(WIDE, WIDE),)),
    "layer norm": Case(last, lambda: (nn.LayerNorm(WIDE),)),
    "layer norm, no bias": Case(last, lambda: (nn.LayerNorm(WIDE, bias=False),)),
    "layer norm, plain": Case(last, lambda: (nn.LayerNorm(WIDE, elementwise_affine=False),)),
    "rms norm": Case(last, lambda: (nn.RMSNorm(WIDE, eps=1e-6),)),
    "layer norm of maps": Case(
        lambda x, m: m(x), lambda: (nn.LayerNorm([WIDE, 8, 8]),), pinned="several dimensions"
    ),
    "local responses": Case(
        lambda x, m: m(x), lambda: (nn.LocalResponseNorm(3),), pinned="the op slides over"
    ),
    "global responses": Case(responses),
    "softmax": Case(lambda x: x.softmax(1)),
    "softmin": Case(lambda x: F.softmin(x, 1)),
    "log softmax": Case(lambda x: F.log_softmax(x, 1)),
    "unit length": Case(lambda x: F.normalize(x, dim=1)),
    "unit sum": Case(lambda x: F.normalize(x, p=1, dim=1)),
    "norm": Case(lambda x: x / x.norm(dim=1, keepdim=True)),
    "cosine similarity": Case(lambda x: x * F.cosine_similarity(x, x.flip(3), 1)[:, None]),
    "mean": Case(lambda x: x - x.mean(1, keepdim=True)),
    "sum": Case(lambda x: x + x.sum(1, keepdim=True)),
    "largest": Case(lambda x: x - x.amax(1, keepdim=True)),
    "smallest": Case(lambda x: x - x.amin(1, keepdim=True)),
    "log of exponentials": Case(lambda x: x - x.logsumexp(1, keepdim=True)),
    "deviation": Case(lambda x: x / (x.std(1, keepdim=True) + 1)),
    "deviation of all": Case(lambda x: x / x.std((1, 2, 3), keepdim=True)),
    "variance": Case(lambda x: x - x.var(1, unbiased=False, keepdim=True)),
    "variance and mean": Case(standardised),
    "mean of positions": Case(lambda x: x - x.mean((2, 3), keepdim=True)),
    "deviation of parts": Case(lambda x: deviation_of_parts(x, 3), groups={"stem": 3}),
    "deviation of one part": Case(lambda x: deviation_of_parts(x, 1)),
    "deviation of positions": Case(lambda x: x / x.std((2, 3), keepdim=True)),
    "spatial attention": Case(spatial, lambda: (nn.Conv2d(2, 1, 3, padding=1),)),
    "squeeze": Case(
        squeezed,
        lambda: (nn.Conv2d(WIDE, 5, 1), nn.Conv2d(5, WIDE, 1)),
        groups={"stem": WIDE, "own.0": 5},
    ),
    "max without its place": Case(lambda x: x - x.max(1, keepdim=True)[0]),
    "place of the max": Case(
        lambda x: x + x.max(1, keepdim=True)[1], pinned="aten.max.dim: needs every channel"
    ),
    "median": Case(lambda x: x - x.median(1, keepdim=True)[0], pinned="needs every channel"),
    "product": Case(lambda x: x * x.prod(1, keepdim=True), pinned="needs every channel"),
    "argmax": Case(lambda x: x + x.argmax(1, keepdim=True), pinned="needs every channel"),
    "sorted": Case(lambda x: x.sort(1)[0], pinned="aten.sort: is sorted"),
    "best three": Case(lambda x: x.topk(3, 1)[0], out=3, pinned="aten.topk: is sorted"),
    "running product": Case(lambda x: x.cumprod(1), pinned="needs every channel"),
    "running sum": Case(lambda x: x.cumsum(1)),
    "running sum of positions": Case(lambda x: x.cumsum(3)),
    "sorted positions": Case(lambda x: x.sort(3)[0]),
    "best positions": Case(lambda x: x.topk(3, 2)[0]),
}


@pytest.mark.parametrize("name", CASES)
def test_statistics(name: str) -> None:
    run(CASES[name])


def test_weights_that_are_standardised_before_they_are_used() -> None:
    run(
        Case(
            standardised_weights,
            lambda: (nn.Conv2d(WIDE, 9, 3, padding=1),),
            out=9,
            groups={"stem": WIDE, "own.0": 9},
        )
    )
