"""The few hundred training samples that recovery without labels looks at."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from edgeprune.data import Data, epoch_batches
from edgeprune.errors import DataError
from edgeprune.records import Graph

SAMPLES = 512
_CHUNK = 32


def plain_inputs(data: Data, samples: int, chunk: int) -> Iterator[Tensor]:
    """The first `samples` training inputs, not augmented, in pieces of at most `chunk`.

    The same ones whenever they are asked for, up to the end of what the data has. Raises DataError
    if there are none.
    """
    left = samples
    for inputs, _ in epoch_batches(data.train_plain, seed=0, epoch=0):
        yield from inputs[:left].split(chunk)
        left -= len(inputs[:left])
        if left <= 0:
            return
    if left == samples:
        raise DataError(f"{data.name}: the training loader yielded nothing")


def calibration_inputs(graph: Graph, data: Data, samples: int) -> list[Tensor]:
    """`plain_inputs` in batches that `graph` takes; a smaller rest is left out where others are."""
    size = _CHUNK if graph.dynamic_batch else len(graph.example_inputs[0])
    batches = list(plain_inputs(data, samples, size))
    return [x for x in batches if len(x) == size] or batches
