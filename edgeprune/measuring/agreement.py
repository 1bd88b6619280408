"""Does the program compute what the graph computes?"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from edgeprune.errors import MeasureError
from edgeprune.measuring.batches import Array, in_batches
from edgeprune.measuring.execute import execute
from edgeprune.measuring.latency import Program
from edgeprune.records import Graph, Parity

_EAGER_BATCH = 32


def parity(graph: Graph, program: Program, inputs: Sequence[Array]) -> Parity:
    """Eager outputs against the program's, on real `inputs`, one (N, ...) array per graph input.

    `max_abs` is the largest difference over all outputs, `max_rel` that over the largest eager
    value; both are infinite where one side is not a number and the other is. `top1_agreement` is
    the share of samples whose largest output is the same, for outputs (N, classes) only.
    Raises MeasureError where the program cannot be run or its outputs have other shapes.
    """
    expected = eager(graph, inputs)
    got = execute(program, inputs)
    shapes = [x.shape for x in expected], [y.shape for y in got]
    if shapes[0] != shapes[1]:
        raise MeasureError(
            f"the program is not {graph.name!r}: its outputs are {shapes[1]}, "
            f"the graph's {shapes[0]}"
        )
    return agreement(expected, got)


def agreement(expected: Sequence[Array], got: Sequence[Array]) -> Parity:
    """How two lists of outputs of the same shapes differ (see `parity`)."""
    max_abs = max(
        (_largest_difference(x, y) for x, y in zip(expected, got, strict=True)), default=0.0
    )
    scale = max((float(np.abs(x[np.isfinite(x)]).max(initial=0.0)) for x in expected), default=0.0)
    relative = max_abs / scale if scale else (0.0 if max_abs == 0 else float("inf"))
    first = expected[0]
    top1 = None
    if first.ndim == 2 and first.shape[1] > 1:
        top1 = float(np.mean(first.argmax(axis=1) == got[0].argmax(axis=1)))
    return Parity(max_abs, relative, len(first), top1, not any(x.any() for x in expected))


def _largest_difference(x: Array, y: Array) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))  # equal infinities too, whose difference is nan
    difference = np.abs(np.where(same, 0.0, x) - np.where(same, 0.0, y))
    return float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf).max(initial=0.0))


def eager(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """The graph's outputs (N, ...) in eval mode, flattened, for inputs (N, ...)."""
    import torch
    from torch.utils._pytree import tree_leaves

    module = copy.deepcopy(graph.program)
    module.eval()
    dtypes = [x.dtype for x in graph.example_inputs]
    device = graph.example_inputs[0].device
    batch = _EAGER_BATCH if graph.dynamic_batch else len(graph.example_inputs[0])

    def call(batch: list[Array]) -> list[Array]:
        tensors = [
            torch.from_numpy(x).to(device, dtype) for x, dtype in zip(batch, dtypes, strict=True)
        ]
        outputs = tree_leaves(module(*tensors))
        return [y.detach().cpu().numpy() for y in outputs if isinstance(y, torch.Tensor)]

    with torch.no_grad():
        return in_batches(call, inputs, batch)
