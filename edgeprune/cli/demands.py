"""What a user demands of single groups and blocks, from options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import typer

from edgeprune.errors import EdgepruneError
from edgeprune.rules import Rules

FloorOption = Annotated[
    float,
    typer.Option(metavar="SHARE", help="Least share of every group that stays, 0 to 1."),
]
MinWidthOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]N",
        help="Fewest channels of a group, or of those whose name fits: 'layer4.*=64'.",
    ),
]
MultipleOption = Annotated[
    list[str] | None,
    typer.Option(metavar="[NAME=]N", help="Keep multiples of N channels: 8, or 'layer4.*=16'."),
]
MaxCutOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]SHARE",
        help="Largest share of a group's channels that may go: 0.5, or 'layer1.*=0.2'.",
    ),
]
TimeLimitOption = Annotated[
    float,
    typer.Option(metavar="SECONDS", help="Longest search for one plan; the rest is its gap."),
]
CalibrateOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        max=20,
        help="Programs around the first plan to measure before it, so that fewer rounds miss; "
        "3 where lowering the model takes a minute or more, else 0.",
    ),
]
BudgetMemoryOption = Annotated[
    float | None,
    typer.Option(metavar="MB", help="Activations that may live at one time, in 1,000,000 bytes."),
]
BudgetMacsOption = Annotated[
    float | None,
    typer.Option(metavar="M", help="Multiply-accumulates of the plan, in millions."),
]


def rules_from(
    keep: Sequence[str],
    min_width: Sequence[str] | None,
    multiple: Sequence[str] | None,
    max_cut: Sequence[str] | None,
) -> Rules:
    """The demands that the options make; everything that is wrong is told at once."""
    problems: list[str] = []
    widths = _pairs("--min-width", min_width, problems)
    multiples = _pairs("--multiple", multiple, problems)
    cuts = _pairs("--max-cut", max_cut, problems)
    for option, found in (("--min-width", widths), ("--multiple", multiples)):
        problems += [
            f"{option} {name}={value:g} must be a whole number of 1 or more"
            for name, value in found.items()
            if value != int(value) or value < 1
        ]
    problems += [
        f"--max-cut {name}={value:g} must be a share of 0 to 1"
        for name, value in cuts.items()
        if not 0 <= value <= 1
    ]
    if problems:
        raise EdgepruneError("; ".join(problems))
    return Rules(
        tuple(keep),
        {name: int(value) for name, value in widths.items()},
        {name: int(value) for name, value in multiples.items()},
        cuts,
    )


def check_search(floor: float, time_limit: float) -> None:
    """Raise for a floor or a time limit that makes no sense."""
    problems = []
    if not 0 <= floor <= 1:
        problems.append(f"--floor {floor:g} must be a share of 0 to 1")
    if not 0 < time_limit < math.inf:
        problems.append(f"--time-limit {time_limit:g} must be a number of seconds above 0")
    if problems:
        raise EdgepruneError("; ".join(problems))


def keep_words(words: Sequence[str] | None) -> tuple[float | None, tuple[str, ...]]:
    """`--keep` as a share of the channels (a number), and the patterns of what stays whole."""
    numbers = [_number(word) for word in words or ()]
    shares = [number for number in numbers if number is not None]
    patterns = [word for word, n in zip(words or (), numbers, strict=True) if n is None]
    if len(shares) > 1:
        raise EdgepruneError("--keep takes one share of the channels; the others must be names")
    return (shares[0] if shares else None), tuple(patterns)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def speedups_from(text: str | None) -> tuple[float, ...]:
    """The speed-ups of `--sweep 1.2,1.5,2`, in the order given."""
    if text is None:
        return ()
    found, problems = [], []
    for word in text.split(","):
        value = _number(word)
        if value is not None and 1 <= value < math.inf:
            found.append(value)
        else:
            problems.append(f"--sweep {word.strip()!r} must be a number of 1 or more")
    if problems:
        raise EdgepruneError("; ".join(problems))
    return tuple(dict.fromkeys(found))


def _pairs(option: str, words: Sequence[str] | None, problems: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for word in words or ():
        pattern, _, text = word.rpartition("=")
        number = _number(text)
        if number is None:
            problems.append(f"{option} {word}: {text!r} is no number")
        else:
            found[pattern or "*"] = number
    return found
