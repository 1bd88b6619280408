"""Any number of samples through a function that takes only so many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.measuring.batches import Array, in_batches


@given(total=st.integers(1, 17), batch=st.integers(1, 6))
def test_batches_change_nothing(total: int, batch: int) -> None:
    a = np.arange(total * 3.0).reshape(total, 3)
    b = np.arange(total)

    def call(inputs: list[Array]) -> list[Array]:
        assert [len(x) for x in inputs] == [batch, batch]
        return [inputs[0].sum(axis=1) + inputs[1], -inputs[0]]

    got = in_batches(call, [a, b], batch)
    np.testing.assert_array_equal(got[0], a.sum(axis=1) + b)
    np.testing.assert_array_equal(got[1], -a)


def test_inputs_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        in_batches(lambda x: x, [np.ones(2), np.ones(3)], 1)


def test_an_output_without_a_batch_needs_exactly_one_batch() -> None:
    total = [np.ones((4, 2))]
    assert in_batches(lambda x: [x[0].sum()], total, 4)[0] == 8
    with pytest.raises(ValueError, match="pass exactly 2 samples"):
        in_batches(lambda x: [x[0].sum()], total, 2)
