"""`edgeprune lower`: a model, pruned by a plan or whole, as a program for a target."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeprune.cli import show
from edgeprune.cli.loading import DataChoice, ModelChoice, load_graph
from edgeprune.cli.options import (
    BundleOption,
    DataOption,
    InputOption,
    JsonOption,
    ModelOption,
    NewFileOption,
    PatternOption,
    RewriteOption,
    ScopeOption,
    SettingsOption,
    SparsityOption,
    TargetOption,
    ThreadsOption,
    WeightsOption,
    sparsity_from,
    target_from,
)
from edgeprune.cli.progress import progress, say
from edgeprune.errors import EdgepruneError
from edgeprune.output import claim_file
from edgeprune.units import show_bytes, show_seconds

if TYPE_CHECKING:
    from edgeprune.data import Data
    from edgeprune.records import Artifact, Graph, Progress, Target


def lower(
    model: ModelOption,
    weights: WeightsOption = None,
    input: InputOption = None,
    data: DataOption = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="Prune by this plan.json first."
        ),
    ] = None,
    sparsity: SparsityOption = None,
    sparsity_pattern: PatternOption = None,
    sparsity_scope: ScopeOption = None,
    target: TargetOption = "host",
    settings: SettingsOption = None,
    threads: ThreadsOption = None,
    rewrite: RewriteOption = True,
    bundle: BundleOption = False,
    out: NewFileOption = Path("model.pte"),
    json: JsonOption = False,
) -> None:
    """Lower a model to an ExecuTorch program, pruned by a plan if one is given.

    Nothing is trained here: a pruned program is as fast and as small as it will be,
    not as accurate. What the backend did not take is listed. A program in int8 is
    calibrated on samples of --data, or on noise where there is none: as fast and
    as small as it will be, and of no use. Beside the program goes its manifest
    (FILE.pte.json): what it takes, what it gives, what runs it.

    \b
    Examples:
      edgeprune lower --model torchvision:resnet18 -o resnet18.pte
      edgeprune lower --model torchvision:resnet18 --target ios-coreml -o ios.pte
      edgeprune lower --model net.py:make --data digits --set dtype=int8
      edgeprune lower --model torchvision:resnet18 --plan half.json -o half.pte
      edgeprune lower --model net.py:make --weights net.pth --sparsity 0.8
      edgeprune lower --model torchvision:resnet18 --bundle -o resnet18.pte
    """
    chosen = target_from(target, threads, settings, rewrite=rewrite)
    _check_backend(chosen)
    zeros = sparsity_from(sparsity, sparsity_pattern, sparsity_scope)
    path = claim_file(out)
    with progress() as report_progress:
        made = ModelChoice(model, weights, input)
        graph, samples = load_graph(made, DataChoice(data), report_progress)
        from edgeprune.footprint import compressed_bytes
        from edgeprune.lowering import lower as make_program

        if plan is not None:
            from edgeprune.plans import Plan
            from edgeprune.surgery import prune

            report_progress("prune", 0, 0, str(plan))
            read = Plan.from_json(plan.read_text(encoding="utf-8"))
            if zeros is not None and read.sparsity is not None:
                raise EdgepruneError(
                    f"{plan} has zeros of its own ({read.sparsity.pattern}): leave --sparsity out"
                )
            graph = prune(graph, read)
        if zeros is not None:
            from edgeprune.sparsity import sparsify

            graph = sparsify(graph, zeros)
        graph = _quantised(graph, chosen, samples, report_progress)
        report_progress("lower", 0, 0, f"{chosen.backend}, {chosen.dtype}")
        artifact = make_program(graph, chosen, path)
        artifact = replace(artifact, compressed_bytes=compressed_bytes(artifact.path))
        runs = _runs_here(graph, chosen, artifact)
        from edgeprune.travelling import Parcel, describe_made, noise, real_samples

        inputs = None
        if bundle:
            inputs = noise(graph) if samples is None else real_samples(samples)
        manifest = describe_made(Parcel(graph, artifact, chosen), samples, inputs)
    if json:
        show.document({**asdict(artifact), "runs_here": runs})
        return
    show.line(
        f"{artifact.path}: {show_bytes(artifact.size_bytes)} "
        f"({show_bytes(artifact.compressed_bytes or 0)} compressed), "
        f"{artifact.delegated_nodes} nodes on {chosen.backend}, "
        f"in {show_seconds(artifact.seconds)}"
    )
    if manifest.bundle is not None:
        checked = "checked here" if manifest.bundle.checked else "not run here"
        source = "noise" if samples is None else samples.name
        show.line(f"  {manifest.bundle.file}: {manifest.bundle.cases} cases of {source}, {checked}")
    for name, count in artifact.rewrites.items():
        show.line(f"  rewritten for {chosen.backend}: {count} x {name}")
    for name, count in artifact.other_ops.items():
        show.line(f"  not on {chosen.backend}: {count} x {name}")
    if not runs:
        show.line(f"  not run here: {chosen.backend}; its inputs and outputs were checked")


def _check_backend(target: Target) -> None:
    from edgeprune.lowering import ready_backend

    ready_backend(target)


def _quantised(graph: Graph, target: Target, data: Data | None, progress: Progress) -> Graph:
    """The graph as its backend takes it: in int8 where the target runs that."""
    from edgeprune.lowering import on_noise, quantise, quantised_before

    if not quantised_before(target):
        return graph
    progress("quantise", 0, 0, target.backend)
    if data is None:
        say("note: int8 is calibrated on noise; give --data for a program to be used")
        return on_noise(graph, target)
    from edgeprune.recovery.samples import SAMPLES, calibration_inputs

    return quantise(graph, target, calibration_inputs(graph, data, SAMPLES))


def _runs_here(graph: Graph, target: Target, artifact: Artifact) -> bool:
    """Whether such programs run on this machine; the structure of those that do not is checked."""
    from edgeprune.lowering import runs_here
    from edgeprune.measuring import check_structure

    if runs_here(target):
        return True
    check_structure(graph, artifact)
    return False
