"""Ops that read positions of one tensor where another tells: grids, and pooling indices."""

from __future__ import annotations

from typing import Any

from edgeprune.channels.core import Flow, Value, aten, rule
from edgeprune.channels.elementwise import join
from edgeprune.channels.reduction import pool


@rule(aten.grid_sampler.default, aten.grid_sampler_2d.default, aten.grid_sampler_3d.default)
def grid_sampler(flow: Flow, x: Value, grid: Value, *args: Any, **kwargs: Any) -> Value:
    """Ids (N, C, *) → (N, C, *grid): positions are computed, channels pass."""
    flow.pin_all(grid, "used as a position")
    return pool(flow, x)


@rule(aten.max_unpool2d.default, aten.max_unpool3d.default)
def unpool(flow: Flow, x: Value, indices: Value, *args: Any, **kwargs: Any) -> Value:
    """Ids (N, C, *) → (N, C, *): every channel goes back to where its own indices say."""
    return pool(flow, join(flow, [x, indices], x.shape))
