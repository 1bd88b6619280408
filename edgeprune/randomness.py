"""Randomness that leaves no trace: the global generators are lent, seeded, and given back.

Everything random in edgeprune is a function of a few integers (a seed, an epoch, a position), so
that a run that was killed can be continued exactly, without any generator state on disk.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def mix(*keys: int) -> int:
    """A seed (63 bits) that depends on all of `keys` and on their order."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def seeded(*keys: int) -> Iterator[None]:
    """Inside, the generators of torch, NumPy and Python start from `mix(*keys)`.

    Outside, they go on as if nothing had been drawn.
    """
    with Stream(*keys):
        yield


class Stream:
    """A stream of the global generators that can be entered again and again.

    Each `with stream:` goes on where the last one stopped, whatever was drawn in between.
    """

    def __init__(self, *keys: int) -> None:
        self._seed: int | None = mix(*keys)
        self._own: Any = None
        self._lent: Any = None

    def __enter__(self) -> None:
        self._lent = _states()
        if self._seed is not None:
            _seed_all(self._seed)
            self._seed = None
        else:
            _restore(self._own)

    def __exit__(self, *_: object) -> None:
        self._own = _states()
        _restore(self._lent)


def _seed_all(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # the old interface: users' augmentations draw from it
    if _cuda_in_use():
        torch.cuda.manual_seed_all(seed)


def _cuda_in_use() -> bool:
    # asking for a generator's state would start CUDA; this does not
    return bool(torch.cuda.is_initialized())


def _states() -> Any:
    cuda = torch.cuda.get_rng_state_all() if _cuda_in_use() else None
    return torch.random.get_rng_state(), random.getstate(), np.random.get_state(), cuda


def _restore(states: Any) -> None:
    torch_state, python_state, numpy_state, cuda = states
    torch.random.set_rng_state(torch_state)
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)
