"""Locality-sensitive hashing by random hyperplanes (Charikar 2002): vectors at an angle of θ
differ in a bit with probability θ/π."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

TABLES, KEY_BITS = 24, 10
ALIKE = 0.95
"""Cosine from which one vector repeats another."""


def hash_bits(pieces: Sequence[Tensor], bits: int, seed: int = 0) -> Tensor:
    """On which side of `bits` random hyperplanes each vector lies: booleans (vectors, bits).

    A vector is given in pieces, each (vectors, d): it is what they make side by side.
    """
    generator = torch.Generator().manual_seed(seed)
    projected = torch.zeros(len(pieces[0]), bits, dtype=torch.float64)
    for piece in pieces:
        planes = torch.randn(piece.shape[1], bits, generator=generator, dtype=torch.float64)
        projected += piece.detach().double().cpu() @ planes
    return projected > 0


def repeats(vectors: Tensor, seed: int = 0) -> Tensor:
    """Which vectors (rows of (n, d)) repeat the direction of a longer one that stays: (n,) cosines,
    0 for those that do not.

    Rows that share one of TABLES keys of KEY_BITS bits are compared; a cosine of ALIKE or more
    counts. Two rows at that cosine share no key, and are missed, once in 25,000 times. A row of
    zeros repeats nothing.
    """
    lengths = vectors.norm(dim=1)
    units = vectors / lengths.clamp_min(1e-30)[:, None]
    weights = 2 ** torch.arange(KEY_BITS)
    keys = hash_bits([vectors], TABLES * KEY_BITS, seed).view(-1, TABLES, KEY_BITS).long()
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    found = torch.zeros(len(vectors), dtype=torch.float64)
    table_keys = (keys * weights).sum(-1).tolist()
    for row in torch.argsort(lengths, descending=True, stable=True).tolist():
        if lengths[row] == 0:
            continue
        places = list(enumerate(table_keys[row]))
        near = sorted({other for place in places for other in buckets.get(place, ())})
        best = float((units[near] @ units[row]).max()) if near else 0.0
        if best >= ALIKE:
            found[row] = best
            continue
        for place in places:
            buckets[place].append(row)
    return found
