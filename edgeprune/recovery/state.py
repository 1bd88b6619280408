"""Where a training stands: the one thing in it that changes, and all that a checkpoint holds."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune import ranks
from edgeprune.data import Data
from edgeprune.records import Graph, Metric, Recipe
from edgeprune.recovery.averaging import Average
from edgeprune.recovery.checkpoint import read_checkpoint, write_checkpoint
from edgeprune.recovery.session import Epoch, TrainingSession, data_metric

PLAIN = ("best", "best_value", "notes", "epoch", "batch", "loss_sum", "seconds", "waited", "ended")


@dataclass
class State:
    """Everything that changes while training, beside the weights and the optimiser.

    `history` starts with epoch 0, the network as it came; `best` are the weights of the best of the
    others, None before there is one. `epoch` (from 1) and `batch` (from 0) say which batch comes
    next; all that is random follows from them and the seed. `waited` counts the epochs since the
    metric was best.
    """

    history: list[Epoch]
    best: dict[str, Tensor] | None = None
    best_value: float = math.nan
    notes: list[str] = field(default_factory=list)
    epoch: int = 1
    batch: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    waited: int = 0
    ended: bool = False

    def take(self, weights: dict[str, Tensor], metric: Metric) -> None:
        """Note an epoch's metric, and its weights if no earlier ones are better."""
        held = replace(metric, value=self.best_value)
        better = math.isnan(self.best_value) or metric.better_than(held)
        # of equals the later: it has seen more data at a lower rate
        if better or metric.value == self.best_value:
            self.best, self.best_value = weights, metric.value
        self.waited = 0 if better else self.waited + 1


@dataclass(frozen=True)
class Moving:
    """What an update changes, beside the state."""

    module: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: Average | None

    def weights(self) -> dict[str, Tensor]:
        """A copy of the module's tensors as they are."""
        return {k: v.detach().clone() for k, v in self.module.state_dict().items()}


def fingerprint(graph: Graph, data: Data, recipe: Recipe, told: Mapping[str, Any]) -> str:
    """A hash of what decides a training; `told` is what is not in the other three."""
    identity = {
        "recipe": asdict(recipe),
        "shapes": [[k, list(v.shape)] for k, v in graph.program.state_dict().items()],
        "data": [data.name, len(data.train), list(data.sample_shape)],
        "kept": {name: int(mask.sum()) for name, mask in graph.masks.items()},
        **told,
    }
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def save(session: TrainingSession, key: str, state: State, moving: Moving) -> None:
    """Write the checkpoint, where the session has a path; one process does."""
    if session.path is None or not ranks.is_first():
        return
    average = moving.average
    content = {
        **{name: getattr(state, name) for name in PLAIN},
        "history": [(e.number, e.loss, e.metric.value, e.seconds) for e in state.history],
        "weights": moving.module.state_dict(),
        "optimiser": moving.optimiser.state_dict(),
        "scaler": moving.scaler.state_dict(),
        "average": None if average is None else [average.updates, average.state],
    }
    write_checkpoint(session.path, key, content)


def resume(
    session: TrainingSession, key: str, data: Data, moving: Moving
) -> tuple[State | None, str]:
    """The state of the session's checkpoint, with what moves put to where it was; or None and why
    there is none to go on from ("" where there is no file)."""
    path = session.path
    if path is None:
        return None, ""
    found, why = ranks.one_for_all(lambda: read_checkpoint(path, key))
    if found is None:
        return None, why
    moving.module.load_state_dict(found["weights"])
    moving.optimiser.load_state_dict(found["optimiser"])
    moving.scaler.load_state_dict(found["scaler"])
    if moving.average is not None:
        moving.average.updates, kept = found["average"]
        for name, tensor in kept.items():
            moving.average.state[name].copy_(tensor)
    history = [
        Epoch(number, loss, data_metric(data, value), seconds)
        for number, loss, value, seconds in found["history"]
    ]
    return State(history=history, **{name: found[name] for name in PLAIN}), ""
