"""Labels with parts against each other: the same parts, finer parts, or one beside the other."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from edgeprune.channels.core import Flow, Label
from edgeprune.channels.layout import Split, compressed


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two broadcast tensors hold the same."""
    a, b = compressed(a), compressed(b)
    return a.shape == b.shape and bool((a == b).all())


def beside(a: Label, b: Label) -> bool:
    """Whether two labels vary inside of the same parts, along dimensions of their own: an element
    is there while both of its channels are (products of channels with channels)."""
    one, other = a.split, b.split
    if one is None or other is None or one.axis == other.axis:
        return False
    return one.axis not in b.dims and other.axis not in a.dims and alike(one.which, other.which)


def finer(flow: Flow, a: Split, b: Split) -> tuple[Split, Split]:
    """Two splits as the parts that both tell apart: several parts of the one may meet the same
    part of the other (grouped queries), whose owners then are one. `which` broadcast together."""
    pairs = compressed(a.which) * len(b.parts) + compressed(b.which)
    numbers, first, inverse = np.unique(pairs.numpy(), return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    which = torch.from_numpy(place[inverse.reshape(pairs.shape)]).expand(a.which.shape)
    left, right = np.divmod(numbers[order], len(b.parts))
    size = len(a.parts) + len(b.parts)
    met = coo_matrix((np.ones(len(left)), (left, right + len(a.parts))), (size, size))
    _, same = connected_components(met, directed=False)
    every = torch.cat([a.owners, b.owners])
    owners = every[np.unique(same, return_index=True)[1]][same]
    flow.unite(every, owners)
    found = [
        Split(split.axis, tuple(split.parts[i] for i in parts), which, owners[left])
        for split, parts in ((a, left), (b, right))
    ]
    return found[0], found[1]
