"""Recovery by training: a graph and its data → the same graph with better weights."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.data import Data, check_fit, epoch_batches, evaluate
from edgeprune.data.evaluate import device_of
from edgeprune.errors import EdgepruneError
from edgeprune.randomness import seeded
from edgeprune.records import Graph, Metric, Progress, Recipe, silent
from edgeprune.recovery.checkpoint import read_checkpoint, write_checkpoint
from edgeprune.recovery.objective import Objective, optimiser, rate
from edgeprune.sparsity import hold

__all__ = ["Epoch", "TrainingSession", "Tuned", "finetune", "train"]


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
    that training diverged, that it was continued, that a checkpoint was not used.
    """

    graph: Graph
    metric: Metric
    history: tuple[Epoch, ...]
    notes: tuple[str, ...] = ()


def finetune(
    graph: Graph,
    data: Data,
    recipe: Recipe | None = None,
    *,
    teacher: nn.Module | None = None,
    session: TrainingSession | None = None,
) -> Graph:
    """`train`, for those who want only the graph: a new one; the given one is not changed."""
    return train(graph, data, recipe, teacher=teacher, session=session).graph


def train(
    graph: Graph,
    data: Data,
    recipe: Recipe | None = None,
    *,
    teacher: nn.Module | None = None,
    session: TrainingSession | None = None,
) -> Tuned:
    """Train a copy of `graph`, with the teacher's outputs as part of the target if there is one.

    The weights that come back are those of the epoch with the best validation metric, the given
    weights included; zeros that `sparsify` made stay zero. If the loss stops being a number,
    training stops there and says so. On a CPU in fp32 the result is a function of the arguments,
    however often the process was killed on the way. Neither the graph, the teacher nor a global
    generator is changed. Raises ModelError if
    data and model do not fit, EdgepruneError for a recipe that makes no sense.
    """
    recipe = recipe or Recipe()
    _check(recipe)
    module = copy.deepcopy(graph.module())
    check_fit(module, data)
    assert isinstance(module, torch.fx.GraphModule)
    copied = replace(graph, program=module)
    run = _Run(copied, data, recipe, teacher, session or TrainingSession())
    with _channels_last(module, data), _in_eval(teacher):
        state = run.finish()
    module.load_state_dict(state.best)
    module.eval()
    for parameter in module.parameters():
        parameter.grad = None
    metric = data_metric(data, state.best_value)
    return Tuned(copied, metric, tuple(state.history), tuple(state.notes))


def data_metric(data: Data, value: float) -> Metric:
    """A value of the data's metric."""
    return Metric(data.metric_name, value, data.higher_is_better)


@dataclass
class _State:
    """Where a run stands. The one thing here that changes; a checkpoint is exactly this."""

    best: dict[str, Tensor]
    best_value: float
    history: list[Epoch]
    notes: list[str] = field(default_factory=list)
    epoch: int = 1
    batch: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    ended: bool = False


class _Run:
    """A training under way."""

    def __init__(
        self,
        graph: Graph,
        data: Data,
        recipe: Recipe,
        teacher: nn.Module | None,
        session: TrainingSession,
    ) -> None:
        self.module: nn.Module = graph.program
        self.masks = graph.masks
        self.data = data
        self.recipe = recipe
        self.session = session
        self.objective = Objective(data, recipe, teacher)
        self.optimiser = optimiser(self.module, recipe)
        self.steps = len(data.train)
        self.saved_at = time.monotonic()
        self.fingerprint = self._fingerprint()

    def finish(self) -> _State:
        """Train to the end, from the checkpoint if there is one."""
        state = self._resumed()
        while not state.ended and state.epoch <= self.recipe.epochs:
            trouble = self._train_epoch(state)
            if trouble:
                self._stop(state, trouble)
                break
            self._judge(state)
            state.epoch, state.batch = state.epoch + 1, 0
            state.loss_sum = state.seconds = 0.0
            state.ended = state.ended or state.epoch > self.recipe.epochs
            self._save(state)
        return state

    def _train_epoch(self, state: _State) -> str:
        """Train from where `state` stands to the end of its epoch; returns what went wrong."""
        self.module.train()
        device = device_of(self.module)
        began, before = time.monotonic(), state.seconds
        total = self.steps * self.recipe.epochs
        for inputs, targets in epoch_batches(
            self.data.train, self.recipe.seed, state.epoch, state.batch
        ):
            step = (state.epoch - 1) * self.steps + state.batch
            loss = self._step(inputs.to(device), targets.to(device), step)
            if not math.isfinite(loss):
                return f"the loss became {loss} in epoch {state.epoch}, batch {state.batch + 1}"
            state.batch += 1
            state.loss_sum += loss
            state.seconds = before + time.monotonic() - began
            self._tell(step + 1, total, f"epoch {state.epoch}, loss {loss:.3f}")
            if time.monotonic() - self.saved_at >= self.session.every_s:
                self._save(state)
        return ""

    def _step(self, inputs: Tensor, targets: Tensor, step: int) -> float:
        """One update; returns the loss, or the gradient's norm where that is not finite."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate(step, self.steps * self.recipe.epochs, self.recipe)
        self.optimiser.zero_grad(set_to_none=True)
        with seeded(self.recipe.seed, step):  # dropout draws here
            loss = self.objective(inputs, self.module(inputs), targets)
        loss.backward()
        hold(self.module, self.masks)  # gradients of zeros that stay do not count in the norm
        limit = self.recipe.clip if self.recipe.clip > 0 else math.inf
        norm = float(nn.utils.clip_grad_norm_(self.module.parameters(), limit))
        value = float(loss.detach())
        if not math.isfinite(value) or not math.isfinite(norm):
            return norm if math.isfinite(value) else value
        self.optimiser.step()
        hold(self.module, self.masks)
        return value

    def _judge(self, state: _State) -> None:
        """Add the epoch to the history, and keep its weights if no earlier ones are better."""
        metric = evaluate(self.module, self.data.validation, self.data)
        loss = state.loss_sum / max(state.batch, 1)
        state.history.append(Epoch(state.epoch, loss, metric, state.seconds))
        sign = 1 if self.data.higher_is_better else -1
        # of equals the later: it has seen more data at a lower rate
        if sign * metric.value >= sign * state.best_value or math.isnan(state.best_value):
            state.best, state.best_value = self._weights(), metric.value
        note = f"epoch {state.epoch}: loss {loss:.3f}, {metric.name} {metric.value:.4f}"
        self._tell(state.epoch * self.steps, self.recipe.epochs * self.steps, note)

    def _stop(self, state: _State, trouble: str) -> None:
        note = (
            f"training diverged ({trouble}) and was stopped: the weights are the best before that, "
            f"{self.data.metric_name} {state.best_value:.4f}. Try a lower learning rate"
        )
        state.notes.append(note)
        state.ended = True
        self._tell(state.epoch * self.steps, self.recipe.epochs * self.steps, note)
        self._save(state)

    def _tell(self, done: int, total: int, note: str) -> None:
        self.session.progress(self.session.stage, done, total, note)

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach().clone() for k, v in self.module.state_dict().items()}

    # --- checkpoints -------------------------------------------------------------------------

    def _fingerprint(self) -> str:
        identity = {
            "recipe": asdict(self.recipe),
            "shapes": [[k, list(v.shape)] for k, v in self.module.state_dict().items()],
            "data": [self.data.name, self.steps, list(self.data.sample_shape)],
            "distilled": self.objective.teacher is not None,
            "key": self.session.key,
            "kept": {name: int(mask.sum()) for name, mask in self.masks.items()},
        }
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def _save(self, state: _State) -> None:
        if self.session.path is None:
            return
        content = {
            **vars(state),
            "history": [(e.number, e.loss, e.metric.value, e.seconds) for e in state.history],
            "weights": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        write_checkpoint(self.session.path, self.fingerprint, content)
        self.saved_at = time.monotonic()

    def _resumed(self) -> _State:
        """The state to start from: the checkpoint's, or a fresh one with epoch 0 judged."""
        found: dict[str, Any] | None = None
        why = ""
        if self.session.path is not None:
            found, why = read_checkpoint(self.session.path, self.fingerprint)
        if found is None:
            metric = evaluate(self.module, self.data.validation, self.data)
            fresh = _State(self._weights(), metric.value, [Epoch(0, None, metric, 0.0)])
            if why:
                fresh.notes.append(why)
                self._tell(0, self.recipe.epochs * self.steps, why)
            return fresh
        self.module.load_state_dict(found.pop("weights"))
        self.optimiser.load_state_dict(found.pop("optimiser"))
        found["history"] = [
            Epoch(number, loss, data_metric(self.data, value), seconds)
            for number, loss, value, seconds in found["history"]
        ]
        state = _State(**found)
        if not state.ended:
            note = f"continued in epoch {state.epoch} after batch {state.batch} of {self.steps}"
            state.notes.append(note)
            done = (state.epoch - 1) * self.steps + state.batch
            self._tell(done, self.recipe.epochs * self.steps, note)
        return state


def _check(recipe: Recipe) -> None:
    problems = [
        text
        for wrong, text in (
            (recipe.epochs < 0, f"epochs is {recipe.epochs}: 0 or more"),
            (not 0 < recipe.lr < math.inf, f"lr is {recipe.lr}: above 0"),
            (not 0 <= recipe.momentum < 1, f"momentum is {recipe.momentum}: from 0 to below 1"),
            (not recipe.weight_decay >= 0, f"weight_decay is {recipe.weight_decay}: 0 or more"),
            (not 0 <= recipe.warmup < 1, f"warmup is {recipe.warmup}: from 0 to below 1"),
            (not 0 <= recipe.distill <= 1, f"distill is {recipe.distill}: from 0 to 1"),
            (not recipe.temperature > 0, f"temperature is {recipe.temperature}: above 0"),
            (
                not 0 <= recipe.label_smoothing < 1,
                f"label_smoothing is {recipe.label_smoothing}: from 0 to below 1",
            ),
        )
        if wrong
    ]
    if problems:
        raise EdgepruneError(f"the training recipe cannot be used: {'; '.join(problems)}")


@contextmanager
def _in_eval(teacher: nn.Module | None) -> Iterator[None]:
    """The teacher in eval mode, put back as it was afterwards."""
    if teacher is None:
        yield
        return
    training = teacher.training
    teacher.eval()
    try:
        yield
    finally:
        teacher.train(training)


@contextmanager
def _channels_last(module: nn.Module, data: Data) -> Iterator[None]:
    """Weights N H W C in memory while training, where the graph allows it.

    Convolutions on a CPU train about a quarter faster that way. A graph whose `view`s rely on
    N C H W order refuses, and trains as it is.
    """
    inputs, targets = next(epoch_batches(data.train_plain, seed=0, epoch=0))
    trial = copy.deepcopy(module).to(memory_format=torch.channels_last).train()
    device = device_of(module)
    try:
        with seeded(0):
            output = trial(inputs[:2].to(device))
        plain = Objective(data, Recipe())
        plain(inputs[:2].to(device), output, targets[:2].to(device)).backward()
    except RuntimeError:
        yield
        return
    module.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        module.to(memory_format=torch.contiguous_format)
