"""What a user asks for: how to recover, how to fit, within which budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgeprune.choices import Strategy
from edgeprune.records.device import Target
from edgeprune.records.network import Sparsity
from edgeprune.rules import Rules

Optimiser = Literal["sgd", "adamw"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Budget:
    """What the final program may cost. Any may be None; all that are set must hold.

    `speedup` is relative to the measured baseline; `max_drop` is in points of the metric.
    `memory_bytes` limits the activations that live at one time and `macs` the multiply-accumulates:
    both follow from the widths and are held to while planning, not measured.
    """

    latency_ms: float | None = None
    speedup: float | None = None
    size_bytes: int | None = None
    max_drop: float | None = None
    memory_bytes: int | None = None
    macs: int | None = None


@dataclass(frozen=True)
class Metric:
    """A value of the task's metric; `higher_is_better` for accuracy, False for a loss."""

    name: str
    value: float
    higher_is_better: bool = True

    def better_than(self, other: Metric) -> bool:
        """Whether this is better than another value of the same metric; NaN never is."""
        return self.lead_over(other) > 0

    def lead_over(self, other: Metric) -> float:
        """By how much this is better than another value of the same metric; negative if worse."""
        sign = 1 if self.higher_is_better else -1
        return sign * (self.value - other.value)


@dataclass(frozen=True)
class Recipe:
    """How to train. None leaves a choice to the network (`recovery.recipes` says which).

    Rates are for the batch size given; `distill` is the teacher's share of the loss, `features` the
    weight of the difference from tensors inside the teacher beside it, 0 for none. The gradients
    of `accumulate` batches make one update. `ema` is the decay of the averaged weights that are
    judged and kept in place of the last ones, 0 for none. `patience` is after how many epochs
    without a better validation metric training stops, 0 for never. `precision` is that of the
    forward pass: "fp32", "bf16", "fp16", or "auto": bf16 where the hardware has it, else fp32.
    """

    epochs: int = 3
    lr: float | None = None
    optimiser: Optimiser | None = None
    momentum: float = 0.9
    weight_decay: float | None = None
    warmup: float = 0.1
    distill: float = 0.5
    temperature: float = 4.0
    features: float = 10.0
    label_smoothing: float = 0.0
    clip: float = 5.0
    accumulate: int = 1
    ema: float = 0.0
    patience: int = 0
    precision: Precision = "fp32"
    seed: int = 0


@dataclass(frozen=True)
class FitOptions:
    """Everything `fit` needs beside the model and the data."""

    target: Target
    budget: Budget
    out: Path
    recipe: Recipe = field(default_factory=Recipe)
    baseline_epochs: int = 10
    criterion: str | None = None
    """None means Taylor where there is data, L2 where there is none (and the report says which);
    "auto" tries several, with and without `drop_blocks`, on the validation split."""
    sparsity: Sparsity | None = None
    strategy: Strategy = "budget"
    rounds: int = 1
    """In how many cuts the channels go, with training between them (iterative pruning)."""
    statistics: bool = True
    """Whether batch norms get statistics of the cut network."""
    reconstruction: bool = True
    """Whether layers are refitted by least squares after a cut."""
    samples: int = 512
    """How many training samples these two look at, and int8 is calibrated on."""
    quantize: Literal["int8", "qat"] | None = None
    """Whether the final program is in int8, and trained as such; the baseline stays fp32."""
    seed: int = 0
    force: bool = False
    drop_blocks: bool = False
    """Whether residual blocks may be dropped whole."""
    drop: tuple[str, ...] = ()
    """Residual blocks that are dropped in any case."""
    rules: Rules = field(default_factory=Rules)
    floor: float = 0.1
    """The least share of every group that stays."""
    time_limit: float = 10.0
    """Seconds that the search for one plan may take."""
    calibrate: int | None = None
    """How many programs around the first plan are measured before it; None: three where lowering
    takes a minute or more."""
    bundle: bool = False
    """Whether bundled programs are written: with inputs and the outputs expected for them."""
