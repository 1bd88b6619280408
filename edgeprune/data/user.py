"""The user's own loaders, loss and metric: `file.py:function`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from edgeprune.data.records import Data, DataRequest
from edgeprune.errors import DataError
from edgeprune.records import Progress
from edgeprune.usercode import close_matches, describe, find_function

_LOADERS = ("train", "val", "test", "train_plain")
_REQUIRED = ("train", "val", "loss", "metric")
_OPTIONAL = ("test", "train_plain", "metric_name", "higher_is_better", "classes")


def user_loaders(request: DataRequest, progress: Progress) -> Data:
    """What the user's function returns, as `Data`.

    It returns a mapping, or an object, with `train` and `val` (DataLoaders of (inputs, targets)
    tensors), `loss` and `metric` (of output and targets, the mean over the batch); and perhaps
    `test`, `train_plain` (not augmented, for statistics), `metric_name`, `higher_is_better`,
    `classes`. It is called with those of `batch_size`, `seed`, `workers` and `sample_shape` that
    it names. Raises DataError with every problem at once.
    """
    function = find_function(request.spec, DataError)
    known = {
        "batch_size": request.batch_size,
        "seed": request.seed,
        "workers": request.workers,
        "sample_shape": request.sample_shape,
    }
    returned = function.call(**{k: v for k, v in known.items() if function.accepts(k)})
    parts, problems = _parts(returned)
    problems += _problems(parts)
    sample = None
    for name in _LOADERS:
        if isinstance(parts.get(name), DataLoader):
            first, trouble = _first_batch(name, parts[name], function.folder)
            problems += trouble
            sample = first if name == "train" else sample
    if sample is not None and request.sample_shape not in (None, tuple(sample.shape[1:])):
        own, wanted = ("x".join(map(str, s)) for s in (sample.shape[1:], request.sample_shape))
        problems.append(f"train yields samples of {own}, but the model wants {wanted}")
    if problems or sample is None:
        raise DataError(
            f"{request.spec} returned loaders that cannot be used: {'; '.join(problems)}"
        )
    progress("user's loaders", 1, 1)
    notes = () if "train_plain" in parts else ("statistics are taken on the training loader",)
    return Data(
        name=request.spec.rpartition("/")[2],
        train=parts["train"],
        train_plain=parts.get("train_plain") or parts["train"],
        validation=parts["val"],
        test=parts.get("test"),
        classes=parts.get("classes"),
        sample_shape=tuple(sample.shape[1:]),
        loss=parts["loss"],
        metric=parts["metric"],
        metric_name=str(parts.get("metric_name") or getattr(parts["metric"], "__name__", "metric")),
        higher_is_better=parts.get("higher_is_better", True),
        normalisation="the user's own",
        notes=notes,
    )


def _parts(returned: Any) -> tuple[dict[str, Any], list[str]]:
    names = (*_REQUIRED, *_OPTIONAL)
    if isinstance(returned, Mapping):
        unknown = [str(k) for k in returned if k not in names]
        problems = [f"it does not know {k!r}{close_matches(k, names)}" for k in unknown]
        return {k: v for k, v in returned.items() if k in names and v is not None}, problems
    found = {k: getattr(returned, k, None) for k in names}
    return {k: v for k, v in found.items() if v is not None}, []


def _problems(parts: Mapping[str, Any]) -> list[str]:
    problems = [f"{name!r} is missing" for name in _REQUIRED if name not in parts]
    problems += [
        f"{name!r} is a {type(parts[name]).__name__}, not a torch.utils.data.DataLoader"
        for name in _LOADERS
        if name in parts and not isinstance(parts[name], DataLoader)
    ]
    problems += [
        f"{name!r} is not callable"
        for name in ("loss", "metric")
        if name in parts and not callable(parts[name])
    ]
    if not isinstance(parts.get("higher_is_better", True), bool):
        problems.append("'higher_is_better' must be True or False")
    if not isinstance(parts.get("metric_name", ""), str):
        problems.append("'metric_name' must be a string")
    classes = parts.get("classes", 2)
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
        problems.append(f"'classes' is {classes!r}: it must be a whole number, 2 or more")
    return problems


def _first_batch(
    name: str, loader: DataLoader[Any], folder: Any
) -> tuple[Tensor | None, list[str]]:
    """The first batch's inputs, or what is wrong with it."""
    try:
        if len(loader) == 0:
            return None, [f"{name!r} is empty"]
    except TypeError:
        return None, [f"{name!r} has no length: its data set must say how many samples it has"]
    try:
        batch = next(iter(loader), None)
    except Exception as error:
        return None, [f"{name!r} failed: {describe(error, folder)}"]
    if not isinstance(batch, list | tuple) or len(batch) != 2:
        return None, [f"{name!r} does not yield (inputs, targets) but a {type(batch).__name__}"]
    if not all(isinstance(part, Tensor) and part.dim() for part in batch):
        kinds = ", ".join(type(part).__name__ for part in batch)
        return None, [f"{name!r} yields ({kinds}); inputs and targets must be batched tensors"]
    return batch[0], []
