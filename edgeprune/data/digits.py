"""scikit-learn's handwritten digits: 1797 grey images of 8 by 8, in ten classes, no download."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from edgeprune.data.images import Loading, Look, kept_loader
from edgeprune.data.records import Data, DataRequest
from edgeprune.data.sampling import held_out
from edgeprune.data.shapes import image_shape
from edgeprune.errors import DataError
from edgeprune.records import Progress

_TEST_FRACTION = 0.2
_SPLIT = 0  # who is in which part never changes, so that results can be compared


def digits(request: DataRequest, progress: Progress) -> Data:
    """The digits, resized (bilinear) to the model's H and W (32 by 32 by default).

    A fifth is the test set; the split is stratified and always the same. Training shifts the
    image by up to an eighth of its size. Grey is repeated where the model wants more channels.
    """
    from sklearn.datasets import load_digits

    if request.spec != "digits":
        raise DataError(f"{request.spec!r}: digits takes nothing after its name")
    c, h, w = image_shape(request.sample_shape or (1, 32, 32), any_channels=True)
    bunch = load_digits()
    grey = torch.from_numpy(np.asarray(bunch.images, dtype=np.float32)).unsqueeze(1) / 16
    labels = torch.from_numpy(np.asarray(bunch.target)).long()
    resized = F.interpolate(grey, (h, w), mode="bilinear", align_corners=False)
    pixels = (resized * 255).round().clamp(0, 255).to(torch.uint8)
    rest, test = held_out(labels.tolist(), _TEST_FRACTION, _SPLIT)
    kept, out = held_out(labels[rest].tolist(), request.val_fraction, _SPLIT)
    train, validation = [rest[i] for i in kept], [rest[i] for i in out]
    seen = pixels[train].float() / 255
    look = Look(
        (c, h, w), (float(seen.mean()),), (float(seen.std()),), pad=max(h, w) // 8, flip=False
    )
    how = Loading(look, request.batch_size, request.seed, progress=progress)
    return Data(
        name="digits",
        train=kept_loader(pixels[train], labels[train], True, how),
        train_plain=kept_loader(pixels[train], labels[train], False, how),
        validation=kept_loader(pixels[validation], labels[validation], False, how),
        test=kept_loader(pixels[test], labels[test], False, how),
        classes=10,
        sample_shape=(c, h, w),
        normalisation=str(look),
        mean=look.mean,
        std=look.std,
        labels=tuple(str(digit) for digit in range(10)),
    )
