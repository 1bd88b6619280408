"""What several processes add up travels in messages; test_distributed.py has the processes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeprune import ranks

SIZES = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([torch.float32, torch.float64])))


@given(SIZES)
def test_messages_hold_all_tensors_in_order_and_one_kind_each(
    sizes: list[tuple[int, torch.dtype]],
) -> None:
    tensors = [torch.zeros(n, dtype=dtype) for n, dtype in sizes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "_MESSAGE", 100)
        messages = list(ranks._buckets(tensors))
    assert [id(t) for message in messages for t in message] == [id(t) for t in tensors]
    for message in messages:
        assert message
        assert len({t.dtype for t in message}) == 1
        assert sum(t.nbytes for t in message[:-1]) < 100


def test_alone_nothing_is_added() -> None:
    tensor = torch.arange(3.0)
    ranks.add_up([tensor])
    assert tensor.tolist() == [0, 1, 2]
    assert ranks.added([1.0, 2.0]) == [1, 2]
