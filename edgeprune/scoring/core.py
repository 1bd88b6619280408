"""The table of criteria: a small function each, from a graph and its groups to `Scores`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeprune.errors import PlanError
from edgeprune.records import ChannelGroup, ChannelGroups, Graph, ParameterSlice, Scores


class Samples(Protocol):
    """What a criterion needs of a data set: training batches as they are, and the loss."""

    @property
    def train_plain(self) -> Iterable[Any]: ...

    @property
    def loss(self) -> Callable[[Any, Any], Tensor]: ...


Values = dict[str, NDArray[np.float64]]
Criterion = Callable[[Graph, ChannelGroups, Samples | None], Values]
_CRITERIA: dict[str, tuple[Criterion, bool]] = {}


def criterion(name: str, *, needs_data: bool = False) -> Callable[[Criterion], Criterion]:
    """Register a criterion under a name; a second registration raises."""

    def register(function: Criterion) -> Criterion:
        if name in _CRITERIA:
            raise ValueError(f"criterion {name} is already registered")
        _CRITERIA[name] = (function, needs_data)
        return function

    return register


def criteria() -> dict[str, bool]:
    """The names of all criteria, each with whether it needs data."""
    return {name: needs for name, (_, needs) in _CRITERIA.items()}


def score(
    graph: Graph, groups: ChannelGroups, criterion: str = "taylor", data: Samples | None = None
) -> Scores:
    """The importance of every channel of every group under a criterion.

    "taylor" (the default) needs `data`; "l1", "l2" and "random" read weights only. Raises
    PlanError for a criterion that does not exist, or lacks its data.
    """
    if criterion not in _CRITERIA:
        close = difflib.get_close_matches(criterion, _CRITERIA, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise PlanError(f"no criterion {criterion!r}: there are {', '.join(_CRITERIA)}.{hint}")
    function, needs_data = _CRITERIA[criterion]
    if needs_data and data is None:
        raise PlanError(
            f"criterion {criterion!r} needs data: pass --data, or use l2, which reads weights only"
        )
    return Scores(criterion, function(graph, groups, data))


def per_channel(values: Tensor, where: ParameterSlice) -> NDArray[np.float64]:
    """Sum `values` (of the parameter's shape) over what each channel owns of it."""
    rest = tuple(d for d in range(values.dim()) if d != where.dim)
    along = values.sum(dim=rest) if rest else values
    totals = along.detach().double().cpu().numpy()
    result: NDArray[np.float64] = totals[where.positions].sum(axis=1)
    return result


def weight_slices(group: ChannelGroup, parameters: dict[str, Tensor]) -> list[ParameterSlice]:
    """The slices of weights (two dimensions or more); of whatever there is if there are none."""
    known = [s for s in group.slices if s.parameter in parameters]
    weights = [s for s in known if s.role != "own" and parameters[s.parameter].dim() > 1]
    return weights or known


def parameters_of(graph: Graph) -> dict[str, Tensor]:
    """Named parameters of the graph's module, without buffers."""
    return dict(graph.program.named_parameters())


def relative(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores over their mean within the group: an average channel counts one in every layer."""
    mean = float(values.mean())
    result: NDArray[np.float64] = values / mean if mean > 0 else np.ones_like(values)
    return result


def gradients(loss: Tensor, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of the parameters that the loss reaches."""
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: g for name, g in zip(parameters, found, strict=True) if g is not None}
