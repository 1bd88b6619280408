"""Which samples come in which batch, in which order: a function of (seed, epoch), nothing else.

Each sample travels with a random key of its own. Augmentation draws only from that key, so a batch
in the middle of an epoch can be made again without its predecessors, in any process.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from edgeprune.randomness import Stream, mix

Draw = tuple[int, int]
"""(index of the sample, random key)."""
Share = tuple[int, int]
"""(which process, of how many): every batch is dealt out to them sample by sample."""


class KeyedBatches(Sampler[list[Draw]]):
    """Batches of `Draw`s, in a new order every epoch (`shuffle`), or in one fixed random order.

    The fixed order is random too: folders are sorted by class, and the first batches, which stand
    for the whole when statistics are taken, should hold all of them.
    """

    def __init__(self, samples: int, batch_size: int, *, shuffle: bool, seed: int) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.shuffle = shuffle
        # a last batch of one sample has no batch statistics, so training leaves a short one out
        self.drop_last = shuffle and samples >= batch_size
        self._seed = mix(seed)
        self._epoch = 0
        self._start = 0
        self._share: Share = (0, 1)

    def begin(self, seed: int, epoch: int, start: int = 0, share: Share = (0, 1)) -> None:
        """From now on, iterate over this share of this epoch, beginning at batch `start`."""
        if self.shuffle:
            self._seed, self._epoch = mix(seed), epoch
        self._start, self._share = start, share

    def __len__(self) -> int:
        whole, rest = divmod(self.samples, self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[list[Draw]]:
        generator = torch.Generator().manual_seed(mix(self._seed, self._epoch))
        order = torch.randperm(self.samples, generator=generator)
        keys = torch.randint(2**62, (self.samples,), generator=generator)
        for batch in range(self._start, len(self)):
            here = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            draws = list(zip(order[here].tolist(), keys[here].tolist(), strict=True))
            own = draws[self._share[0] :: self._share[1]]
            if own:
                yield own


def epoch_batches(
    loader: DataLoader[Any], seed: int, epoch: int, start: int = 0, share: Share = (0, 1)
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch from number `start` on, the same whenever the arguments are.

    Of every batch only the samples of one process's `share` come; batches that hold none of them
    are left out.

    Our own loaders jump to `start`. Others are run with the global generators seeded by
    (seed, epoch) and their first `start` batches discarded; the generators are given back
    between batches.
    """
    if isinstance(loader.batch_sampler, KeyedBatches):
        loader.batch_sampler.begin(seed, epoch, start, share)
        for inputs, targets in loader:
            yield inputs, targets
        return
    stream = Stream(seed, epoch)
    owners: tuple[Any, ...] = (loader, loader.sampler, loader.batch_sampler)
    for owner in owners:
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(mix(seed, epoch))
        if hasattr(owner, "set_epoch"):  # DistributedSampler and its like
            owner.set_epoch(epoch)
    with stream:
        batches = iter(loader)
    for position in range(len(loader)):
        with stream:
            batch = next(batches, None)
        if batch is None:
            return
        if position >= start:
            inputs, targets = (part[share[0] :: share[1]] for part in batch)
            if len(inputs):
                yield inputs, targets


def some_batches(
    loader: DataLoader[Any], most: int, share: Share = (0, 1)
) -> Iterator[tuple[Tensor, Tensor]]:
    """Whole batches of about `most` samples that stand for all of a loader: the first ones of our
    own, whose order is random, and evenly spread ones of others, which may be sorted."""
    ours = isinstance(loader.batch_sampler, KeyedBatches)
    wanted, stride = len(loader), 1
    for number, (inputs, targets) in enumerate(epoch_batches(loader, 0, 0, share=share)):
        if number == 0:
            wanted = -(-most // (len(inputs) * share[1]))
            stride = 1 if ours else max(1, len(loader) // wanted)
        if number >= wanted * stride:
            return
        if number % stride == 0:
            yield inputs, targets


def held_out(labels: Sequence[int], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices (kept, held out): `fraction` of every class is held out, chosen by `seed`.

    At least one sample of a class is held out and at least one is kept, if it has two.
    """
    by_class: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        by_class[label].append(index)
    generator = torch.Generator().manual_seed(mix(seed, len(labels)))
    kept: list[int] = []
    out: list[int] = []
    for label in sorted(by_class):
        members = by_class[label]
        order = torch.randperm(len(members), generator=generator).tolist()
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        out += [members[i] for i in order[:count]]
        kept += [members[i] for i in order[count:]]
    return sorted(kept), sorted(out)
