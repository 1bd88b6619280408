"""Images → loaders. Small ones are decoded once and kept; large ones are read when needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms import v2

from edgeprune.data.records import Loader
from edgeprune.data.sampling import Draw, KeyedBatches
from edgeprune.errors import DataError
from edgeprune.randomness import seeded
from edgeprune.records import Progress, silent

SMALL = 64
"""Up to this height and width, images are kept in memory as bytes."""
_MOST_BYTES = 2_000_000_000
_CROP_MARGIN = 1.14  # evaluation resizes to 256 / 224 of the crop, as ImageNet models expect


@dataclass(frozen=True)
class Pool:
    """Labelled images that are opened one by one: `open(i)` is the i-th, `where(i)` its name."""

    labels: tuple[int, ...]
    open: Callable[[int], Image.Image]
    where: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Sequence[int]) -> Pool:
        """The images at `indices`, in that order."""
        chosen = tuple(indices)
        return Pool(
            tuple(self.labels[i] for i in chosen),
            lambda i: self.open(chosen[i]),
            lambda i: self.where(chosen[i]),
        )

    def read(self, index: int, channels: int) -> Image.Image:
        """The decoded image, RGB or grey. Raises DataError naming the image that is damaged."""
        try:
            return self.open(index).convert("RGB" if channels == 3 else "L")
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
            raise DataError(
                f"cannot decode {self.where(index)}: {error}; replace or remove it"
            ) from error


@dataclass(frozen=True)
class Look:
    """What a model sees: (C, H, W), per-channel mean and deviation of 0..1, and augmentation."""

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int = 4
    flip: bool = True

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 (N, c, H, W) → float32 (N, C, H, W); grey is repeated where C is more than c."""
        # one affine pass over bytes: (x / 255 - mean) / std
        mean, std = (torch.tensor(v).view(-1, 1, 1) * 255 for v in (self.mean, self.std))
        out = (pixels.float() - mean) / std
        return out.expand(-1, self.shape[0], -1, -1).contiguous()

    def __str__(self) -> str:
        mean, std = (", ".join(f"{v:.3f}" for v in vs) for vs in (self.mean, self.std))
        return f"pixels 0..1, minus mean ({mean}), divided by standard deviation ({std})"


@dataclass(frozen=True)
class Loading:
    """How loaders are made from images."""

    look: Look
    batch_size: int
    seed: int
    workers: int = 0
    progress: Progress = silent


class KeptImages(Dataset[Any]):
    """Images as bytes in memory, handed out a whole batch at a time.

    Augmentation is the one of He et al. 2015, section 4.2: `pad` pixels of black around, a random
    crop, and a horizontal flip; all of a batch in a few tensor operations.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, look: Look, *, augment: bool) -> None:
        self.pixels = pixels
        self.labels = labels
        self.look = look
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, draws: Sequence[Draw]) -> tuple[Tensor, Tensor]:
        indices, keys = (torch.tensor(column) for column in zip(*draws, strict=True))
        pixels = self.pixels[indices]
        if self.augment:
            pixels = self._augmented(pixels, keys)
        return self.look.normalise(pixels), self.labels[indices]

    def _augmented(self, pixels: Tensor, keys: Tensor) -> Tensor:
        n, c, h, w = pixels.shape
        pad = self.look.pad
        span = 2 * pad + 1
        down, right = keys % span, (keys // span) % span
        columns = torch.arange(w).expand(n, w)
        if self.look.flip:
            mirrored = ((keys // span**2) % 2).bool().view(n, 1)
            columns = torch.where(mirrored, columns.flip(1), columns)
        rows = torch.arange(h) + down.view(n, 1)
        columns = columns + right.view(n, 1)
        padded = F.pad(pixels, (pad, pad, pad, pad))
        places = (rows.unsqueeze(2) * (w + 2 * pad) + columns.unsqueeze(1)).view(n, 1, h * w)
        return padded.flatten(2).gather(2, places.expand(n, c, h * w)).view(n, c, h, w)


class ReadImages(Dataset[Any]):
    """Images read when they are asked for: a random resized crop and flip (Szegedy et al. 2015)
    for training, the centre for evaluation."""

    def __init__(self, pool: Pool, look: Look, *, augment: bool) -> None:
        _, h, w = look.shape
        self.pool = pool
        self.look = look
        self.augment = augment
        steps: list[Any]
        if augment:
            steps = [v2.RandomResizedCrop((h, w), antialias=True)]
            steps += [v2.RandomHorizontalFlip()] if look.flip else []
        else:
            steps = [v2.Resize(round(max(h, w) * _CROP_MARGIN)), v2.CenterCrop((h, w))]
        self.transform = v2.Compose([*steps, v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self.pool)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, int]:
        index, key = draw
        image = self.pool.read(index, self.look.shape[0])
        if self.augment:
            with seeded(key):
                pixels = self.transform(image)
        else:
            pixels = self.transform(image)
        return self.look.normalise(pixels.unsqueeze(0)).squeeze(0), self.pool.labels[index]


def image_loaders(train: Pool, others: Sequence[Pool], how: Loading) -> list[Loader]:
    """Loaders [train, train plain, *others]."""
    c, h, w = how.look.shape
    total = (len(train) + sum(len(p) for p in others)) * c * h * w
    plans = [(train, True), (train, False), *((p, False) for p in others)]
    if max(h, w) > SMALL or total > _MOST_BYTES:
        return [
            loader(ReadImages(pool, how.look, augment=augment), augment, how)
            for pool, augment in plans
        ]
    kept = {id(pool): decode(pool, how) for pool, _ in plans}
    return [kept_loader(*kept[id(pool)], augment, how) for pool, augment in plans]


def kept_loader(pixels: Tensor, labels: Tensor, augment: bool, how: Loading) -> Loader:
    """A loader of images in memory; one for training shuffles and augments."""
    return loader(KeptImages(pixels, labels, how.look, augment=augment), augment, how)


def loader(dataset: KeptImages | ReadImages, training: bool, how: Loading) -> Loader:
    """A `DataLoader` with our batches."""
    kept = isinstance(dataset, KeptImages)
    batches = KeyedBatches(len(dataset), how.batch_size, shuffle=training, seed=how.seed)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=0 if kept else how.workers,  # memory is quicker than another process
        collate_fn=_whole_batch if kept else default_collate,
        generator=torch.Generator(),  # without one, every epoch draws from the global generator
    )


def decode(pool: Pool, how: Loading) -> tuple[Tensor, Tensor]:
    """All images as uint8 (N, C, H, W), scaled and cut at the centre where sizes differ."""
    c, h, w = how.look.shape
    pixels = np.empty((len(pool), h, w, c), dtype=np.uint8)
    for i in range(len(pool)):
        image = pool.read(i, c)
        if image.size != (w, h):
            image = ImageOps.fit(image, (w, h), Image.Resampling.BILINEAR)
        pixels[i] = np.asarray(image).reshape(h, w, c)
        if i % 1000 == 999:
            how.progress("decode images", i + 1, len(pool))
    chw = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    return chw, torch.tensor(pool.labels, dtype=torch.int64)


def _whole_batch(batch: Any) -> Any:
    return batch
