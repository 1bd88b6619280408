"""Folders of images: DIR/train/CLASS/*.jpg, and DIR/val or DIR/test (or both) likewise."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from edgeprune.data.images import Loading, Pool, image_loaders
from edgeprune.data.records import Data, DataRequest
from edgeprune.data.sampling import held_out
from edgeprune.data.shapes import look_of
from edgeprune.errors import DataError
from edgeprune.records import Progress


def imagefolder(request: DataRequest, progress: Progress) -> Data:
    """The images below DIR, in the layout of torchvision's `ImageFolder`.

    With both val/ and test/ these are what they say. With one of them, that is the test set, and
    validation is held out of train/ (stratified). Raises DataError if a folder is missing or
    empty, or if its classes are not those of train/.
    """
    root = Path(request.spec.partition(":")[2]).expanduser()
    if not str(request.spec.partition(":")[2]).strip():
        raise DataError("imagefolder needs a folder: imagefolder:DIR, with DIR/train and DIR/val")
    if not root.is_dir():
        raise DataError(f"no such folder: {root}")
    there = [name for name in ("val", "test") if (root / name).is_dir()]
    if not (root / "train").is_dir() or not there:
        found = ", ".join(sorted(p.name + "/" for p in root.iterdir() if p.is_dir())[:8])
        raise DataError(
            f"{root} must hold train/ and val/ or test/, each with a folder per class; "
            f"it holds {found or 'no folders'}"
        )
    train, classes = _pool(root / "train")
    pools = {name: _checked(root / name, classes) for name in there}
    if len(pools) == 2:
        validation, test = pools["val"], pools["test"]
        notes = (f"validation: {root.name}/val, test: {root.name}/test",)
    else:
        kept, out = held_out(train.labels, request.val_fraction, request.seed)
        if not out:
            raise DataError(
                f"{root / 'train'} has one image per class: nothing is left to hold out for "
                "validation; add images, or both val/ and test/"
            )
        train, validation, test = train.subset(kept), train.subset(out), pools[there[0]]
        notes = (f"validation: {len(out)} images held out of train, test: {root.name}/{there[0]}",)
    look = look_of(train, request.sample_shape)
    how = Loading(look, request.batch_size, request.seed, request.workers, progress)
    loaders = image_loaders(train, [validation, test], how)
    return Data(
        name=root.name,
        train=loaders[0],
        train_plain=loaders[1],
        validation=loaders[2],
        test=loaders[3],
        classes=len(classes),
        sample_shape=look.shape,
        normalisation=str(look),
        mean=look.mean,
        std=look.std,
        labels=tuple(classes),
        notes=notes,
    )


def _pool(folder: Path) -> tuple[Pool, list[str]]:
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import IMG_EXTENSIONS

    try:
        images = ImageFolder(folder, allow_empty=True)
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} is empty: it must hold a folder per class, with images in them"
        ) from error
    labels = tuple(label for _, label in images.samples)
    empty = [name for i, name in enumerate(images.classes) if i not in set(labels)]
    if empty:
        raise DataError(
            f"no images ({', '.join(IMG_EXTENSIONS)}) in {len(empty)} of the {len(images.classes)} "
            f"class folders of {folder}: {', '.join(empty[:8])}"
        )
    paths = [path for path, _ in images.samples]
    return Pool(labels, lambda i: Image.open(paths[i]), lambda i: paths[i]), images.classes


def _checked(folder: Path, classes: list[str]) -> Pool:
    pool, own = _pool(folder)
    if own != classes:
        missing = sorted(set(classes) - set(own))[:8]
        extra = sorted(set(own) - set(classes))[:8]
        raise DataError(
            f"the class folders of {folder} are not those of train/"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; not in train/: {', '.join(extra)}" if extra else "")
        )
    return pool
