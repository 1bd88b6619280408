from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, TensorDataset

from edgeprune.data.sampling import KeyedBatches, epoch_batches, held_out, some_batches


@given(st.integers(1, 60), st.integers(1, 20), st.booleans())
def test_every_sample_comes_at_most_once(samples: int, size: int, shuffle: bool) -> None:
    batches = KeyedBatches(samples, size, shuffle=shuffle, seed=1)
    drawn = list(batches)
    assert len(drawn) == len(batches)
    indices = [index for batch in drawn for index, _ in batch]
    assert len(set(indices)) == len(indices)
    if batches.drop_last:
        assert len(indices) == samples - samples % size
    else:
        assert sorted(indices) == list(range(samples))


@given(st.integers(0, 5), st.integers(0, 3), st.integers(0, 4))
def test_an_epoch_can_be_entered_in_the_middle(seed: int, epoch: int, start: int) -> None:
    whole = KeyedBatches(40, 8, shuffle=True, seed=0)
    whole.begin(seed, epoch)
    late = KeyedBatches(40, 8, shuffle=True, seed=7)
    late.begin(seed, epoch, start)
    assert list(late) == list(whole)[start:]


def test_epochs_and_seeds_differ_but_the_fixed_order_does_not() -> None:
    shuffled = KeyedBatches(40, 8, shuffle=True, seed=0)
    orders = []
    for seed, epoch in ((0, 1), (0, 2), (1, 1)):
        shuffled.begin(seed, epoch)
        orders.append(list(shuffled))
    assert orders[0] != orders[1] != orders[2] != orders[0]
    fixed = KeyedBatches(40, 8, shuffle=False, seed=0)
    before = list(fixed)
    fixed.begin(5, 5)
    assert list(fixed) == before
    assert [i for i, _ in before[0]] != list(range(8)), "folders are sorted by class"


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=80), st.floats(0.05, 0.9), st.integers(0, 9)
)
def test_held_out_is_a_stratified_partition(labels: list[int], fraction: float, seed: int) -> None:
    kept, out = held_out(labels, fraction, seed)
    assert sorted(kept + out) == list(range(len(labels)))
    assert held_out(labels, fraction, seed) == (kept, out)
    left = Counter(labels[i] for i in kept)
    taken = Counter(labels[i] for i in out)
    for label, count in Counter(labels).items():
        assert left[label] >= 1
        assert taken[label] >= (1 if count > 1 else 0)
        assert abs(taken[label] - fraction * count) <= 1


class Noisy(TensorDataset):
    """A user's data set that draws from every global generator."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = super().__getitem__(index)
        return x + torch.rand(1) + random.random() + np.random.rand(), y


def noisy_loader(generator: torch.Generator | None = None) -> DataLoader[object]:
    data = Noisy(torch.zeros(12, 1, dtype=torch.float64), torch.arange(12))
    return DataLoader(data, batch_size=4, shuffle=True, generator=generator)


def test_a_users_loader_is_a_function_of_seed_and_epoch() -> None:
    whole = list(epoch_batches(noisy_loader(), 3, 1))
    late = []
    for batch in epoch_batches(noisy_loader(), 3, 1, start=1):
        torch.rand(5)  # what training draws in between must not matter
        late.append(batch)
    assert len(late) == 2
    for (x, y), (expected_x, expected_y) in zip(late, whole[1:], strict=True):
        assert torch.equal(x, expected_x)
        assert torch.equal(y, expected_y)
    other = list(epoch_batches(noisy_loader(), 3, 2))
    assert not torch.equal(other[0][0], whole[0][0])


def test_a_users_own_generator_is_seeded_too() -> None:
    generator = torch.Generator().manual_seed(99)
    loader = noisy_loader(generator)
    first = [y.tolist() for _, y in epoch_batches(loader, 3, 1)]
    again = [y.tolist() for _, y in epoch_batches(loader, 3, 1)]
    assert first == again


def test_the_global_generators_are_given_back() -> None:
    torch.manual_seed(4)
    random.seed(4)
    np.random.seed(4)
    expected = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(4)
    random.seed(4)
    np.random.seed(4)
    assert len(list(epoch_batches(noisy_loader(), 0, 1))) == 3
    assert (torch.rand(1), random.random(), np.random.rand()) == expected


class Counted(Dataset[tuple[torch.Tensor, int]]):
    """Its samples are their numbers, asked for as our own samplers do."""

    def __getitem__(self, draw: tuple[int, int]) -> tuple[torch.Tensor, int]:
        return torch.zeros(1), draw[0]


def sorted_loader() -> DataLoader[object]:
    data = TensorDataset(torch.zeros(100, 1), torch.arange(100))
    return DataLoader(data, batch_size=10)


@pytest.mark.parametrize("share", [(0, 1), (1, 2)])
def test_some_batches_of_a_sorted_loader_are_spread_over_it(share: tuple[int, int]) -> None:
    found = [int(y[0]) // 10 for _, y in some_batches(sorted_loader(), 30, share)]
    assert found == [0, 3, 6]


def test_some_batches_are_at_most_all() -> None:
    assert [len(x) for x, _ in some_batches(sorted_loader(), 1000)] == [10] * 10


def test_some_batches_of_our_own_loaders_are_the_first() -> None:
    sampler = KeyedBatches(100, 10, shuffle=False, seed=0)
    loader: DataLoader[object] = DataLoader(Counted(), batch_sampler=sampler)
    first = [y.tolist() for _, y in epoch_batches(loader, 0, 0)][:2]
    assert [y.tolist() for _, y in some_batches(loader, 15)] == first
    assert sum(len(x) for x, _ in some_batches(loader, 15, (1, 2))) == 10
