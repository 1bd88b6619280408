"""The words that options may take, each with a line on what it means. Nothing here imports torch,
so that help and checks of a command line cost nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Strategy = Literal["budget", "global", "local"]


@dataclass(frozen=True)
class Choice:
    """One word: what it means, whether it needs data, and whether it is a change of the loss."""

    description: str
    needs_data: bool = False
    in_loss: bool = False


CRITERIA: Mapping[str, Choice] = {
    "l1": Choice("sum of absolute weights"),
    "l2": Choice("Euclidean norm of the weights"),
    "bn": Choice("scale of the batch norms (network slimming)"),
    "fpgm": Choice("distance from the other channels (geometric median)"),
    "lsh": Choice("unlikeness to stronger channels, by hashing"),
    "random": Choice("noise, for comparison"),
    "taylor": Choice("first-order change of the loss", needs_data=True, in_loss=True),
    "fisher": Choice(
        "second-order change of the loss, diagonal Fisher (OBD)", needs_data=True, in_loss=True
    ),
    "refit": Choice(
        "what a refit of later layers cannot bring back (OBS)", needs_data=True, in_loss=True
    ),
    "activation": Choice("mean absolute activation", needs_data=True),
}

AUTO = "auto"
"""In the place of a criterion: several are tried, see contest.py."""

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


def n_of_m(word: str) -> tuple[int, int] | None:
    """(N, M) of a pattern like "2:4", None for other words."""
    found = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", word)
    return (int(found[1]), int(found[2])) if found else None


def sparsity_problems(pattern: str, share: float | None, scope: str) -> list[str]:
    """All that is wrong with a wish for zeros, a phrase each."""
    problems = []
    counts = n_of_m(pattern)
    if counts is None and (pattern not in PATTERNS or pattern == "N:M"):
        problems.append(f"no pattern {pattern!r}: there are {', '.join(PATTERNS)} (as 2:4)")
    if counts is not None and counts[0] >= counts[1]:
        problems.append(f"{pattern} keeps everything: N must be below M, as in 2:4")
    if counts is not None and share is not None:
        problems.append(f"{pattern} says itself how much goes: leave the share out")
    if counts is None and share is None and pattern != "lsh":
        problems.append(f"{pattern} needs a share of the weights, as 0.5")
    if share is not None and not 0 < share < 1:
        problems.append(f"a share of {share:g} must lie between 0 and 1")
    if scope not in ("global", "layer"):
        problems.append(f"no scope {scope!r}: there are global, layer")
    return problems


def listed(choices: Mapping[str, Choice]) -> str:
    """The words with their lines, as help prints them."""
    return "; ".join(f"{name}: {choice.description}" for name, choice in choices.items())
