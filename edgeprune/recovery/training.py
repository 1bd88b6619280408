"""Recovery by training: a graph and its data → the same graph with better weights."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from edgeprune import ranks
from edgeprune.data import Data, check_fit, epoch_batches, evaluate
from edgeprune.data.evaluate import device_of
from edgeprune.errors import EdgepruneError
from edgeprune.randomness import seeded
from edgeprune.records import Graph, Metric, Recipe
from edgeprune.recovery.averaging import Average
from edgeprune.recovery.choice import better_trained
from edgeprune.recovery.features import Match, tapped
from edgeprune.recovery.modes import autocast, channels_last, in_eval, scaler
from edgeprune.recovery.objective import Objective, optimiser, rate
from edgeprune.recovery.recipes import resolved
from edgeprune.recovery.session import Epoch, TrainingSession, Tuned, data_metric
from edgeprune.recovery.state import Moving, State, fingerprint, resume, save
from edgeprune.sparsity import hold


def finetune(
    graph: Graph,
    data: Data,
    recipe: Recipe | None = None,
    *,
    teacher: nn.Module | None = None,
    matches: Sequence[Match] = (),
    session: TrainingSession | None = None,
) -> Graph:
    """`train`, for those who want only the graph: a new one; the given one is not changed."""
    return train(graph, data, recipe, teacher=teacher, matches=matches, session=session).graph


def train(
    graph: Graph,
    data: Data,
    recipe: Recipe | None = None,
    *,
    teacher: nn.Module | None = None,
    matches: Sequence[Match] = (),
    session: TrainingSession | None = None,
) -> Tuned:
    """Train a copy of `graph`, with the teacher's outputs as part of the target if there is one.

    With `matches` (`features.matches`) the teacher is the program of the graph before the cut, and
    its tensors of these names are part of the target, too, unless `recipe.features` is 0.

    The weights that come back are those of the epoch with the best validation metric, or those
    given where training is no better (`choice.better_trained`, which knows that validation samples
    may have been seen); zeros that `sparsify` made stay zero. If the loss stops being a number,
    training stops there and says so. On a CPU in fp32 the result is a function of the arguments,
    however often the process was killed on the way. Neither the graph, the teacher nor a global
    generator is changed.

    Where `torch.distributed` is set up, all processes call this together: each takes its share of
    every batch, gradients are averaged, the first one writes; a training goes on with any number
    of processes. Raises ModelError if data and model do not fit, EdgepruneError for a recipe that
    makes no sense.
    """
    recipe = resolved(recipe or Recipe(), graph, data.batch_size)
    module = copy.deepcopy(graph.module())
    check_fit(module, data)
    assert isinstance(module, torch.fx.GraphModule)
    copied = replace(graph, program=module)
    with in_eval(teacher), channels_last(module, data, teacher) as order:
        compared = tuple(matches) if recipe.features else ()
        if compared:
            assert isinstance(teacher, torch.fx.GraphModule)
            teacher = tapped(teacher, compared)
        state = _Run(copied, Objective(data, recipe, teacher, compared), session, order).finish()
    metric, told = _settled(graph.module(), module, state, data)
    module.eval()
    for parameter in module.parameters():
        parameter.grad = None
    return Tuned(copied, metric, tuple(state.history), (*state.notes, *([told] if told else [])))


def _settled(start: nn.Module, module: nn.Module, state: State, data: Data) -> tuple[Metric, str]:
    """Give `module` the weights to keep; their metric, and what there is to know about them ("" for
    what is ordinary)."""
    before, told = state.history[0].metric, ""
    if state.best is not None:
        module.load_state_dict(state.best)
        after = data_metric(data, state.best_value)
        better, told = better_trained(start, module, data, (before, after))
        if better:
            return after, told
    module.load_state_dict(start.state_dict())
    return before, told


class _Run:
    """A training under way."""

    def __init__(
        self,
        graph: Graph,
        objective: Objective,
        session: TrainingSession | None,
        order: torch.memory_format,
    ) -> None:
        self.module: nn.Module = graph.program
        self.student: nn.Module = graph.program
        if objective.matches:
            self.student = tapped(graph.program, objective.matches)
        self.masks = graph.masks
        self.order = order
        self.objective = objective
        self.data, self.recipe = objective.data, objective.recipe
        self.session = session or TrainingSession()
        self.moving = Moving(
            self.module,
            optimiser(self.module, self.recipe),
            scaler(self.module, self.recipe.precision),
            Average(self.module, self.recipe.ema) if self.recipe.ema else None,
        )
        self.batches = len(self.data.train)
        self.updates = -(-self.batches // self.recipe.accumulate)
        self.saved_at = time.monotonic()
        told = {
            "distilled": objective.teacher is not None,
            "compared": [match.name for match in objective.matches],
            "key": self.session.key,
        }
        self.key = fingerprint(graph, self.data, self.recipe, told)

    def finish(self) -> State:
        """Train to the end, from the checkpoint if there is one."""
        state = self._begun()
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

    def _train_epoch(self, state: State) -> str:
        """Train from where `state` stands to the end of its epoch; returns what went wrong."""
        self.module.train()
        self.student.train()
        began, before = time.monotonic(), state.seconds
        batches = epoch_batches(
            self.data.train, self.recipe.seed, state.epoch, state.batch,
            (ranks.rank(), ranks.count()),
        )  # fmt: skip
        due = False
        for inputs, targets in batches:
            loss, wanted = self._gradients(state, inputs, targets)
            due = due or wanted
            if not math.isfinite(loss):
                return f"the loss became {loss} in epoch {state.epoch}, batch {state.batch + 1}"
            state.batch += 1
            state.loss_sum += loss
            state.seconds = before + time.monotonic() - began
            if state.batch % self.recipe.accumulate and state.batch < self.batches:
                continue
            norm = self._update()
            if not math.isfinite(norm):
                return f"the loss became {norm} in epoch {state.epoch}, batch {state.batch}"
            done = (state.epoch - 1) * self.batches + state.batch
            self._tell(done, f"epoch {state.epoch}, loss {loss:.3f}")
            if due:
                self._save(state)
                due = False
        return ""

    def _gradients(self, state: State, inputs: Tensor, targets: Tensor) -> tuple[float, bool]:
        """Add a batch's gradients, its share of an update; returns the loss over all processes, and
        whether it is time for a checkpoint."""
        recipe, device = self.recipe, device_of(self.module)
        first = state.batch - state.batch % recipe.accumulate
        if state.batch == first:
            step = (state.epoch - 1) * self.updates + first // recipe.accumulate
            self._begin_update(rate(step, self.updates * recipe.epochs, recipe))
        group = min(recipe.accumulate, self.batches - first)
        inputs = inputs.to(device, memory_format=self.order)
        targets = targets.to(device)
        number = (state.epoch - 1) * self.batches + state.batch
        own = (ranks.rank(),) if ranks.rank() else ()
        with seeded(recipe.seed, number, *own), autocast(self.module, recipe.precision):
            loss = self.objective(inputs, self.student(inputs), targets)  # dropout draws here
        late = time.monotonic() - self.saved_at >= self.session.every_s
        here = [float(loss.detach()) * len(inputs), len(inputs), late and ranks.is_first()]
        total, samples, wanted = ranks.added(here, device)
        share = len(inputs) / samples / group
        self.moving.scaler.scale(loss if share == 1 else loss * share).backward()
        return total / samples, wanted > 0

    def _begin_update(self, lr: float) -> None:
        for group in self.moving.optimiser.param_groups:
            group["lr"] = lr
        self.moving.optimiser.zero_grad(set_to_none=True)

    def _update(self) -> float:
        """Change the weights; returns the gradient's norm, and changes nothing where that is not
        finite (in fp16 that is ordinary: the scale is too large, and 0 is returned)."""
        moving, parameters = self.moving, list(self.module.parameters())
        ranks.add_up([p.grad for p in parameters if p.grad is not None])
        moving.scaler.unscale_(moving.optimiser)
        hold(self.module, self.masks)  # gradients of zeros that stay do not count in the norm
        limit = self.recipe.clip if self.recipe.clip > 0 else math.inf
        norm = float(nn.utils.clip_grad_norm_(parameters, limit))
        scaled = moving.scaler.is_enabled()
        if not math.isfinite(norm) and not scaled:
            return norm
        moving.scaler.step(moving.optimiser)
        moving.scaler.update()
        hold(self.module, self.masks)
        if moving.average is not None:
            moving.average.update(self.module)
        return norm if math.isfinite(norm) else 0.0

    def _judge(self, state: State) -> None:
        """Add the epoch to the history, and keep its weights if no earlier ones are better."""
        self._share_buffers()
        average = self.moving.average
        with nullcontext() if average is None else average.lent(self.module):
            metric = evaluate(self.module, self.data.validation, self.data)
            weights = self.moving.weights()
        loss = state.loss_sum / max(state.batch, 1)
        state.history.append(Epoch(state.epoch, loss, metric, state.seconds))
        state.take(weights, metric)
        note = f"epoch {state.epoch}: loss {loss:.3f}, {metric.name} {metric.value:.4f}"
        self._tell(state.epoch * self.batches, note)
        if 0 < self.recipe.patience <= state.waited and state.epoch < self.recipe.epochs:
            state.notes.append(
                f"training stopped after epoch {state.epoch} of {self.recipe.epochs}: "
                f"{state.waited} without a better {metric.name}"
            )
            state.ended = True

    def _stop(self, state: State, trouble: str) -> None:
        note = (
            f"training diverged ({trouble}) and was stopped: the weights are the best before that. "
            "Try a lower learning rate"
        )
        state.notes.append(note)
        state.ended = True
        self._tell(state.epoch * self.batches, note)
        self._save(state)

    def _tell(self, done: int, note: str) -> None:
        self.session.progress(self.session.stage, done, self.recipe.epochs * self.batches, note)

    def _save(self, state: State) -> None:
        self._share_buffers()
        save(self.session, self.key, state, self.moving)
        self.saved_at = time.monotonic()

    def _share_buffers(self) -> None:
        """Running statistics of every process's share become those of all."""
        if ranks.count() == 1:
            return
        with torch.no_grad():
            buffers = [b for b in self.module.buffers() if b.is_floating_point()]
            ranks.add_up(buffers)
            for buffer in buffers:
                buffer /= ranks.count()

    def _begun(self) -> State:
        """The state to start from: the checkpoint's, or a fresh one with epoch 0 judged."""
        smallest = self.data.batch_size or ranks.count()
        if smallest < ranks.count():
            raise EdgepruneError(
                f"batches of {smallest} cannot be shared among {ranks.count()} processes: raise "
                "the batch size, or start fewer processes"
            )
        state, why = resume(self.session, self.key, self.data, self.moving)
        if state is None:
            metric = evaluate(self.module, self.data.validation, self.data)
            state = State([Epoch(0, None, metric, 0.0)])
            if why:
                state.notes.append(why)
                self._tell(0, why)
        elif not state.ended:
            note = f"continued in epoch {state.epoch} after batch {state.batch} of {self.batches}"
            state.notes.append(note)
            self._tell((state.epoch - 1) * self.batches + state.batch, note)
        return state
