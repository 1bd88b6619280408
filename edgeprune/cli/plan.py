"""`edgeprune plan`: which channels to keep and blocks to drop, as a small JSON file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

import typer

from edgeprune.choices import STRATEGIES, Strategy, listed
from edgeprune.cli import show
from edgeprune.cli.loading import DataChoice, ModelChoice, check_criterion, load_graph
from edgeprune.cli.options import (
    BatchOption,
    BudgetMbOption,
    BudgetMsOption,
    CriterionOption,
    DataOption,
    DownloadOption,
    DropBlocksOption,
    InputOption,
    JsonOption,
    ModelOption,
    NewFileOption,
    PatternOption,
    ScopeOption,
    SeedOption,
    SettingsOption,
    SparsityOption,
    SpeedupOption,
    TargetOption,
    ThreadsOption,
    WeightsOption,
    budget_from,
    require_budget,
    sparsity_from,
    target_from,
)
from edgeprune.cli.progress import progress
from edgeprune.errors import EdgepruneError
from edgeprune.output import claim_file
from edgeprune.units import show_bytes, show_ms


def plan(  # one parameter per option: that is how Typer reads a command line
    model: ModelOption,
    weights: WeightsOption = None,
    input: InputOption = None,
    data: DataOption = None,
    download: DownloadOption = False,
    target: TargetOption = "host",
    settings: SettingsOption = None,
    threads: ThreadsOption = None,
    budget_ms: BudgetMsOption = None,
    speedup: SpeedupOption = None,
    budget_mb: BudgetMbOption = None,
    keep: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Keep this share of the channels; needs no target."),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"How channels are chosen: {listed(STRATEGIES)}. By default local with --keep, "
            "else budget.",
        ),
    ] = None,
    sparsity: SparsityOption = None,
    sparsity_pattern: PatternOption = None,
    sparsity_scope: ScopeOption = None,
    drop_blocks: DropBlocksOption = False,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Drop this residual block; may be given several times."),
    ] = None,
    criterion: CriterionOption = None,
    batch_size: BatchOption = DataChoice.batch_size,
    seed: SeedOption = 0,
    out: NewFileOption = Path("plan.json"),
    json: JsonOption = False,
) -> None:
    """Choose the channels to keep, and write them down as JSON.

    Either for a budget on a target, from the predicted cost of its kernels, or a
    share of the channels with --keep: of every group, or with --strategy global of
    all in one ranking. Residual blocks go whole where --drop names them, or where
    --drop-blocks leaves it to the budget; `edgeprune inspect` lists them. The file
    can be read, edited, compared and given to `edgeprune lower --plan`.

    \b
    Examples:
      edgeprune plan --model torchvision:resnet18 --keep 0.5 -o half.json
      edgeprune plan --model torchvision:resnet18 --keep 0.5 --strategy global
      edgeprune plan --model net.py:make --weights net.pth --speedup 2
      edgeprune plan --model torchvision:resnet18 --data digits --budget-ms 3
      edgeprune plan --model torchvision:resnet18 --drop layer3.1 --drop layer4.1
    """
    budget = budget_from(budget_ms, speedup, budget_mb, None)
    asked = any(value is not None for value in (budget_ms, speedup, budget_mb))
    if keep is None and drop and not asked:
        keep = 1.0  # the named blocks, and nothing else
    if keep is None:
        require_budget(budget, ", or --keep for a share of the channels")
    elif not 0 < keep <= 1:
        raise EdgepruneError(f"--keep {keep:g} must be above 0 and at most 1, as in --keep 0.5")
    elif asked:
        raise EdgepruneError("--keep and a budget exclude one another: give one of them")
    elif drop_blocks:
        raise EdgepruneError("--drop-blocks is for a budget: with --keep, name blocks with --drop")
    chosen_strategy = _strategy(strategy, keep)
    zeros = sparsity_from(sparsity, sparsity_pattern, sparsity_scope)
    path = claim_file(out)
    chosen = target_from(target, threads, settings) if keep is None else None

    check_criterion(criterion, data)
    with progress() as report_progress:
        graph, loaded_data = load_graph(
            ModelChoice(model, weights, input, seed),
            DataChoice(data, batch_size, seed, download),
            report_progress,
        )
        from edgeprune.blocks import blocks
        from edgeprune.channels import channel_groups
        from edgeprune.planning import plan as make_plan
        from edgeprune.scoring import score, score_blocks

        report_progress("channels", 0, 0, graph.name)
        groups = channel_groups(graph)
        by = criterion or ("l2" if loaded_data is None else "taylor")
        report_progress("scores", 0, 0, by)
        scores = score(graph, groups, by, loaded_data)
        named = tuple(drop or ())
        if chosen is None:
            made = make_plan(graph, groups, scores, keep=keep, strategy=chosen_strategy, drop=named)
        else:
            from edgeprune.cost import profile

            cost = profile(graph, chosen, groups, progress=report_progress)
            by_name = None
            if drop_blocks:
                # in the units of the channels' scores
                by_name = score_blocks(
                    graph, blocks(graph), loaded_data if by == "taylor" else None
                )
            made = make_plan(
                graph,
                groups,
                scores,
                cost,
                budget=budget,
                strategy=chosen_strategy,
                drop=named,
                droppable=by_name,
            )
            made = replace(made, target=chosen.name)
        made = replace(made, sparsity=zeros)
    text = made.to_json()
    path.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
    if json:
        show.line(text.rstrip("\n"))
        return
    kept = sum(len(channels) for channels in made.kept.values())
    total = sum(group.size for group in groups.groups)
    show.line(f"{path}: keeps {kept} of {total} channels in {len(groups.groups)} groups")
    if made.dropped:
        show.line(f"drops {', '.join(made.dropped)}")
    if made.predicted_ms is not None:
        size = (
            "" if made.predicted_bytes is None else f", .pte of {show_bytes(made.predicted_bytes)}"
        )
        show.line(f"predicted: {show_ms(made.predicted_ms)}{size}")


def _strategy(asked: str | None, keep: float | None) -> Strategy | None:
    """The strategy that `plan` is asked for, None for its own choice."""
    if asked is None:
        return None
    if asked == "iterative":
        raise EdgepruneError("--strategy iterative trains between its cuts: it belongs to `fit`")
    if asked not in STRATEGIES:
        raise EdgepruneError(f"--strategy {asked} is not one of {', '.join(STRATEGIES)}")
    if asked == "budget" and keep is not None:
        raise EdgepruneError("--strategy budget needs a budget, not --keep")
    return cast("Strategy", asked)
