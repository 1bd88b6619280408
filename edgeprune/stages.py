"""What each stage of `fit` does; pipeline.py has their order."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeprune import ranks
from edgeprune.blocks import blocks
from edgeprune.candidates import Baseline, Programs
from edgeprune.closed_loop import Wanted, close_the_loop, judge
from edgeprune.data import Data, evaluate
from edgeprune.errors import EdgepruneError
from edgeprune.findings import Circumstances, Measured, Tested
from edgeprune.footprint import compressed_bytes
from edgeprune.graph import capture, fingerprint
from edgeprune.iterative import Standing
from edgeprune.lowering import (
    lower,
    lower_for_latency,
    quantised_before,
    ready_backend,
    runs_here,
    without_int8,
)
from edgeprune.lowering.rounding import check_trains_int8
from edgeprune.measuring import Effort, check_structure, compare, compare_until, parity
from edgeprune.measuring.kernels import profile
from edgeprune.measuring.runners import check_reached
from edgeprune.models import LoadedModel
from edgeprune.output import serialised, write_whole
from edgeprune.planning import Blocks, Known
from edgeprune.plans import Plan, check_blocks
from edgeprune.quiet import quiet
from edgeprune.recipes import check_recipe, check_without_data
from edgeprune.records import (
    Artifact,
    Budget,
    ChannelGroups,
    CostModel,
    FitOptions,
    Graph,
    Metric,
    Parity,
    Progress,
    Round,
    Scores,
    Target,
)
from edgeprune.rewrites import applies
from edgeprune.run import Run
from edgeprune.scoring import score, score_blocks
from edgeprune.sparsity import check_sparsity

PARITY_SAMPLES = 32


@dataclass(frozen=True)
class Work:
    """One fit under way: what was asked for, and the directory that keeps what is done."""

    model: LoadedModel
    data: Data | None
    options: FitOptions
    progress: Progress
    graph: Graph
    """The model as it came."""
    run: Run

    @property
    def final_target(self) -> Target:
        """The target of the final program: in the data type asked for."""
        target = self.options.target
        return target if self.options.quantize is None else replace(target, dtype="int8")

    @property
    def criterion(self) -> str:
        """Taylor where there is data, L2 where there is none; "auto" until the contest is over."""
        return _criterion(self.options, self.data)

    @property
    def given(self) -> Circumstances:
        """What the user gave, as the report's notes want to know it."""
        return Circumstances(
            self.model.notes,
            self.model.has_weights,
            self.data is not None,
            self.data is not None and self.data.test is not None,
            self.criterion,
        )


def loaded(model: LoadedModel | nn.Module, data: Data | None) -> LoadedModel:
    """A model with its input shape; a plain module takes it from the data."""
    if isinstance(model, LoadedModel):
        return model
    if data is None:
        raise ValueError("fit(nn.Module) needs data to know the input shape: pass a LoadedModel")
    name = type(model).__name__
    return LoadedModel(model, (1, *data.sample_shape), name, has_weights=True)


def begin(model: LoadedModel, data: Data | None, options: FitOptions, progress: Progress) -> Work:
    """Capture the model and open the run's directory, continuing what it holds."""
    ready_backend(options.target)  # before anything that takes long
    check_recipe(options.recipe)
    check_reached(options.target)
    options = replace(options, budget=_within(options.budget, options.target))
    if quantised_before(options.target):  # its baseline is the network as it came, in fp32
        options = replace(
            options,
            target=without_int8(options.target),
            quantize=options.quantize or "int8",
        )
    if data is None:
        check_without_data(options)
    if options.quantize == "qat":
        check_trains_int8(options.target)
        if not options.recipe.epochs:
            raise EdgepruneError("qat is training: give --epochs 1 or more, or --quantize int8")
    if options.sparsity is not None:
        check_sparsity(options.sparsity)
    options.out.mkdir(parents=True, exist_ok=True)
    progress("capture", 0, 0, model.name)
    graph = capture(model.module, (torch.zeros(model.input_shape),), name=model.name)
    if options.drop:
        check_blocks(options.drop, [block.name for block in blocks(graph)])
    request = {
        "model": model.name,
        "graph": fingerprint(graph),
        "weights": weights_key(graph),
        "data": None if data is None else data.name,
        "target": asdict(options.target),
        "budget": asdict(options.budget),
        "recipe": asdict(options.recipe),
        "quantize": options.quantize,
        "without labels": [options.statistics, options.reconstruction, options.samples],
        "baseline epochs": options.baseline_epochs,
        "criterion": _criterion(options, data),
        "drop blocks": options.drop_blocks,
        "drop": options.drop,
        "rules": asdict(options.rules),
        "floor": options.floor,
        "calibrate": options.calibrate,
        "seed": options.seed,
        "sparsity": None if options.sparsity is None else asdict(options.sparsity),
        "strategy": options.strategy,
        "rounds": options.rounds,
    }
    run = Run.open(options.out, request, force=options.force)
    if options.force and ranks.is_first():
        for kind in ("checkpoint", "safetensors"):
            for left in options.out.glob(f".*.{kind}"):
                left.unlink()
    return Work(model, data, options, progress, graph, run)


# --- the baseline ------------------------------------------------------------------------------


def check(work: Work, stage: str, graph: Graph) -> Metric | None:
    """The metric on the validation split."""
    data = work.data
    if data is None:
        return None

    def compute() -> Metric:
        work.progress(stage, 0, 0, "metric on the validation split")
        return evaluate(graph.program, data.validation, data)

    return work.run.stage(stage, Metric, compute, together=True)


def lower_baseline(work: Work, graph: Graph) -> Artifact:
    """baseline.pte"""

    def compute() -> Artifact:
        work.progress("lower baseline", 0, 0, work.options.target.name)
        target, path = work.options.target, work.run.file("baseline.pte")
        return _compressed(lower_for_latency(graph, target, path))

    return work.run.stage("lower baseline", Artifact, compute)


# --- the plan ----------------------------------------------------------------------------------


def profile_costs(work: Work, graph: Graph, groups: ChannelGroups) -> CostModel:
    """The cost of every kernel of the program that is to be made; kept in the user's table, so a
    second time takes a second."""
    target = _priced_as(work)
    return ranks.first_before_others(lambda: profile(graph, target, groups, progress=work.progress))


def _priced_as(work: Work) -> Target:
    """The target whose kernels are priced: that of the final program, where kernels are measured
    in its data type."""
    final = work.final_target
    if final.backend == "xnnpack":
        return final
    return replace(work.options.target, rewrite=applies(final))


def score_channels(work: Work, cut: Standing) -> Scores | None:
    """The importance of every channel that is left; None where the plan is already made."""
    if work.run.finished("plan"):
        return None
    work.progress("score", 0, 0, work.criterion)
    return score(cut.current, cut.left, work.criterion, work.data)


def make_plan(
    work: Work, cut: Standing, known: tuple[Scores | None, CostModel, Artifact]
) -> tuple[Plan, tuple[Round, ...]]:
    """plan.json, by the closed loop: all that goes from the full network, earlier cuts included."""
    scores, cost, baseline = known
    file = work.run.file("plan.json")
    target, budget = work.options.target, work.options.budget

    def compute() -> tuple[Round, ...]:
        assert scores is not None
        base = measured_baseline(work, baseline)
        basis = known_of(work, cut, scores)
        programs = Programs(basis.graph, work.final_target, base)
        wanted = Wanted(budget, work.options.floor, work.options.calibrate)
        found = close_the_loop(basis, cost, programs, wanted, work.progress)
        rounds, how = work.options.rounds, found.plan.strategy
        plan = replace(
            found.plan,
            target=target.name,
            strategy=how if rounds == 1 else f"iterative, {rounds} rounds by {how}",
            sparsity=work.options.sparsity,
        )
        write_whole(file, plan.to_json())
        return found.rounds

    rounds = work.run.stage("plan", tuple[Round, ...], compute)
    return Plan.from_json(file.read_text("utf-8")), rounds


def known_of(work: Work, cut: Standing, scores: Scores) -> Known:
    """What planning rests on after the cuts made so far."""
    options = work.options
    return Known(
        cut.whole,
        cut.left,
        scores,
        options.strategy,
        cut.plan,
        _blocks(work, cut.whole),
        options.rules,
        options.time_limit,
    )


def measured_baseline(work: Work, baseline: Artifact) -> Baseline:
    """The full network's program with its latency; where costs are of another data type than it
    has, with what the network takes in that one."""
    target, priced = work.options.target, _priced_as(work)
    work.progress("measure baseline", 0, 0, target.name)
    effort = Effort(processes=2)
    (measured,) = compare([baseline], target, effort, work.progress)
    found = Baseline(baseline.path, measured.median_ms, baseline.size_bytes, baseline.seconds)
    if priced.dtype == target.dtype:
        return found
    work.progress("measure baseline", 0, 0, f"{target.name}, {priced.dtype}")
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        whole = lower_for_latency(work.graph, priced, Path(folder) / "whole.pte")
        (other,) = compare([whole], priced, effort, work.progress)
    return replace(found, as_priced=(other.median_ms, whole.size_bytes))


def _blocks(work: Work, graph: Graph) -> Blocks:
    """The residual blocks, with the importance of those that may be dropped."""
    found = blocks(graph)
    may = work.options.drop_blocks
    importance = score_blocks(graph, found, work.data, work.criterion) if may else {}
    return Blocks(found, importance, work.options.drop)


def weights_key(graph: Graph) -> str:
    """Tells weights apart: their sum and the sum of their squares, to ten digits."""
    tensors = [t.double() for t in graph.program.state_dict().values() if t.is_floating_point()]
    total = sum(float(t.sum()) for t in tensors)
    squares = sum(float(t.square().sum()) for t in tensors)
    return f"{total:.9e} {squares:.9e}"


# --- the result --------------------------------------------------------------------------------


def lower_pruned(work: Work, pruned: Graph, final: Graph) -> Artifact:
    """model.pt2 of the pruned network, and model.pte of what becomes of it (in int8, say)."""

    def compute() -> Artifact:
        work.progress("lower", 0, 0, work.options.target.name)
        _save_program(work.run.file("model.pt2"), pruned)
        return _compressed(lower(final, work.final_target, work.run.file("model.pte")))

    return work.run.stage("lower", Artifact, compute)


def _compressed(artifact: Artifact) -> Artifact:
    return replace(artifact, compressed_bytes=compressed_bytes(artifact.path))


def _save_program(path: Path, graph: Graph) -> None:
    """The program with its batch open where it can be, as `capture` and torch.export read it."""
    inputs: tuple[torch.Tensor, ...] = graph.example_inputs
    shapes = None
    if graph.dynamic_batch:
        inputs = tuple(torch.cat([x, x]) if x.shape[0] == 1 else x for x in inputs)
        shapes = tuple({0: torch.export.Dim.AUTO} for _ in inputs)
    with quiet():
        program = torch.export.export(graph.program, inputs, dynamic_shapes=shapes)
    data = serialised(torch.export.save, program)
    write_whole(path, data)


def measure_both(work: Work, baseline: Artifact, artifact: Artifact) -> Measured:
    """Baseline and final program in turns; more samples while the budget is undecidable."""
    target, budget = work.options.target, work.options.budget

    def compute() -> Measured:
        work.progress("measure", 0, 0, "baseline and final program in turns")
        before, after = compare_until(
            [baseline, artifact],
            target,
            Effort(),
            lambda both: judge(both[0], both[1], artifact.size_bytes, budget)[0] != "undecidable",
            work.progress,
        )
        found, reasons = judge(before, after, artifact.size_bytes, budget)
        return Measured(before, after, found, reasons)

    return work.run.stage("measure", Measured, compute)


def check_parity(work: Work, pruned: Graph, artifact: Artifact) -> Parity | None:
    """Eager against .pte on validation samples, or on seeded noise where there is no data.

    None where such programs do not run here: then its inputs and outputs are compared alone.
    """
    if not runs_here(work.final_target):
        work.progress("check parity", 0, 0, f"{work.final_target.backend} does not run here")
        check_structure(pruned, artifact)
        return None

    def compute() -> Parity:
        work.progress("check parity", 0, 0, "eager against .pte")
        return parity(pruned, artifact, [real_inputs(work)])

    return work.run.stage("check parity", Parity, compute)


def real_inputs(work: Work) -> Any:
    """Validation samples (N, ...), or seeded noise where there is no data."""
    if work.data is None:
        shape = (8, *work.model.input_shape[1:])
        return np.random.default_rng(work.options.seed).standard_normal(shape, np.float32)
    inputs, _ = next(iter(work.data.validation))
    return inputs[:PARITY_SAMPLES].numpy()


def test_both(work: Work, graph: Graph, pruned: Graph) -> Tested:
    """Both networks on the test set, the one time that it is used."""
    data = work.data

    def compute() -> Tested:
        if data is None or data.test is None:
            return Tested(None, None)
        work.progress("test", 0, 0, "baseline and pruned, on the test set")
        return Tested(
            evaluate(graph.program, data.test, data), evaluate(pruned.program, data.test, data)
        )

    return work.run.stage("test", Tested, compute, together=True)


def _within(budget: Budget, target: Target) -> Budget:
    """The budget, with the target's own limit on the program's size."""
    sizes = [s for s in (budget.size_bytes, target.max_size_bytes) if s is not None]
    return replace(budget, size_bytes=min(sizes) if sizes else None)


def _criterion(options: FitOptions, data: Data | None) -> str:
    return options.criterion or ("taylor" if data is not None else "l2")
