"""`edgeprune lower`: a model, pruned by a plan or whole, as a program for a target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli import show
from edgeprune.cli.loading import DataChoice, ModelChoice, load_graph
from edgeprune.cli.options import (
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
from edgeprune.cli.progress import progress
from edgeprune.errors import EdgepruneError
from edgeprune.output import claim_file
from edgeprune.units import show_bytes, show_seconds


def lower(
    model: ModelOption,
    weights: WeightsOption = None,
    input: InputOption = None,
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
    out: NewFileOption = Path("model.pte"),
    json: JsonOption = False,
) -> None:
    """Lower a model to an ExecuTorch program, pruned by a plan if one is given.

    Nothing is trained here: a pruned program is as fast and as small as it will be,
    not as accurate. What the backend did not take is listed.

    \b
    Examples:
      edgeprune lower --model torchvision:resnet18 -o resnet18.pte
      edgeprune lower --model torchvision:resnet18 --plan half.json -o half.pte
      edgeprune lower --model net.py:make --weights net.pth --sparsity 0.8
    """
    chosen = target_from(target, threads, settings, rewrite=rewrite)
    zeros = sparsity_from(sparsity, sparsity_pattern, sparsity_scope)
    path = claim_file(out)
    with progress() as report_progress:
        graph, _ = load_graph(ModelChoice(model, weights, input), DataChoice(), report_progress)
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
        report_progress("lower", 0, 0, f"{chosen.backend}, {chosen.dtype}")
        artifact = make_program(graph, chosen, path)
        artifact = replace(artifact, compressed_bytes=compressed_bytes(artifact.path))
    if json:
        show.document(artifact)
        return
    show.line(
        f"{artifact.path}: {show_bytes(artifact.size_bytes)} "
        f"({show_bytes(artifact.compressed_bytes or 0)} compressed), "
        f"{artifact.delegated_nodes} nodes on {chosen.backend}, "
        f"in {show_seconds(artifact.seconds)}"
    )
    for name, count in artifact.rewrites.items():
        show.line(f"  rewritten for {chosen.backend}: {count} x {name}")
    for name, count in artifact.other_ops.items():
        show.line(f"  not on {chosen.backend}: {count} x {name}")
