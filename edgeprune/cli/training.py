"""The options that say how accuracy is got back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

import typer

from edgeprune.errors import EdgepruneError
from edgeprune.records import Optimiser, Precision

OPTIMISERS: Mapping[str, Optimiser] = {"sgd": "sgd", "adamw": "adamw"}
PRECISIONS: Mapping[str, Precision] = {
    "auto": "auto",
    "fp32": "fp32",
    "bf16": "bf16",
    "fp16": "fp16",
}
QUANTIZE: Mapping[str, Literal["int8", "qat"]] = {"int8": "int8", "qat": "qat"}

OptimiserOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="sgd or adamw; by default what fits the network."),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Of training: fp32, bf16, fp16, or auto: bf16 where the hardware has it.",
    ),
]
EmaOption = Annotated[
    float,
    typer.Option(metavar="DECAY", help="Keep an average of the weights, as 0.999; 0 for none."),
]
AccumulateOption = Annotated[
    int, typer.Option(metavar="N", min=1, help="Batches whose gradients make one update.")
]
PatienceOption = Annotated[
    int,
    typer.Option(metavar="N", min=0, help="Stop after N epochs without a better metric; 0: never."),
]
DistillOption = Annotated[
    float,
    typer.Option(
        metavar="SHARE", min=0, max=1, help="The full network's share of the loss as a teacher."
    ),
]
TemperatureOption = Annotated[
    float, typer.Option(metavar="T", help="What the scores of both are divided by for that.")
]
FeaturesOption = Annotated[
    float,
    typer.Option(
        metavar="WEIGHT",
        min=0,
        help="Of matching tensors inside the full network, beside the loss; 0: none.",
    ),
]
SmoothingOption = Annotated[
    float, typer.Option(metavar="SHARE", help="Label smoothing, as 0.1; 0 for none.")
]
DecayOption = Annotated[
    float | None,
    typer.Option(metavar="DECAY", help="Weight decay; by default what fits the network."),
]
StatisticsOption = Annotated[
    bool,
    typer.Option(
        "--statistics/--no-statistics",
        help="Take batch-norm statistics anew after a cut (no labels).",
    ),
]
ReconstructionOption = Annotated[
    bool,
    typer.Option(
        "--reconstruct/--no-reconstruct",
        help="Refit layers by least squares after a cut (no labels).",
    ),
]
SamplesOption = Annotated[
    int,
    typer.Option(metavar="N", min=1, help="Training samples that these two look at."),
]
QuantizeOption = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        help="int8: the final program in int8, calibrated on training samples; qat: trained in "
        "simulated int8 after that, a third of --epochs more.",
    ),
]

Word = TypeVar("Word", bound=str)


def chosen_of(option: str, word: str | None, words: Mapping[str, Word]) -> Word | None:
    """The word of a table that was given, None for none. Raises EdgepruneError for another."""
    if word is None:
        return None
    if word not in words:
        raise EdgepruneError(f"{option} {word} is not one of {', '.join(words)}")
    return words[word]
