"""The stages of `fit --quantize`: calibration, training in simulated int8, and the accuracy of the
program itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeprune.data import Data, epoch_batches, evaluate
from edgeprune.data.records import Loader
from edgeprune.errors import DataError
from edgeprune.findings import outcome
from edgeprune.lowering import quantise, runs_here
from edgeprune.lowering.rounding import fake_quantised, int8_of
from edgeprune.measuring import execute
from edgeprune.mending import Teacher, trained
from edgeprune.records import Artifact, FitOptions, Graph, Metric, Recipe
from edgeprune.recovery.recipes import careful
from edgeprune.recovery.samples import calibration_inputs
from edgeprune.stages import Work

Told = dict[str, tuple[Metric | None, str]]

_VALUES = 2**24
"""How many input values one process of the runtime gets at once."""

COSTS_NOTE = (
    "widths were chosen by the costs of fp32 kernels, corrected by the measured latency of int8 "
    "programs: costs of int8 kernels are measured for XNNPACK only"
)


_TRAINED_SHARE = 3
"""Training in simulated int8 takes one over this of the epochs that came before it, at a tenth of
their learning rate: the weights are near where they belong."""


def costs_notes(options: FitOptions) -> tuple[str, ...]:
    """What is to be said of the costs: nothing where they are those of int8 kernels."""
    target = options.target
    as_int8 = options.quantize is None or target.dtype == "int8" or target.backend == "xnnpack"
    return () if as_int8 else (COSTS_NOTE,)


def quantised(work: Work, graph: Graph, teacher: Graph) -> tuple[Graph, Metric | None, Told]:
    """The graph that is lowered: in int8 where that is asked for, else as it is; its metric on the
    validation split in simulated int8, and what the report says."""
    if work.options.quantize is None:
        return graph, None, {}
    data, samples = work.data, work.options.samples
    assert data is not None
    work.progress("quantise", 0, 0, f"calibration on {samples} samples")
    # not kept on disk: it is made again from the weights, and comes out the same
    given = calibration_inputs(graph, data, samples)
    told = Told()
    if work.options.quantize == "qat":
        rounded = fake_quantised(graph, work.final_target, given)
        stage = ("train int8", ".train-int8.safetensors")
        rounded, training = trained(work, stage, rounded, _recipe(work, graph), Teacher(teacher))
        made, told["train int8"] = int8_of(rounded), outcome(training)
    else:
        made = quantise(graph, work.final_target, given)

    def compute() -> Metric:
        return evaluate(made.program, data.validation, data)

    metric = work.run.stage("quantise", Metric, compute, together=True)
    how = "ranges begun with" if work.options.quantize == "qat" else "calibrated on"
    note = f"int8, {how} {samples} samples; simulated"
    return made, metric, {**told, "quantise": (metric, note)}


def _recipe(work: Work, graph: Graph) -> Recipe:
    """How to go on in simulated int8 where fine-tuning ended; in fp32, which rounding needs."""
    before = careful(work.options.recipe, graph)
    epochs = max(1, round(before.epochs / _TRAINED_SHARE))
    return replace(before, epochs=epochs, precision="fp32")


def evaluate_program(artifact: Artifact, loader: Loader, data: Data) -> Metric:
    """The metric of `data` for the program itself, run in its own runtime over all of `loader`.

    Raises DataError if the loader yields nothing, MeasureError where the program cannot be run.
    """
    total, samples = 0.0, 0
    for batches in _together(loader):
        made = execute(artifact, [np.concatenate([x.numpy() for x, _ in batches])])
        at = 0
        for inputs, targets in batches:
            outputs: Any = [torch.from_numpy(y[at : at + len(inputs)]) for y in made]
            output = outputs[0] if len(outputs) == 1 else tuple(outputs)
            total += float(data.metric(output, targets)) * len(inputs)
            at += len(inputs)
        samples += at
    if not samples:
        raise DataError(f"{data.name}: a loader yielded nothing to evaluate on")
    return Metric(data.metric_name, total / samples, data.higher_is_better)


def tested(work: Work, final: Graph, artifact: Artifact, found: Metric | None) -> Metric | None:
    """The final program's metric on the test set: of the int8 program itself where there is one,
    of its simulation (`final`) where it does not run here, else what was found of the graph."""
    data = work.data
    if work.options.quantize is None or data is None or data.test is None:
        return found
    test = data.test

    def compute() -> Metric:
        work.progress("test int8", 0, 0, test_note(work))
        if not runs_here(work.final_target):
            return evaluate(final.program, test, data)
        return evaluate_program(artifact, test, data)

    return work.run.stage("test int8", Metric, compute)


def test_note(work: Work) -> str:
    """What the metric of `tested` is of."""
    if runs_here(work.final_target):
        return "the int8 program itself on the test set"
    return "the int8 network, simulated, on the test set: its program does not run here"


def _together(loader: Loader) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Batches, as many at a time as one process should get."""
    held: list[tuple[Tensor, Tensor]] = []
    values = 0
    for inputs, targets in epoch_batches(loader, seed=0, epoch=0):
        held.append((inputs, targets))
        values += inputs.numel()
        if values >= _VALUES:
            yield held
            held, values = [], 0
    if held:
        yield held
