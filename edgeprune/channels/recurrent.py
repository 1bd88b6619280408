"""Recurrent layers: the hidden units of all layers and directions are one set of channels.

Both directions and all layers keep their initial states in one tensor (layers x directions, N, H),
so they have one width, and unit i of one is tied to unit i of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from edgeprune.channels.contraction import CROSSES, read, weight_ids
from edgeprune.channels.core import Flow, Label, Value, aten, labelled, rule, spread

_REASON = "varies over the steps of a recurrence"


@rule(aten.lstm.input)
def lstm(flow: Flow, x: Value, states: Sequence[Value], *rest: Any) -> tuple[Value, ...]:
    """Ids (T, N, C) → (T, N, H x directions), and both last states (Hochreiter & Schmidhuber)."""
    return _recurrent(flow, x, states, rest, gates=4)


@rule(aten.gru.input)
def gru(flow: Flow, x: Value, state: Value, *rest: Any) -> tuple[Value, ...]:
    """Ids (T, N, C) → (T, N, H x directions), and the last state (Cho et al. 2014)."""
    return _recurrent(flow, x, [state], rest, gates=3)


@rule(aten.rnn_tanh.input, aten.rnn_relu.input)
def rnn(flow: Flow, x: Value, state: Value, *rest: Any) -> tuple[Value, ...]:
    """Ids (T, N, C) → (T, N, H x directions), and the last state (Elman 1990)."""
    return _recurrent(flow, x, [state], rest, gates=1)


def _recurrent(
    flow: Flow, x: Value, states: Sequence[Value], rest: tuple[Any, ...], gates: int
) -> tuple[Value, ...]:
    parameters, has_biases, layers, _, _, both_ways, _ = rest
    directions = 2 if both_ways else 1
    cells = list(_cells(parameters, 4 if has_biases else 2))
    if len(cells) != layers * directions:
        raise ValueError("outputs are projected to another width")
    width = cells[0][1].shape[1]
    last = len(x.shape) - 1
    read_ids, others = flow.contract(x, last, CROSSES)
    for label in others:
        flow.pin(label.ids, _REASON)
    units = weight_ids(cells[0][1], 1)
    for i, (weight, recurrent, *biases) in enumerate(cells):
        read(flow, weight, 1, read_ids if i < directions else _times(units, directions))
        read(flow, recurrent, 1, units)
        flow.role(weight, 0, "out")
        if units is not None:
            for parameter in (weight, recurrent, *biases):
                flow.consume(parameter, 0, units.repeat(gates))
    for state in states:
        _starts(flow, state, units)
    shape = (*x.shape[:-1], width * directions)
    made = [_of(shape, _times(units, directions))]
    return (*made, *(_of(state.shape, units) for state in states))


def _cells(parameters: Sequence[Value], each: int) -> Iterator[Sequence[Value]]:
    """(input weight, recurrent weight, biases) of every layer and direction, in order."""
    for at in range(0, len(parameters), each):
        yield parameters[at : at + each]


def _starts(flow: Flow, state: Value, units: Tensor | None) -> None:
    """An initial state has the width of the units; those of an input cannot be cut."""
    for label in state.labels:
        if label.dims != {2}:
            flow.pin(label.ids, _REASON)
    if units is None:
        return
    own = next((label.along(2) for label in state.labels if label.dims == {2}), None)
    if own is None:
        flow.pin(units, "starts from a state whose elements cannot be removed")
    else:
        flow.unite(own, units)


def _times(units: Tensor | None, directions: int) -> Tensor | None:
    return None if units is None else units.repeat(directions)


def _of(shape: Sequence[int], ids: Tensor | None) -> Value:
    shape = tuple(shape)
    labels = [] if ids is None else [Label(spread(ids, len(shape) - 1, shape))]
    return labelled(shape, labels)
