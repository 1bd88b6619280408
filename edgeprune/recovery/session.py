"""What a training is asked for, and what it leaves: the records of recovery by training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeprune.data import Data
from edgeprune.records import Graph, Metric, Progress, silent


@dataclass(frozen=True)
class TrainingSession:
    """How a training is watched, and where it is kept so that it can be continued.

    With a `path`, a checkpoint is written there after every epoch and every `every_s` seconds, and
    a training with the same path, recipe, data, shapes and `key` goes on from it, or returns its
    result at once if it had ended. `stage` is the name progress is told under.
    """

    path: Path | None = None
    key: str = ""
    every_s: float = 600.0
    progress: Progress = silent
    stage: str = "fine-tune"


@dataclass(frozen=True)
class Epoch:
    """One epoch: mean training loss (None for number 0, before training) and validation metric."""

    number: int
    loss: float | None
    metric: Metric
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """A trained graph, the validation metric of its weights, and how it got there.

    `history` starts with epoch 0, the graph as it came. `notes` says what a user should know:
    that training diverged or gave nothing, that it was continued, that a checkpoint was not used.
    """

    graph: Graph
    metric: Metric
    history: tuple[Epoch, ...]
    notes: tuple[str, ...] = ()


def data_metric(data: Data, value: float) -> Metric:
    """A value of the data's metric."""
    return Metric(data.metric_name, value, data.higher_is_better)
