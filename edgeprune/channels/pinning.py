"""Producers whose channels cannot all go, each with the op that really holds them."""

from __future__ import annotations

import re

import numpy as np

from edgeprune.channels.analysis import Analysis
from edgeprune.channels.core import name_of, where
from edgeprune.channels.extents import Where
from edgeprune.records import Pinned

_SECOND_HAND = "counted with"


def pinned(analysis: Analysis, groups: Where) -> tuple[Pinned, ...]:
    """What cannot be removed, by the parameter that makes it.

    The cause is the first op that pins any id that was tied to the producer's own before pinning;
    an op that only passes on what another one pinned is named where there is no other.
    """
    cause = np.full(int(analysis.linked.max()) + 1, len(analysis.pins), dtype=np.int64)
    order = sorted(
        range(len(analysis.pins)), key=lambda i: analysis.pins[i].reason.startswith(_SECOND_HAND)
    )
    for place, i in reversed(list(enumerate(order))):
        cause[analysis.linked[analysis.pins[i].ids]] = place
    found = []
    for (name, dim), role in analysis.roles.items():
        ids = analysis.parameters[name][dim]
        if role != "out" or ids is None:
            continue
        own = ids.numpy()
        stuck = own[(analysis.classes[own] == 0) & (groups.group[analysis.owners[own]] < 0)]
        if not stuck.size:
            continue
        first = int(cause[analysis.linked[stuck]].min())
        op, reason, line = "output", "tied to channels that cannot be removed", ""
        if first < len(order):
            pin = analysis.pins[order[first]]
            op = name_of(pin.node) if pin.node.op == "call_function" else "output"
            reason, line = pin.reason, where(pin.node)
        found.append(Pinned(re.sub("[._]weight$", "", name), stuck.size, op, reason, line))
    return tuple(found)
