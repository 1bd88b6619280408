"""The last stage of `fit` and `lower`: what goes beside a program so that others can use it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgeprune import ranks
from edgeprune.errors import MeasureError
from edgeprune.lowering import runs_here
from edgeprune.lowering.bundling import bundle
from edgeprune.measuring.agreement import eager
from edgeprune.measuring.batches import Array
from edgeprune.measuring.checking import failing_cases
from edgeprune.records import Artifact, Bundle, Graph, Manifest, Port, Target
from edgeprune.shipping import Told, describe, in_memory, write_manifest
from edgeprune.stages import Work, real_inputs

if TYPE_CHECKING:
    from edgeprune.data import Data

CASES = 4
"""How many batches of inputs a bundled program carries at most."""

# How far outputs may be from eager's, as a share of the largest: rounding in another order; ten
# bits of mantissa; some steps of int8.
_TOLERANCE = {"fp32": 1e-3, "fp16": 1e-2, "int8": 1e-1}


@dataclass(frozen=True)
class Parcel:
    """A program with the graph that it was lowered from."""

    graph: Graph
    artifact: Artifact
    target: Target


def describe_made(made: Parcel, data: Data | None, inputs: Sequence[Array] | None) -> Manifest:
    """Writes the manifest beside a program and, for `inputs` (N, ...), a bundled program.

    The bundle holds the first batches of `inputs` with eager's outputs, and is run here where the
    backend can. Raises MeasureError where its outputs are not eager's.
    """
    artifact = made.artifact
    told = Told.of(made.graph, data, artifact.other_ops)
    manifest = describe(artifact.path, made.target, told)
    if inputs is not None:
        manifest = replace(manifest, bundle=_bundled(made, inputs, manifest))
    write_manifest(manifest, artifact.path)
    return manifest


def travel(work: Work, baseline: Parcel, final: Parcel) -> None:
    """What goes beside the two programs of a fit; with the options' `bundle`, cases on samples of
    the validation split (on noise where there is no data)."""
    if not ranks.is_first():
        return
    inputs = None
    if work.options.bundle:
        work.progress("bundle", 0, 0, "inputs with expected outputs")
        inputs = [real_inputs(work)]
    for made in (baseline, final):
        describe_made(made, work.data, inputs)


def real_samples(data: Data) -> list[Array]:
    """Samples of the validation split (N, ...) for a bundle: the first batch of them."""
    inputs, _ = next(iter(data.validation))
    return [inputs.numpy()]


def noise(graph: Graph, seed: int = 0) -> list[Array]:
    """Seeded inputs for a bundle where there are no real ones: `CASES` batches, normal.

    Whole numbers are 0 or 1: tokens, indices and masks alike may be these.
    """
    rng = np.random.default_rng(seed)
    made = [rng.standard_normal((CASES * len(x), *x.shape[1:])) for x in graph.example_inputs]
    return [
        y.astype(np.float32) if x.is_floating_point() else (y > 0).astype(np.int64)
        for x, y in zip(graph.example_inputs, made, strict=True)
    ]


def _bundled(made: Parcel, inputs: Sequence[Array], manifest: Manifest) -> Bundle:
    path = made.artifact.path.with_suffix(".bpte")
    batch = len(made.graph.example_inputs[0])
    count = min(CASES, len(inputs[0]) // batch)
    if not count:
        raise MeasureError(
            f"{made.artifact.path.name} takes batches of {batch} and there are "
            f"{len(inputs[0])} samples: too few for a bundled program"
        )
    taken = [np.ascontiguousarray(x[: count * batch]) for x in inputs]
    expected = eager(made.graph, taken)

    def part(arrays: Sequence[Array], i: int) -> list[Array]:
        return [x[i * batch : (i + 1) * batch] for x in arrays]

    cases = [
        (_tensors(part(taken, i), manifest.inputs), _tensors(part(expected, i), manifest.outputs))
        for i in range(count)
    ]
    data = bundle(made.artifact.path, cases, path)
    share = _TOLERANCE[made.target.dtype]
    atol = share * max(float(np.abs(y).max(initial=0.0)) for y in expected)
    checked = _checked(made.target, path, count, (share, atol))
    return Bundle(path.name, hashlib.sha256(data).hexdigest(), count, share, atol, checked)


def _tensors(arrays: Sequence[Array], ports: Sequence[Port]) -> list[torch.Tensor]:
    """`arrays` in the data types that the program takes or gives, and as they lie in its memory.

    The format keeps contiguous tensors only and the runtime takes their bytes as they are, so one
    that the program has channels last is given with its bytes in that order, under its own shape.
    """
    return [
        torch.from_numpy(np.ascontiguousarray(in_memory(x, port.layout).astype(port.dtype)))
        for x, port in zip(arrays, ports, strict=True)
    ]


def _checked(target: Target, path: Path, cases: int, within: tuple[float, float]) -> bool:
    """Whether the bundle was run here; MeasureError where it ran and gave other outputs."""
    try:
        failing = failing_cases(path, cases, *within)
    except MeasureError:
        if runs_here(target):
            raise
        return False  # the wheel's runtime has no such backend: checked on the device
    if failing:
        path.unlink()
        raise MeasureError(
            f"{path.name}: {len(failing)} of {cases} bundled cases give other outputs than eager "
            f"(further than {within[0]:g} of the largest); the program does not compute what the "
            "network does, so nothing was bundled"
        )
    return True
