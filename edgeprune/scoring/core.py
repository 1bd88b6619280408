"""The table of criteria: a small function each, from a graph and its groups to `Scores`."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune import ranks
from edgeprune.choices import CRITERIA, Choice
from edgeprune.errors import PlanError
from edgeprune.records import ChannelGroup, ChannelGroups, Graph, ParameterSlice, Scores

SAMPLES = 512


class Samples(Protocol):
    """What a criterion needs of a data set: training batches as they are, and the loss."""

    @property
    def train_plain(self) -> Iterable[Any]: ...

    @property
    def loss(self) -> Callable[[Any, Any], Tensor]: ...


Values = dict[str, NDArray[np.float64]]
Criterion = Callable[[Graph, ChannelGroups, Samples | None], Values]
_CRITERIA: dict[str, Criterion] = {}


def criterion(name: str) -> Callable[[Criterion], Criterion]:
    """Register the function of a criterion that choices.py describes; a second one raises."""

    def register(function: Criterion) -> Criterion:
        if name in _CRITERIA or name not in CRITERIA:
            raise ValueError(f"criterion {name} is registered already, or not in choices.py")
        _CRITERIA[name] = function
        return function

    return register


def criteria() -> dict[str, Choice]:
    """All criteria by name, each with a line on what it is and whether it needs data."""
    return {name: CRITERIA[name] for name in _CRITERIA}


def score(
    graph: Graph, groups: ChannelGroups, criterion: str = "taylor", data: Samples | None = None
) -> Scores:
    """The importance of every channel of every group under a criterion.

    "taylor" (the default), "fisher" and "activation" need `data`; the others read weights only
    (`criteria()` has a line on each). Raises PlanError for a criterion that does not exist, lacks
    its data, or has nothing to read in this network.
    """
    if criterion not in _CRITERIA:
        close = difflib.get_close_matches(criterion, _CRITERIA, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise PlanError(f"no criterion {criterion!r}: there are {', '.join(_CRITERIA)}.{hint}")
    if CRITERIA[criterion].needs_data and data is None:
        raise PlanError(
            f"criterion {criterion!r} needs data: pass --data, or use l2, which reads weights only"
        )
    return Scores(criterion, _CRITERIA[criterion](graph, groups, data))


# --- what a channel owns -------------------------------------------------------------------------


def per_channel(values: Tensor, where: ParameterSlice) -> NDArray[np.float64]:
    """Sum `values` (of the parameter's shape) over what each channel owns of it by one slice."""
    return _common(values.detach(), [where])


def owned(
    values: dict[str, Tensor], slices: Sequence[ParameterSlice], size: int
) -> NDArray[np.float64]:
    """Sum `values` (by parameter, of its shape) over everything that each of `size` channels owns.

    An element that two slices of a channel share, such as w[i, i] of a layer whose inputs and
    outputs are one group, counts once (inclusion and exclusion).
    """
    total = np.zeros(size)
    ordered = sorted(slices, key=lambda part: part.parameter)
    for name, parts in itertools.groupby(ordered, key=lambda part: part.parameter):
        mine = list(parts)
        for count in range(1, len(mine) + 1):
            sign = 1 if count % 2 else -1
            for chosen in itertools.combinations(mine, count):
                total += sign * _common(values[name].detach(), chosen)
    return total


def _common(values: Tensor, slices: Sequence[ParameterSlice]) -> NDArray[np.float64]:
    """Sum over the elements that lie in all of a channel's `slices` (of different dimensions)."""
    by_dim = {part.dim: part for part in slices}
    rest = tuple(d for d in range(values.dim()) if d not in by_dim)
    inside = (values.sum(dim=rest) if rest else values).double().cpu().numpy()
    index = []
    for axis, dim in enumerate(sorted(by_dim)):
        positions = by_dim[dim].positions
        shape = [len(positions), *([1] * len(by_dim))]
        shape[1 + axis] = positions.shape[1]
        index.append(positions.reshape(shape))
    found: NDArray[np.float64] = inside[tuple(index)]
    summed: NDArray[np.float64] = found.sum(axis=tuple(range(1, found.ndim)))
    return summed


def weight_slices(group: ChannelGroup, parameters: dict[str, Tensor]) -> list[ParameterSlice]:
    """The slices of parameters of two dimensions or more; of whatever there is if there are none.

    Depthwise filters and position tables belong to them; biases and the scales of norms do not.
    """
    known = [s for s in group.slices if s.parameter in parameters]
    weights = [s for s in known if parameters[s.parameter].dim() > 1]
    return weights or known


def vectors(group: ChannelGroup, parameters: dict[str, Tensor]) -> list[Tensor]:
    """Every weight slice of a group as (channels, n): side by side, what each channel owns."""
    pieces = []
    for part in weight_slices(group, parameters):
        rows = parameters[part.parameter].detach().movedim(part.dim, 0).flatten(1)
        pieces.append(rows[torch.from_numpy(part.positions).to(rows.device)].flatten(1))
    return pieces


def parameters_of(graph: Graph) -> dict[str, Tensor]:
    """Named parameters of the graph's module, without buffers."""
    return dict(graph.program.named_parameters())


def relative(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores over their mean within the group: an average channel counts one in every layer."""
    mean = float(values.mean())
    result: NDArray[np.float64] = values / mean if mean > 0 else np.ones_like(values)
    return result


# --- data ----------------------------------------------------------------------------------------


def samples(data: Samples, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
    """At most SAMPLES training samples (inputs, targets) in pieces of at most `chunk`; where there
    are several processes, those pieces that fall to this one (`added_up` brings them together)."""

    def pieces(batch: tuple[Tensor, Tensor]) -> zip[tuple[Tensor, Tensor]]:
        inputs, targets = batch
        return zip(inputs.split(chunk), targets.split(chunk), strict=True)

    every = itertools.chain.from_iterable(pieces(batch) for batch in data.train_plain)
    return itertools.islice(every, ranks.rank(), SAMPLES // chunk, ranks.count())


def added_up(found: Values, count: int) -> tuple[Values, int]:
    """Sums by group and a count, over the pieces of all processes."""
    if ranks.count() == 1:
        return found, count
    tensors = {name: torch.from_numpy(value.copy()) for name, value in found.items()}
    ranks.add_up(list(tensors.values()))
    (total,) = ranks.added([count])
    return {name: tensor.numpy() for name, tensor in tensors.items()}, int(total)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in eval mode, put back as it was afterwards."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def gradients(loss: Tensor, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of the parameters that the loss reaches."""
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: g for name, g in zip(parameters, found, strict=True) if g is not None}
