"""What the stages of a run found, and what the report says of it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from edgeprune.closed_loop import worst
from edgeprune.footprint import macs
from edgeprune.graph import parameters_of
from edgeprune.plans import Plan
from edgeprune.records import (
    Artifact,
    FitOptions,
    Graph,
    Measurement,
    Metric,
    Parity,
    Round,
    Side,
    Stage,
    Verdict,
)
from edgeprune.run import Run
from edgeprune.sparsity import zero_share
from edgeprune.units import show_bytes

ARTIFACTS = {
    "plan": "plan.json",
    "program": "model.pte",
    "what the program takes and gives": "model.pte.json",
    "baseline program": "baseline.pte",
    "retrainable program": "model.pt2",
    "weights": "weights.safetensors",
}


@dataclass(frozen=True)
class Training:
    """What a training stage found, beside the weights file that it wrote."""

    before: Metric
    after: Metric
    epochs: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """Both programs, measured in turns, and what that says of the budget."""

    before: Measurement
    after: Measurement
    verdict: Verdict
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Tested:
    """Both networks on the test set; None where there is none."""

    before: Metric | None
    after: Metric | None


def final_verdict(
    measured: Measured, sides: tuple[Side, Side], options: FitOptions
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on the budget, with the drop of the metric and the target's memory counted in."""
    before, after = sides
    reasons = []
    allowed = options.budget.max_drop
    if allowed is not None and before.metric is not None and after.metric is not None:
        drop = before.metric.lead_over(after.metric)
        if drop > allowed:
            reasons.append(f"{after.metric.name} fell by {drop:.2f} points, allowed: {allowed:g}")
    memory = options.target.max_memory_bytes
    if memory is not None and after.size_bytes + after.planned_bytes > memory:
        reasons.append(
            f"the program and its planned memory take {after.size_bytes + after.planned_bytes} "
            f"bytes, target {options.target.name!r} has {memory}"
        )
    verdict = worst([measured.verdict, "missed"]) if reasons else measured.verdict
    return verdict, (*measured.reasons, *reasons)


def side(graph: Graph, artifact: Artifact, latency: Measurement, metric: Metric | None) -> Side:
    """One side of the report."""
    return Side(
        latency=latency,
        size_bytes=artifact.size_bytes,
        params=parameters_of(graph),
        macs=macs(graph),
        planned_bytes=artifact.planned_bytes,
        metric=metric,
        compressed_bytes=artifact.compressed_bytes,
        zeros=zero_share(graph),
    )


def outcome(training: Training | None) -> tuple[Metric | None, str]:
    """A training's metric and a line on it."""
    if training is None:
        return None, ""
    return training.after, f"{training.epochs} epochs, from {training.before.value:.2f}"


def history(run: Run, known: Mapping[str, tuple[Metric | None, str]]) -> tuple[Stage, ...]:
    """Every stage that was run, in order, with its seconds and what is known of it."""
    return tuple(
        Stage(name, run.seconds(name), *known.get(name, (None, ""))) for name in run.stages
    )


@dataclass(frozen=True)
class Circumstances:
    """What the user gave: the model's notes, whether it had weights, data, a test set."""

    model_notes: tuple[str, ...]
    has_weights: bool
    has_data: bool
    has_test: bool
    criterion: str


def planned(plan: Plan, rounds: Sequence[Round]) -> str:
    """How the plan was found, and how good it is known to be."""
    told = f"{len(rounds)} round(s) of plan, cut, lower, measure"
    if plan.importance is None:
        return told
    gap = "" if plan.gap is None else f" (the best keeps at most {plan.gap:.2%} more)"
    return f"{told}; {plan.importance:.1%} of the importance kept{gap if plan.gap else ''}"


def dropped(blocks: tuple[str, ...]) -> tuple[str, ...]:
    """Which residual blocks the plan dropped, where it did."""
    return (f"residual blocks dropped whole: {', '.join(blocks)}",) if blocks else ()


def on_rewrites(artifact: Artifact) -> tuple[str, ...]:
    """What was rewritten for the delegate, and what stays outside of it, where there is any."""
    counted = [
        ", ".join(f"{count} x {name}" for name, count in found.items())
        for found in (artifact.rewrites, artifact.other_ops)
    ]
    told = (
        f"rewritten exactly for the delegate (--no-rewrite leaves it out): {counted[0]}",
        f"outside of the delegate, on ExecuTorch's own kernels: {counted[1]}",
    )
    return tuple(note for note, found in zip(told, counted, strict=True) if found)


def notes(
    given: Circumstances,
    baseline: Training | None,
    training: Training | None,
) -> tuple[str, ...]:
    """What a reader of the report must know beside the numbers."""
    found = list(given.model_notes)
    if baseline is not None:
        found.append(
            f"no weights were given: the baseline was trained here for {baseline.epochs} epochs"
        )
    elif not given.has_weights:
        found.append("no weights were given and none were trained: accuracy means nothing here")
    if not given.has_data:
        found.append(
            f"no data were given: channels were scored by {given.criterion}, nothing was trained"
        )
    elif not given.has_test:
        found.append("there is no test set: both metrics are on the validation split")
    for part in (baseline, training):
        found += part.notes if part is not None else ()
    return tuple(dict.fromkeys(found))


def on_parity(parity: Parity | None) -> tuple[str, ...]:
    """That a comparison of nothing but zeros is none."""
    if parity is None or not parity.all_zero:
        return ()
    return (
        "every output of the network is 0 on the inputs compared (its last layer was never "
        "trained?): that the program agrees says nothing",
    )


def on_zeros(before: Side, after: Side) -> tuple[str, ...]:
    """What zeros among the weights are good for, in a program of dense kernels."""
    if after.zeros is None or before.compressed_bytes is None or after.compressed_bytes is None:
        return ()
    return (
        f"{after.zeros:.1%} of the final program's parameters are zero (baseline: "
        f"{before.zeros or 0:.1%}). Zeros make a compressed download smaller, nothing else: the "
        ".pte stays as large and its dense kernels as fast as without them. Compressed, it takes "
        f"{show_bytes(after.compressed_bytes)} (baseline: {show_bytes(before.compressed_bytes)})",
    )


def versions() -> dict[str, str]:
    """The versions that decide the result."""
    names = ("edgeprune", "torch", "torchvision", "executorch")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
