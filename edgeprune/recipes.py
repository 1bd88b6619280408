"""Wishes that make no sense, told before anything is done; imports no torch."""

from __future__ import annotations

import math
from typing import get_args

from edgeprune.choices import AUTO
from edgeprune.errors import EdgepruneError
from edgeprune.records import FitOptions, Optimiser, Precision, Recipe

OPTIMISERS: tuple[str, ...] = get_args(Optimiser)
PRECISIONS: tuple[str, ...] = get_args(Precision)


def check_recipe(recipe: Recipe) -> None:
    """Raise EdgepruneError that lists everything in a recipe that makes no sense."""
    lr, decay = recipe.lr, recipe.weight_decay
    problems = [
        text
        for wrong, text in (
            (recipe.epochs < 0, f"epochs is {recipe.epochs}: 0 or more"),
            (lr is not None and not 0 < lr < math.inf, f"lr is {lr}: above 0"),
            (
                recipe.optimiser not in (None, *OPTIMISERS),
                f"optimiser is {recipe.optimiser!r}: one of {', '.join(OPTIMISERS)}",
            ),
            (not 0 <= recipe.momentum < 1, f"momentum is {recipe.momentum}: from 0 to below 1"),
            (decay is not None and not decay >= 0, f"weight_decay is {decay}: 0 or more"),
            (not 0 <= recipe.warmup < 1, f"warmup is {recipe.warmup}: from 0 to below 1"),
            (not 0 <= recipe.distill <= 1, f"distill is {recipe.distill}: from 0 to 1"),
            (not recipe.temperature > 0, f"temperature is {recipe.temperature}: above 0"),
            (not 0 <= recipe.features < math.inf, f"features is {recipe.features}: 0 or more"),
            (
                not 0 <= recipe.label_smoothing < 1,
                f"label_smoothing is {recipe.label_smoothing}: from 0 to below 1",
            ),
            (recipe.accumulate < 1, f"accumulate is {recipe.accumulate}: 1 or more"),
            (not 0 <= recipe.ema < 1, f"ema is {recipe.ema}: from 0 to below 1"),
            (recipe.patience < 0, f"patience is {recipe.patience}: 0 or more"),
            (
                recipe.precision not in PRECISIONS,
                f"precision is {recipe.precision!r}: one of {', '.join(PRECISIONS)}",
            ),
        )
        if wrong
    ]
    if problems:
        raise EdgepruneError(f"the training recipe cannot be used: {'; '.join(problems)}")


def check_without_data(options: FitOptions) -> None:
    """Raise for what needs data."""
    if options.quantize is not None:
        raise EdgepruneError(
            f"{options.quantize} needs data to be calibrated on: pass --data, or leave --quantize "
            "out"
        )
    if options.criterion == AUTO:
        raise EdgepruneError("criterion auto goes by accuracy: it needs data; l2 needs none")
