"""Producers whose channels cannot all go, each with the op that really holds them."""

from __future__ import annotations

import numpy as np
from torch import fx

from edgeprune.channels.analysis import Analysis, Ids
from edgeprune.channels.core import name_of, rule_for, where
from edgeprune.channels.extents import Where
from edgeprune.channels.members import owner_name
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
    producers = _producers(analysis)
    for name, dim in [*producers, *_untouched(analysis)]:
        ids = analysis.parameters[name][dim]
        assert ids is not None
        own = ids.numpy()
        stuck = own[
            (groups.group[analysis.classes[own]] < 0) & (groups.group[analysis.owners[own]] < 0)
        ]
        if not stuck.size:
            continue
        first = int(cause[analysis.linked[stuck]].min())
        op, reason, line = _all_together(analysis, analysis.linked[stuck])
        if first < len(order):
            pin = analysis.pins[order[first]]
            op = name_of(pin.node) if pin.node.op == "call_function" else "output"
            reason, line = pin.reason, where(pin.node)
            if (name, dim) not in producers and not _left_alone(analysis, pin.node):
                continue  # a table of positions, say: it has no channels
        found.append(Pinned(owner_name(name), stuck.size, op, reason, line))
    return tuple(found)


def _all_together(analysis: Analysis, linked: Ids) -> tuple[str, str, str]:
    """Channels that nothing pins and that still cannot go: tied to each other, all of them, through
    what some op asks of parts."""
    tied = set(linked.tolist())
    nodes = (c.node for c in analysis.counts if tied & set(analysis.linked[c.parts[0]].tolist()))
    node = next(nodes, None)
    op = name_of(node) if node is not None else "output"
    return op, "they could only go all together", where(node) if node is not None else ""


def _left_alone(analysis: Analysis, node: fx.Node) -> bool:
    """Whether nothing is known of what a node does."""
    return rule_for(node.target) is None or (node.name, "given up") in analysis.choices


def _producers(analysis: Analysis) -> list[tuple[str, int]]:
    """The parameters that make channels, each with the dimension in which they lie."""
    return [
        key
        for key, role in analysis.roles.items()
        if role == "out" and analysis.parameters[key[0]][key[1]] is not None
    ]


def _untouched(analysis: Analysis) -> list[tuple[str, int]]:
    """Matrices that no layer's rule reads and of which nothing can be removed: recurrent layers,
    weights that are computed before they are used, tables."""
    named = {name for name, _ in analysis.roles}
    found = []
    for name, dims in analysis.parameters.items():
        ids = [i for i in dims if i is not None]
        stays = all(bool((analysis.classes[i.numpy()] == 0).all()) for i in ids)
        if name not in named and len(ids) > 1 and stays and name not in analysis.buffers:
            found.append((name, next(d for d, i in enumerate(dims) if i is not None)))
    return found
