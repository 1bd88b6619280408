"""`edgeprune plan`: which channels to keep and blocks to drop, as a small JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from edgeprune.choices import STRATEGIES, Strategy, listed
from edgeprune.cli.demands import (
    BudgetMacsOption,
    BudgetMemoryOption,
    FloorOption,
    MaxCutOption,
    MinWidthOption,
    MultipleOption,
    TimeLimitOption,
    check_search,
    keep_words,
    rules_from,
    speedups_from,
)
from edgeprune.cli.loading import DataChoice, ModelChoice, check_criterion
from edgeprune.cli.options import (
    BatchOption,
    BudgetMbOption,
    BudgetMsOption,
    CriterionOption,
    DataOption,
    DownloadOption,
    DropBlocksOption,
    DropOption,
    InputOption,
    JsonOption,
    ModelOption,
    PatternOption,
    RewriteOption,
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
from edgeprune.cli.plans import Basis, Wishes, check_file, show_front, show_plan
from edgeprune.cli.recipe import RecipeOption
from edgeprune.errors import EdgepruneError
from edgeprune.output import claim_file


def plan(  # one parameter per option: that is how Typer reads a command line
    model: ModelOption,
    recipe: RecipeOption = None,
    weights: WeightsOption = None,
    input: InputOption = None,
    data: DataOption = None,
    download: DownloadOption = False,
    target: TargetOption = "host",
    settings: SettingsOption = None,
    threads: ThreadsOption = None,
    rewrite: RewriteOption = True,
    budget_ms: BudgetMsOption = None,
    speedup: SpeedupOption = None,
    budget_mb: BudgetMbOption = None,
    budget_memory_mb: BudgetMemoryOption = None,
    budget_mmacs: BudgetMacsOption = None,
    importance: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="The fastest plan that keeps this importance, 0 to 1."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHARE|NAME",
            help="Keep this share of the channels, which needs no target; or keep groups and "
            "blocks whole whose name fits, as 'layer4.*'.",
        ),
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
    drop: DropOption = None,
    floor: FloorOption = 0.1,
    min_width: MinWidthOption = None,
    multiple: MultipleOption = None,
    max_cut: MaxCutOption = None,
    sweep: Annotated[
        str | None,
        typer.Option(metavar="X,X", help="Plans for several speed-ups at once: 1.5,2,3."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the sweep as an SVG file.")
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Make no plan: check this one, as when it was edited by hand.",
        ),
    ] = None,
    time_limit: TimeLimitOption = 10.0,
    criterion: CriterionOption = None,
    batch_size: BatchOption = DataChoice.batch_size,
    seed: SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="File to write; plan.json, or front.json."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Choose the channels to keep, and write them down as JSON.

    Either for a budget on a target, from the predicted cost of its kernels, or a
    share of the channels with --keep: of every group, or with --strategy global of
    all in one ranking. Residual blocks go whole where --drop names them, or where
    --drop-blocks leaves it to the budget; `edgeprune inspect` lists them. The file
    can be read, edited, checked and given to `edgeprune lower --plan`.

    \b
    Examples:
      edgeprune plan --model torchvision:resnet18 --keep 0.5 -o half.json
      edgeprune plan --model torchvision:resnet18 --keep 0.5 --strategy global
      edgeprune plan --model net.py:make --weights net.pth --speedup 2
      edgeprune plan --model torchvision:resnet18 --data digits --budget-ms 3
      edgeprune plan --model torchvision:resnet18 --drop layer3.1 --drop layer4.1
      edgeprune plan --model torchvision:resnet50 --speedup 2 --drop-blocks \\
          --keep 'layer4.*' --multiple 8 --max-cut 0.5
      edgeprune plan --model torchvision:resnet50 --sweep 1.5,2,3 --plot front.svg
      edgeprune plan --model torchvision:resnet18 --check plan.json
    """
    share, patterns = keep_words(keep)
    budget = budget_from(
        budget_ms, speedup, budget_mb, None, memory_mb=budget_memory_mb, mmacs=budget_mmacs
    )
    speedups = speedups_from(sweep)
    asked = any(
        value is not None
        for value in (budget_ms, speedup, budget_mb, budget_memory_mb, budget_mmacs, importance)
    )
    if share is None and drop and not (asked or speedups or check):
        share = 1.0  # the named blocks, and nothing else
    _check(share, asked or bool(speedups), drop_blocks, importance)
    if share is None and not (asked or speedups or check):
        require_budget(budget, ", or --keep for a share of the channels")
    if plot is not None and not speedups:
        raise EdgepruneError("--plot draws a sweep: give --sweep 1.5,2,3 as well")
    check_search(floor, time_limit)
    wishes = Wishes(
        budget=budget,
        importance=importance,
        share=share,
        strategy=_strategy(strategy, share),
        rules=rules_from(patterns, min_width, multiple, max_cut),
        floor=floor,
        drop=tuple(drop or ()),
        drop_blocks=drop_blocks,
        time_limit=time_limit,
        sparsity=sparsity_from(sparsity, sparsity_pattern, sparsity_scope),
    )
    default = Path("front.json" if speedups else "plan.json")
    path = claim_file(out or default) if check is None else None
    picture = None if plot is None else claim_file(plot)
    chosen = target_from(target, threads, settings, rewrite=rewrite) if share is None else None
    check_criterion(criterion, data)
    basis = Basis(
        ModelChoice(model, weights, input, seed),
        DataChoice(data, batch_size, seed, download),
        chosen,
        criterion,
    )
    if check is not None:
        check_file(basis, wishes, check, json)
    elif speedups:
        assert path is not None
        show_front(basis, wishes, speedups, (path, picture), json)
    else:
        assert path is not None
        show_plan(basis, wishes, path, json)


def _check(share: float | None, asked: bool, drop_blocks: bool, importance: float | None) -> None:
    """Raise for options that exclude one another."""
    if share is not None and not 0 < share <= 1:
        raise EdgepruneError(f"--keep {share:g} must be above 0 and at most 1, as in --keep 0.5")
    if share is not None and asked:
        raise EdgepruneError("--keep and a budget exclude one another: give one of them")
    if share is not None and drop_blocks:
        raise EdgepruneError("--drop-blocks is for a budget: with --keep, name blocks with --drop")
    if importance is not None and not 0 < importance <= 1:
        raise EdgepruneError(f"--importance {importance:g} must be above 0 and at most 1")


def _strategy(asked: str | None, share: float | None) -> Strategy | None:
    """The strategy that `plan` is asked for, None for its own choice."""
    if asked is None:
        return None
    if asked == "iterative":
        raise EdgepruneError("--strategy iterative trains between its cuts: it belongs to `fit`")
    if asked not in STRATEGIES:
        raise EdgepruneError(f"--strategy {asked} is not one of {', '.join(STRATEGIES)}")
    if asked == "budget" and share is not None:
        raise EdgepruneError("--strategy budget needs a budget, not --keep")
    return cast("Strategy", asked)
