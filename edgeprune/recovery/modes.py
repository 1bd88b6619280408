"""Modes that networks are put in while they train, and put back from."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.data import Data, epoch_batches
from edgeprune.data.evaluate import device_of
from edgeprune.randomness import seeded
from edgeprune.records import Recipe
from edgeprune.recovery.objective import Objective

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def in_eval(teacher: nn.Module | None) -> Iterator[None]:
    """The teacher in eval mode, put back as it was afterwards."""
    if teacher is None:
        yield
        return
    training = teacher.training
    teacher.eval()
    try:
        yield
    finally:
        teacher.train(training)


@contextmanager
def channels_last(
    module: nn.Module, data: Data, teacher: nn.Module | None = None
) -> Iterator[torch.memory_format]:
    """Weights N H W C in memory while training, where the graph allows it, and the teacher's too;
    yields the order that batches should have.

    Convolutions on a CPU train about a quarter faster that way. A graph whose `view`s rely on
    N C H W order refuses, and trains as it is.
    """
    inputs, targets = next(epoch_batches(data.train_plain, seed=0, epoch=0))
    few = inputs[:2].to(device_of(module)), targets[:2].to(device_of(module))
    if inputs.dim() != 4 or not _runs_so(module, few, Objective(data, Recipe(), teacher)):
        yield torch.contiguous_format
        return
    lent = [] if teacher is None else [(p, p.data) for p in teacher.parameters()]
    for network in (module, teacher):
        if network is not None:
            network.to(memory_format=torch.channels_last)
    try:
        yield torch.channels_last
    finally:
        module.to(memory_format=torch.contiguous_format)
        for parameter, tensor in lent:
            parameter.data = tensor


def _runs_so(module: nn.Module, few: tuple[Tensor, Tensor], objective: Objective) -> bool:
    """Whether a copy of the module, and the teacher, can be trained with in N H W C."""
    trial = copy.deepcopy(module).to(memory_format=torch.channels_last).train()
    inputs, targets = few[0].contiguous(memory_format=torch.channels_last), few[1]
    try:
        with seeded(0):
            output = trial(inputs)
        objective(inputs, output, targets).backward()
    except RuntimeError:
        return False
    return True


def autocast(module: nn.Module, precision: str) -> Any:
    """The context of a forward pass in a recipe's precision."""
    device, dtype = device_of(module).type, _DTYPES.get(precision)
    return torch.autocast(device, dtype=dtype, enabled=dtype is not None)


def scaler(module: nn.Module, precision: str) -> torch.amp.GradScaler:
    """What keeps small gradients from vanishing in fp16; does nothing in other precisions."""
    return torch.amp.GradScaler(device_of(module).type, enabled=precision == "fp16")
