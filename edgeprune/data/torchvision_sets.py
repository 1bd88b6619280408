"""torchvision's classification data sets: `torchvision:CIFAR10:ROOT` and the like."""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from edgeprune.data.images import Loading, Pool, image_loaders
from edgeprune.data.records import Data, DataRequest
from edgeprune.data.sampling import held_out
from edgeprune.data.shapes import look_of
from edgeprune.errors import DataError
from edgeprune.records import Progress
from edgeprune.usercode import close_matches

# A mirrored letter, digit or traffic sign is another one.
_NEVER_FLIPPED = {"MNIST", "EMNIST", "KMNIST", "QMNIST", "USPS", "SVHN", "GTSRB", "Omniglot"}
_TRAIN = ("train", "trainval")
_VALIDATION = ("val", "valid")
_TEST = ("test",)


@dataclass(frozen=True)
class _Set:
    """A data set class and where its files are."""

    name: str
    build: Any
    root: Path
    download: bool

    def part(self, **which: Any) -> Any:
        options = dict(which)
        if "download" in inspect.signature(self.build).parameters:
            options["download"] = self.download
        try:
            return self.build(str(self.root), **options)
        except (RuntimeError, FileNotFoundError) as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            mend = (
                "check the folder and the network"
                if self.download
                else "give the folder that holds it, or fetch it with --download"
            )
            raise DataError(
                f"{self.name} was not found in {self.root} ({reason}); {mend}"
            ) from error

    def first(self, splits: tuple[str, ...]) -> Any:
        """The first of `splits` that the data set has, or None."""
        for split in splits:
            with suppress(ValueError):  # torchvision's answer to a split it does not know
                return self.part(split=split)
        return None


def torchvision_set(request: DataRequest, progress: Progress) -> Data:
    """Any torchvision data set class of images and integer labels, with `train=` or `split=`.

    Downloads only if asked to. With a validation split of its own and a test split, these are
    used; else validation is held out of the training data. Raises DataError if there is no such
    class or its files are not there.
    """
    source = _find(request)
    parameters = inspect.signature(source.build).parameters
    if "train" in parameters:
        train, own, test = source.part(train=True), None, source.part(train=False)
    elif "split" in parameters:
        train, own, test = (source.first(splits) for splits in (_TRAIN, _VALIDATION, _TEST))
    else:
        raise DataError(
            f"torchvision's {source.name} has no train= or split= to choose by: "
            "give it as file.py:function"
        )
    if train is None or (own is None and test is None):
        raise DataError(f"torchvision's {source.name} has no training and test splits")
    pool = _pool(train, source.name)
    if own is not None and test is not None:
        validation, final = _pool(own, source.name), _pool(test, source.name)
    else:
        kept, out = held_out(pool.labels, request.val_fraction, request.seed)
        pool, validation = pool.subset(kept), pool.subset(out)
        final = _pool(test if test is not None else own, source.name)
    look = look_of(pool, request.sample_shape, flip=source.name not in _NEVER_FLIPPED)
    how = Loading(look, request.batch_size, request.seed, request.workers, progress)
    loaders = image_loaders(pool, [validation, final], how)
    return Data(
        name=source.name,
        train=loaders[0],
        train_plain=loaders[1],
        validation=loaders[2],
        test=loaders[3],
        classes=max(*pool.labels, *validation.labels, *final.labels) + 1,
        sample_shape=look.shape,
        normalisation=str(look),
        mean=look.mean,
        std=look.std,
        labels=_names(train),
        notes=(f"validation: {len(validation)} images, test: {len(final)} images",),
    )


def _find(request: DataRequest) -> _Set:
    from torchvision import datasets

    _, name, root = (*request.spec.split(":", 2), "", "")[:3]
    build = getattr(datasets, name, None) if name else None
    if not inspect.isclass(build):
        raise DataError(
            f"no such data: torchvision has no data set {name!r}"
            f"{close_matches(name, datasets.__all__)}"
        )
    if not root:
        raise DataError(f"where is {name}? Write torchvision:{name}:ROOT with its folder")
    return _Set(name, build, Path(root).expanduser(), request.download)


def _pool(dataset: Any, name: str) -> Pool:
    def opened(i: int) -> Image.Image:
        image = dataset[i][0]
        if not isinstance(image, Image.Image):
            raise DataError(f"{name} yields {type(image).__name__}, not images")
        return image

    def where(i: int) -> str:
        return f"image {i} of {name}"

    if len(dataset) == 0:
        raise DataError(f"{name} is empty")
    return Pool(_labels(dataset, name), opened, where)


def _names(dataset: Any) -> tuple[str, ...]:
    """The classes in words, where the data set has one word for each label."""
    names = getattr(dataset, "classes", None)
    plain = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if isinstance(names, list) and plain else ()


def _labels(dataset: Any, name: str) -> tuple[int, ...]:
    # torchvision's classes keep their labels under one of these names
    for attribute in ("targets", "labels", "_labels"):
        values = getattr(dataset, attribute, None)
        if values is not None and len(values) == len(dataset):
            break
    else:
        values = [dataset[i][1] for i in range(len(dataset))]
    try:
        return tuple(int(v) for v in values)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name} has no integer labels: give it as file.py:function with a loss of your own"
        ) from error
