"""`edgeprune fit`: a model and a budget in, a measured program and a report out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, cast

import typer

from edgeprune.choices import STRATEGIES, Strategy, listed
from edgeprune.cli import show
from edgeprune.cli.allocator import keep_freed_memory
from edgeprune.cli.demands import (
    BudgetMacsOption,
    BudgetMemoryOption,
    CalibrateOption,
    FloorOption,
    MaxCutOption,
    MinWidthOption,
    MultipleOption,
    TimeLimitOption,
    check_search,
    rules_from,
)
from edgeprune.cli.loading import DataChoice, ModelChoice, check_criterion, load_both
from edgeprune.cli.options import (
    BatchOption,
    BudgetMbOption,
    BudgetMsOption,
    BundleOption,
    CriterionOption,
    DataOption,
    DownloadOption,
    DropBlocksOption,
    DropOption,
    InputOption,
    JsonOption,
    MaxDropOption,
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
from edgeprune.cli.progress import progress
from edgeprune.cli.recipe import RecipeOption
from edgeprune.cli.together import processes
from edgeprune.cli.training import (
    OPTIMISERS,
    PRECISIONS,
    QUANTIZE,
    AccumulateOption,
    DecayOption,
    DistillOption,
    EmaOption,
    FeaturesOption,
    OptimiserOption,
    PatienceOption,
    PrecisionOption,
    QuantizeOption,
    ReconstructionOption,
    SamplesOption,
    SmoothingOption,
    StatisticsOption,
    TemperatureOption,
    chosen_of,
)
from edgeprune.errors import EdgepruneError
from edgeprune.output import claim_directory
from edgeprune.recipes import check_recipe
from edgeprune.records import FitOptions, Recipe, Report, silent

RECIPE = Recipe()
BUDGET_NOT_MET = 3
ITERATIVE_ROUNDS = 3


def fit(  # one parameter per option: that is how Typer reads a command line
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
    max_drop: MaxDropOption = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help=f"Epochs of fine-tuning; {RECIPE.epochs} where there is data."
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Learning rate at the batch size given; by default one that fits the network.",
        ),
    ] = None,
    optimiser: OptimiserOption = None,
    weight_decay: DecayOption = None,
    distill: DistillOption = RECIPE.distill,
    temperature: TemperatureOption = RECIPE.temperature,
    features: FeaturesOption = RECIPE.features,
    label_smoothing: SmoothingOption = RECIPE.label_smoothing,
    precision: PrecisionOption = RECIPE.precision,
    ema: EmaOption = RECIPE.ema,
    accumulate: AccumulateOption = RECIPE.accumulate,
    patience: PatienceOption = RECIPE.patience,
    statistics: StatisticsOption = True,
    reconstruction: ReconstructionOption = True,
    samples: SamplesOption = FitOptions.samples,
    quantize: QuantizeOption = None,
    batch_size: BatchOption = DataChoice.batch_size,
    baseline_epochs: Annotated[
        int, typer.Option(metavar="N", min=0, help="Epochs of training where weights are missing.")
    ] = FitOptions.baseline_epochs,
    criterion: CriterionOption = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"How channels are chosen: {listed(STRATEGIES)}; iterative: in several rounds. "
            "By default budget.",
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Cut in N rounds with training between them; 3 where the strategy is iterative.",
        ),
    ] = None,
    sparsity: SparsityOption = None,
    sparsity_pattern: PatternOption = None,
    sparsity_scope: ScopeOption = None,
    drop_blocks: DropBlocksOption = False,
    drop: DropOption = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Keep groups and blocks whole that fit: 'layer4.*'."),
    ] = None,
    floor: FloorOption = FitOptions.floor,
    min_width: MinWidthOption = None,
    multiple: MultipleOption = None,
    max_cut: MaxCutOption = None,
    time_limit: TimeLimitOption = FitOptions.time_limit,
    calibrate: CalibrateOption = None,
    bundle: BundleOption = False,
    seed: SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Directory of the run; runs/MODEL if not given."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start over instead of continuing what DIR holds.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Prune a model to a budget and prove it: a .pte, its weights and a report.

    Give at least one of --speedup, --budget-ms and --budget-mb; all that are given
    must hold. The budget is met when the program's measured median meets it. Where
    no weights are given, a baseline is trained on the data first. A run that was
    stopped continues when the same command is given again.

    \b
    Examples:
      edgeprune fit --model torchvision:resnet18 --data digits --speedup 2
      edgeprune fit --model net.py:make --weights net.safetensors \\
          --data imagefolder:photos --input 1x3x96x96 --budget-ms 5 -o runs/net
      edgeprune fit --model torchvision:mobilenet_v2 --budget-mb 8 --epochs 0
      edgeprune fit --recipe recipe.toml --speedup 2
      edgeprune fit --model net.py:make --data digits --speedup 4 --quantize int8
      edgeprune fit --model net.py:make --data digits --speedup 2 --criterion auto
      edgeprune fit --model torchvision:vit_b_16 --speedup 1.5 --calibrate 4
      edgeprune fit --model net.py:make --data digits --speedup 3 \\
          --strategy iterative --rounds 3 --sparsity-pattern 2:4

    Started by torchrun, its processes share scoring, statistics, reconstruction and
    training: torchrun --nproc-per-node 4 -m edgeprune fit ... (one directory for
    all; it goes on after a restart, with any number of processes).

    Ends with 3 if the budget was missed or cannot be decided; the report is written
    all the same.
    """
    budget = budget_from(
        budget_ms, speedup, budget_mb, max_drop, memory_mb=budget_memory_mb, mmacs=budget_mmacs
    )
    require_budget(budget)
    check_search(floor, time_limit)
    rules = rules_from(keep or (), min_width, multiple, max_cut)
    epochs = _epochs(epochs, data)
    if max_drop is not None and data is None:
        raise EdgepruneError("--max-drop needs --data: without data no metric can be measured")
    training = Recipe(
        epochs=epochs,
        lr=lr,
        optimiser=chosen_of("--optimiser", optimiser, OPTIMISERS),
        weight_decay=weight_decay,
        distill=distill,
        temperature=temperature,
        features=features,
        label_smoothing=label_smoothing,
        precision=chosen_of("--precision", precision, PRECISIONS) or RECIPE.precision,
        ema=ema,
        accumulate=accumulate,
        patience=patience,
        seed=seed,
    )
    check_recipe(training)
    chosen, cuts = _strategy(strategy, rounds)
    zeros = sparsity_from(sparsity, sparsity_pattern, sparsity_scope)
    directory = out or _default_directory(model)
    options = FitOptions(
        target=target_from(target, threads, settings, rewrite=rewrite),
        budget=budget,
        out=directory,
        recipe=training,
        baseline_epochs=baseline_epochs,
        criterion=criterion,
        sparsity=zeros,
        strategy=chosen,
        rounds=cuts,
        seed=seed,
        force=force,
        drop_blocks=drop_blocks,
        drop=tuple(drop or ()),
        statistics=statistics,
        reconstruction=reconstruction,
        samples=samples,
        quantize=chosen_of("--quantize", quantize, QUANTIZE),
        rules=rules,
        floor=floor,
        time_limit=time_limit,
        calibrate=calibrate,
        bundle=bundle,
    )
    check_criterion(criterion, data, auto=True)
    choices = ModelChoice(model, weights, input, seed), DataChoice(data, batch_size, seed, download)
    keep_freed_memory()
    with processes() as first:
        result = _fit(*choices, options, first)
    if first:
        _show(result, directory, json=json)
    if result.verdict != "met":
        raise typer.Exit(BUDGET_NOT_MET)


def _fit(model: ModelChoice, data: DataChoice, options: FitOptions, first: bool) -> Report:
    """The fit itself; only the first of several processes tells how far it is."""
    if first:
        claim_directory(options.out, force=options.force)
    with progress() if first else nullcontext(silent) as report_progress:
        loaded, loaded_data = load_both(model, data, report_progress)
        from edgeprune import pipeline

        return pipeline.fit(loaded, loaded_data, options, progress=report_progress)


def _show(result: Report, directory: Path, *, json: bool) -> None:
    from edgeprune.cli.summary import show_report
    from edgeprune.report import to_json

    document = to_json(result)
    if json:
        show.document(document)
    else:
        show_report(document, directory)


def _epochs(asked: int | None, data: str | None) -> int:
    if data is None and asked:
        raise EdgepruneError(f"--epochs {asked} needs --data to train on")
    if asked is not None:
        return asked
    return RECIPE.epochs if data is not None else 0


def _strategy(asked: str | None, rounds: int | None) -> tuple[Strategy, int]:
    """The strategy of every round, and how many rounds there are."""
    if asked == "iterative":
        return "budget", rounds or ITERATIVE_ROUNDS
    word = asked or "budget"
    if word not in STRATEGIES:
        raise EdgepruneError(f"--strategy {word} is not one of {', '.join(STRATEGIES)}, iterative")
    return cast("Strategy", word), rounds or 1


def _default_directory(spec: str) -> Path:
    """runs/NAME, where NAME is what comes last in the model's spec."""
    name = spec.rpartition(":")[2].rpartition("/")[2].removesuffix(".pt2")
    return Path("runs") / (name or "model")
