from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.randomness import Stream, mix, seeded


def draw() -> tuple[float, float, float]:
    return float(torch.rand(())), random.random(), float(np.random.rand())


@given(st.lists(st.integers(0, 2**63), min_size=1, max_size=3))
def test_a_seed_depends_on_all_its_parts(keys: list[int]) -> None:
    assert mix(*keys) == mix(*keys)
    assert 0 <= mix(*keys) < 2**63
    assert mix(*keys, 0) != mix(*keys)
    assert mix(keys[0] + 1, *keys[1:]) != mix(*keys)


def test_the_order_of_the_parts_matters() -> None:
    assert mix(1, 2) != mix(2, 1)
    assert mix(12) != mix(1, 2)


def test_seeded_draws_are_repeated_and_leave_no_trace() -> None:
    with seeded(9):
        outside = draw()
        with seeded(3, 4):
            one = draw()
        after = draw()
    with seeded(9):
        assert draw() == outside
        assert draw() == after
        with seeded(3, 4):
            assert draw() == one
        with seeded(3, 5):
            assert draw() != one


def test_a_stream_goes_on_where_it_stopped() -> None:
    with seeded(1):
        expected = [draw() for _ in range(3)]
    stream, got = Stream(1), []
    for _ in range(3):
        with stream:
            got.append(draw())
        draw()
    assert got == expected
