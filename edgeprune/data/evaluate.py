"""How good a model is on a loader, and whether model and data belong together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from edgeprune import ranks
from edgeprune.data.records import Data, Loader
from edgeprune.data.sampling import epoch_batches, some_batches
from edgeprune.errors import DataError, ModelError
from edgeprune.records import Metric


@dataclass(frozen=True)
class Estimate:
    """A metric over some samples, how many these are, and the standard error of its value as the
    spread between batches has it (nan for a single batch)."""

    metric: Metric
    samples: int
    error: float


def evaluate(module: nn.Module, loader: Loader, data: Data, *, most: int | None = None) -> Metric:
    """The metric of `data` over all of `loader`, or over about `most` of its samples: batch means
    weighted by batch size.

    The module is run in eval mode and left in the mode it was in. Where there are several
    processes, all call this together, each looks at its share, and all get the same. Raises
    DataError if the loader yields nothing.
    """
    return estimate(module, loader, data, most=most).metric


def estimate(module: nn.Module, loader: Loader, data: Data, *, most: int | None = None) -> Estimate:
    """`evaluate`, with how sure its value is."""
    training = module.training
    module.eval()
    total, squares, samples, parts = 0.0, 0.0, 0.0, 0.0
    try:
        with torch.no_grad():
            share = ranks.rank(), ranks.count()
            batches = (
                epoch_batches(loader, seed=0, epoch=0, share=share)
                if most is None
                else some_batches(loader, most, share)
            )
            for inputs, targets in batches:
                output = module(inputs.to(device_of(module)))
                value = float(data.metric(output, targets.to(device_of(module))))
                total += value * len(inputs)
                squares += value * value * len(inputs)
                samples += len(inputs)
                parts += 1
    finally:
        module.train(training)
    total, squares, samples, parts = ranks.added(
        [total, squares, samples, parts], device_of(module)
    )
    if not samples:
        raise DataError(f"{data.name}: a loader yielded nothing to evaluate on")
    mean = total / samples
    error = math.nan
    if parts > 1:
        error = math.sqrt(max(squares / samples - mean * mean, 0.0) / (parts - 1))
    return Estimate(Metric(data.metric_name, mean, data.higher_is_better), int(samples), error)


def check_fit(module: nn.Module, data: Data) -> None:
    """Raise ModelError unless the model's output is one that the data's loss can judge.

    For classification, that is (N, classes) with as many outputs as the data has classes.
    """
    if data.loss is not cross_entropy or data.classes is None:
        return
    inputs, _ = next(epoch_batches(data.validation, seed=0, epoch=0))
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            output = module(inputs[:2].to(device_of(module)))
    except RuntimeError as error:
        shape = "x".join(map(str, inputs[:2].shape))
        raise ModelError(
            f"the model does not run on a batch of {data.name} ({shape}): "
            f"{str(error).strip().splitlines()[0]}. Its input shape, or a batch size fixed when it "
            "was exported, does not fit this data"
        ) from error
    finally:
        module.train(training)
    if not isinstance(output, Tensor) or output.dim() != 2:
        kind = str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(
            f"{data.name} needs a classifier with outputs (N, {data.classes}), this model's output "
            f"is {kind}: give data with a loss of your own as file.py:function"
        )
    if output.shape[1] != data.classes:
        raise ModelError(
            f"the model has {output.shape[1]} outputs, but {data.name} has {data.classes} classes: "
            "build the model with that many (its factory's num_classes)"
        )


def device_of(module: nn.Module) -> torch.device:
    """Where the module's parameters are (the CPU if it has none)."""
    parameter = next(module.parameters(), None)
    return parameter.device if parameter is not None else torch.device("cpu")
