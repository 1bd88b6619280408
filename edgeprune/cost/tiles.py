"""How many output channels the micro-kernels of this processor compute at a time: measured.

XNNPACK chooses micro-kernels by processor; a matrix product that computes 16 channels at a time
costs the same for 17 channels as for 32. One small sweep tells: the tile whose staircase explains
the times best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeprune.records import KernelKey

CANDIDATES = (1, 2, 4, 8, 16, 32)
_CHANNELS = tuple(range(2, 67, 3))
_SIZE, _CHANNELS_IN = 14, 64
# A coarser tile must explain this much more than a finer one, or noise would choose.
_BETTER = 0.9


def probes(dtype: str = "fp32") -> tuple[tuple[KernelKey, ...], tuple[KernelKey, ...]]:
    """The two sweeps to measure: pointwise convolutions over output channels, and depthwise."""
    first, second = ([probe(op, c, dtype) for c in _CHANNELS] for op in ("conv", "dwconv"))
    return tuple(first), tuple(second)


def probe(op: str, channels: int, dtype: str = "fp32") -> KernelKey:
    """The small convolution of so many output channels: pointwise ("conv") or depthwise 3 × 3."""
    if op == "dwconv":
        return _key(op, (1, channels, _SIZE, _SIZE), channels, 3, channels, dtype)
    return _key(op, (1, _CHANNELS_IN, _SIZE, _SIZE), channels, 1, 1, dtype)


def _key(
    op: str, shape: tuple[int, ...], out: int, kernel: int, groups: int, dtype: str
) -> KernelKey:
    pad = kernel // 2
    attrs: dict[str, Any] = {
        "dilation": (1, 1),
        "groups": groups,
        "kernel": (kernel, kernel),
        "out_channels": out,
        "padding": (pad, pad, pad, pad),
        "stride": (1, 1),
    }
    if dtype != "fp32":
        attrs["dtype"] = dtype
    return KernelKey(op, (shape,), tuple(sorted(attrs.items())))


def tile_of(sweep: Sequence[KernelKey], times: Mapping[KernelKey, float]) -> int:
    """The tile that explains a sweep: 1 where the time has no steps. KeyError if not measured."""
    us = np.array([times[key] for key in sweep])
    channels = np.array([dict(key.attrs)["out_channels"] for key in sweep])
    best, least = 1, _residual(channels, us, 1)
    for tile in CANDIDATES[1:]:
        residual = _residual(channels, us, tile)
        if residual < _BETTER * least:
            best, least = tile, residual
    return best


def _residual(channels: np.ndarray, us: np.ndarray, tile: int) -> float:
    """Mean absolute error of the best line through the times over whole tiles."""
    steps = -(-channels // tile) * tile
    design = np.stack([np.ones_like(us), steps], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, us, rcond=None)
    return float(np.abs(us - design @ coefficients).mean())
