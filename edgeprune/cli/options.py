"""The options that several commands share, and the budget and target made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.choices import CRITERIA, PATTERNS, listed, sparsity_problems
from edgeprune.errors import BudgetError, EdgepruneError
from edgeprune.records import Budget, Sparsity, Target
from edgeprune.units import MEGABYTE

ModelOption = Annotated[
    str,
    typer.Option(
        metavar="SPEC",
        help="The network: torchvision:NAME, timm:NAME, package.module:factory, "
        "file.py:factory, or a saved .pt2 file.",
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Its weights: .safetensors or a saved state dict."),
]
InputOption = Annotated[
    str | None,
    typer.Option(
        metavar="SHAPE", help="Input shape, as 1x3x224x224; needed where it cannot be inferred."
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="digits, imagefolder:DIR, torchvision:CIFAR10:ROOT and the like, or "
        "file.py:loaders for your own.",
    ),
]
DownloadOption = Annotated[
    bool, typer.Option("--download", help="Allow a data set to be downloaded.")
]
BatchOption = Annotated[int, typer.Option(metavar="N", min=1, help="Samples per batch.")]
TargetOption = Annotated[
    str, typer.Option(metavar="NAME|FILE", help="A target's name, or a profile ending in .toml.")
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A key of the target's profile with another value, as in "
        "--set 'reach.hosts=[\"pi@board\"]'; may be repeated.",
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Runtime threads, instead of the target's.")
]
RewriteOption = Annotated[
    bool,
    typer.Option(
        "--rewrite/--no-rewrite",
        help="Rewrite, exactly, what XNNPACK does not take (padded average pooling, "
        "attention's guard, rolls, ...) to what it does.",
    ),
]
BundleOption = Annotated[
    bool,
    typer.Option(
        "--bundle", help="Write a bundled program too: inputs with the outputs expected for them."
    ),
]
BudgetMsOption = Annotated[
    float | None, typer.Option(metavar="MS", help="Latency the final program may take.")
]
SpeedupOption = Annotated[
    float | None, typer.Option(metavar="X", help="Times faster than the baseline, as measured.")
]
BudgetMbOption = Annotated[
    float | None, typer.Option(metavar="MB", help="Size of the final .pte, in 1,000,000 bytes.")
]
MaxDropOption = Annotated[
    float | None,
    typer.Option(metavar="POINTS", help="Fail honestly if the metric drops by more than this."),
]
CriterionOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"How channels are scored: {listed(CRITERIA)}. auto (fit only): taylor and l2, "
        "with and without blocks, and which blocks, by the validation metric before training. "
        "By default taylor where there is data, else l2.",
    ),
]
SparsityOption = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Set this share of the weights to zero: a smaller download, not a faster program.",
    ),
]
PatternOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help=f"Which weights become zero: {listed(PATTERNS)}. By default magnitude.",
    ),
]
ScopeOption = Annotated[
    str | None,
    typer.Option(
        metavar="SCOPE",
        help="Count the share in every layer (the default), or over all: layer, global.",
    ),
]
DropBlocksOption = Annotated[
    bool,
    typer.Option("--drop-blocks", help="Let the budget drop residual blocks whole."),
]
DropOption = Annotated[
    list[str] | None,
    typer.Option(
        "--drop", metavar="NAME", help="Drop this residual block; may be given several times."
    ),
]
SeedOption = Annotated[int, typer.Option(metavar="N", help="Seed of all that is random.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the whole result as one JSON document.")
]
NewFileOption = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="File to write.")]


def budget_from(  # what each command has of a budget: a parameter per option
    budget_ms: float | None,
    speedup: float | None,
    budget_mb: float | None,
    max_drop: float | None,
    *,
    memory_mb: float | None = None,
    mmacs: float | None = None,
) -> Budget:
    """The budget that the options ask for; every option that makes no sense is told at once."""
    problems = [
        f"{option} {value:g} must be a number above {floor:g}"
        for option, value, floor in (
            ("--budget-ms", budget_ms, 0),
            ("--speedup", speedup, 1),
            ("--budget-mb", budget_mb, 0),
            ("--budget-memory-mb", memory_mb, 0),
            ("--budget-mmacs", mmacs, 0),
        )
        if value is not None and not floor < value < math.inf
        if not (value == 0 and floor == 0)
    ]
    if max_drop is not None and not 0 <= max_drop < math.inf:
        problems.append(f"--max-drop {max_drop:g} must be a number of points, 0 or more")
    if problems:
        raise EdgepruneError("; ".join(problems))
    for option, value in (
        ("--budget-ms", budget_ms),
        ("--budget-mb", budget_mb),
        ("--budget-memory-mb", memory_mb),
        ("--budget-mmacs", mmacs),
    ):
        if value == 0:
            raise BudgetError(f"{option} 0 cannot be met by any program; give a number above 0")
    size, memory, macs = (
        None if value is None else round(value * MEGABYTE)
        for value in (budget_mb, memory_mb, mmacs)
    )
    return Budget(budget_ms, speedup, size, max_drop, memory, macs)


def sparsity_from(share: float | None, pattern: str | None, scope: str | None) -> Sparsity | None:
    """The zeros that the options ask for, None for none; everything wrong is told at once."""
    if (share, pattern, scope) == (None, None, None):
        return None
    word = pattern or "magnitude"
    problems = sparsity_problems(word, share, scope or "layer")
    if problems:
        raise EdgepruneError("--sparsity: " + "; ".join(problems))
    return Sparsity(word, share, "global" if scope == "global" else "layer")


def require_budget(budget: Budget, alternatives: str = "") -> None:
    """Raise unless a latency or a size is asked for; `max_drop` alone asks for nothing."""
    if (budget.latency_ms, budget.speedup, budget.size_bytes) == (None, None, None):
        raise EdgepruneError(
            f"no budget: give --speedup, --budget-ms or --budget-mb{alternatives} "
            "(as in --speedup 2)"
        )


def target_from(
    name: str,
    threads: int | None,
    settings: Sequence[str] | None = None,
    *,
    rewrite: bool = True,
) -> Target:
    """The target that the options ask for; `settings` are KEY=VALUE, values as TOML has them.

    Without `rewrite` its programs are not rewritten, whatever its profile says.
    """
    from edgeprune.targets import load_target, parse_settings

    overrides = parse_settings(settings or ())
    if threads is not None:
        overrides["threads"] = threads
    if not rewrite:
        overrides["rewrite"] = False
    return load_target(name, **overrides)
