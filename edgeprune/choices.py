"""The words that options may take, each with a line on what it means. Nothing here imports torch,
so that help and checks of a command line cost nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Strategy = Literal["budget", "global", "local"]


@dataclass(frozen=True)
class Choice:
    """One word: what it means, and whether it needs data."""

    description: str
    needs_data: bool = False


CRITERIA: Mapping[str, Choice] = {
    "l1": Choice("sum of absolute weights"),
    "l2": Choice("Euclidean norm of the weights"),
    "bn": Choice("scale of the batch norms (network slimming)"),
    "fpgm": Choice("distance from the other channels (geometric median)"),
    "lsh": Choice("unlikeness to stronger channels, by hashing"),
    "random": Choice("noise, for comparison"),
    "taylor": Choice("first-order change of the loss", needs_data=True),
    "fisher": Choice("second-order change of the loss, diagonal Fisher (OBD)", needs_data=True),
    "activation": Choice("mean absolute activation", needs_data=True),
}

PATTERNS: Mapping[str, Choice] = {
    "l1": Choice("smallest |w| over the layer's mean |w|"),
    "l2": Choice("smallest w² over the layer's mean w²"),
    "magnitude": Choice("smallest |w|, as it is"),
    "N:M": Choice("all but the N largest of every M along the input, as 2:4"),
    "lsh": Choice("rows or filters that hashing finds to repeat a stronger one"),
}

STRATEGIES: Mapping[str, Choice] = {
    "budget": Choice("widths that lose the least importance for the budget"),
    "global": Choice("one ranking of all channels"),
    "local": Choice("the same share of every group"),
}


def listed(choices: Mapping[str, Choice]) -> str:
    """The words with their lines, as help prints them."""
    return "; ".join(f"{name}: {choice.description}" for name, choice in choices.items())
