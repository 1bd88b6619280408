"""Real inputs of any number, cut into the batches that a program with static shapes takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Call = Callable[[list[Array]], list[Array]]


def in_batches(call: Call, inputs: Sequence[Array], batch: int) -> list[Array]:
    """`call` over all of `inputs` (N, ...), `batch` at a time; outputs (N, ...) in its order.

    The last batch is filled up with its last sample, and what comes of the filling is dropped.
    Raises ValueError where inputs differ in N, or outputs have no batch dimension to join on.
    """
    counts = {len(x) for x in inputs}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"inputs must have the same number of samples, not {sorted(counts)}")
    total = counts.pop()
    parts: list[list[Array]] = []
    for start in range(0, total, batch):
        held = min(batch, total - start)
        outputs = call([_filled(x[start : start + held], batch) for x in inputs])
        if total != batch:
            flat = [i for i, y in enumerate(outputs) if y.ndim == 0 or len(y) != batch]
            if flat:
                raise ValueError(
                    f"output {flat[0]} has shape {outputs[flat[0]].shape}, which does not start "
                    f"with the batch of {batch}; pass exactly {batch} samples"
                )
            outputs = [y[:held] for y in outputs]
        parts.append(outputs)
    return [np.concatenate(ys) if len(ys) > 1 else ys[0] for ys in zip(*parts, strict=True)]


def _filled(samples: Array, batch: int) -> Array:
    missing = batch - len(samples)
    if missing:
        samples = np.concatenate([samples, np.repeat(samples[-1:], missing, axis=0)])
    return np.ascontiguousarray(samples)
