"""The stages of `fit` that get accuracy back: statistics, reconstruction, training.

Each is a stage of the run with its own seconds and its own metric on the validation split; what
does not help there is reported, and not used.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import reduce

from safetensors.torch import load_file, save

from edgeprune import ranks
from edgeprune.data import Data, evaluate
from edgeprune.findings import Training
from edgeprune.output import write_whole
from edgeprune.records import Graph, Metric, Recipe
from edgeprune.recovery.features import Match
from edgeprune.recovery.norms import norms
from edgeprune.recovery.recipes import fresh
from edgeprune.recovery.reconstruction import Effort, Reconstructed, reconstruct
from edgeprune.recovery.session import TrainingSession
from edgeprune.recovery.statistics import recompute_statistics
from edgeprune.recovery.training import train
from edgeprune.recovery.twins import Positions
from edgeprune.stages import Work, weights_key

Told = dict[str, tuple[Metric | None, str]]
"""What the report says of stages: the metric after them, and a line."""


@dataclass(frozen=True)
class Cut:
    """The network before a cut, what is left, and which positions of its parameters those are.

    `metric` is what the cut left on the validation split; `of` ends the stages' names, as in
    " 1 of 3"; `judged` is on about how many validation samples it is judged, None for all.
    """

    before: Graph
    small: Graph
    positions: Positions
    metric: Metric | None
    of: str = ""
    judged: int | None = None


@dataclass(frozen=True)
class Teacher:
    """A network that another one learns from, and which tensors they have in common."""

    graph: Graph
    matches: tuple[Match, ...] = ()


@dataclass(frozen=True)
class Mended:
    """What a stage without labels found; its weights are in a file of the run."""

    metric: Metric
    note: str


def train_baseline(work: Work) -> tuple[Graph, Training | None]:
    """The network that everything is compared with: weights that came with the model stay, fresh
    ones are trained first where there is data."""
    epochs = work.options.baseline_epochs
    if work.model.has_weights or work.data is None or not epochs:
        return work.graph, None
    wanted = Recipe(epochs=epochs, distill=0.0, seed=work.options.seed)
    recipe = fresh(wanted, work.graph, work.data.batch_size)
    return trained(work, ("train baseline", "baseline.safetensors"), work.graph, recipe)


def mend(work: Work, cut: Cut) -> tuple[Graph, Metric | None, Told]:
    """The cut network with the best of what needs no labels, its metric, and what the report says.

    Candidates are the cut as it is, with statistics of its own, and reconstructed; the one with the
    best metric on the validation split goes on, the earlier one of equals.
    """
    data = work.data
    if data is None or cut.metric is None:
        return cut.small, cut.metric, {}
    best, told = (cut.small, cut.metric), Told()
    for name in _asked(work, cut):
        best = _stage(work, cut, name, (best, told))
    return *best, told


def untrained(work: Work, cut: Cut) -> Metric:
    """What `mend` would reach, without keeping any of it in the run."""
    found = [_STAGES[name](work, cut)[1].metric for name in _asked(work, cut)]
    found.append(_judged(work, cut, cut.small))
    return reduce(lambda best, one: one if one.better_than(best) else best, found)


def _asked(work: Work, cut: Cut) -> tuple[str, ...]:
    """The stages without labels that are wanted and have something to do."""
    options = work.options
    statistics = options.statistics and bool(norms(cut.small.program))
    wanted = {"statistics": statistics, "reconstruct": options.reconstruction}
    return tuple(name for name, want in wanted.items() if want)


def _stage(
    work: Work, cut: Cut, name: str, so_far: tuple[tuple[Graph, Metric], Told]
) -> tuple[Graph, Metric]:
    """One stage on the cut network; returns the better of what was best and what it made."""
    (graph, metric), told = so_far
    file = work.run.file(f".{(name + cut.of).replace(' ', '-')}.safetensors")

    def compute() -> Mended:
        made, found = _STAGES[name](work, cut)
        save_weights(work, file.name, made)
        return found

    found = work.run.stage(name + cut.of, Mended, compute, together=True)
    helps = found.metric.better_than(metric)
    unused = "" if helps else "; not used, since it does not help"
    told[name + cut.of] = (found.metric, found.note + unused)
    if not helps:
        return graph, metric
    made = replace(cut.small, program=copy.deepcopy(cut.small.program))
    made.program.load_state_dict(load_file(file))
    return made, found.metric


def _statistics(work: Work, cut: Cut) -> tuple[Graph, Mended]:
    """Batch norms get the statistics of the network as it is now."""
    samples = work.options.samples
    work.progress("statistics" + cut.of, 0, 0, f"{samples} samples, no labels")
    made = recompute_statistics(cut.small, _data(work), samples)
    note = f"batch-norm statistics of {samples} samples, no labels"
    return made, Mended(_judged(work, cut, made), note)


def _reconstruction(work: Work, cut: Cut) -> tuple[Graph, Mended]:
    """Layers are refitted; then statistics are taken again where that helps."""
    effort = Effort(samples=work.options.samples, seed=work.options.seed)
    found: Reconstructed = reconstruct(
        cut.before, cut.small, cut.positions, _data(work), effort, progress=work.progress
    )
    note = f"{len(found.layers)} layers refitted on {effort.samples} samples, no labels"
    made, metric = found.graph, _judged(work, cut, found.graph)
    if work.options.statistics and norms(made.program):
        again = recompute_statistics(made, _data(work), effort.samples)
        metric_again = _judged(work, cut, again)
        if metric_again.better_than(metric):
            made, metric, note = again, metric_again, note + ", then statistics"
    return made, Mended(metric, note)


_STAGES = {"statistics": _statistics, "reconstruct": _reconstruction}


def recover(work: Work, pruned: Graph, teacher: Teacher) -> tuple[Graph, Training | None]:
    """weights.safetensors: fine-tuned with the full network as teacher, where there is data."""
    if work.data is None or not work.options.recipe.epochs:
        save_weights(work, "weights.safetensors", pruned)
        return pruned, None
    stage = ("fine-tune", "weights.safetensors")
    return trained(work, stage, pruned, work.options.recipe, teacher)


def trained(
    work: Work,
    stage: tuple[str, str],
    graph: Graph,
    recipe: Recipe,
    teacher: Teacher | None = None,
) -> tuple[Graph, Training]:
    """`graph` with the weights that training gave it; `stage` is its name and its weights file."""
    data, (name, kept) = _data(work), stage
    checkpoint = work.run.file(f".{name.replace(' ', '-')}.checkpoint")

    def compute() -> Training:
        session = TrainingSession(
            path=checkpoint, key=weights_key(graph), progress=work.progress, stage=name
        )
        module = None if teacher is None else teacher.graph.program
        matches = () if teacher is None else teacher.matches
        tuned = train(graph, data, recipe, teacher=module, matches=matches, session=session)
        save_weights(work, kept, tuned.graph)
        epochs = len(tuned.history) - 1
        return Training(tuned.history[0].metric, tuned.metric, epochs, tuned.notes)

    found = work.run.stage(name, Training, compute, together=True)
    if ranks.is_first():
        checkpoint.unlink(missing_ok=True)
    graph.program.load_state_dict(load_file(work.run.file(kept)))
    return graph, found


def save_weights(work: Work, name: str, graph: Graph) -> None:
    """A file of the run with all weights and statistics of a network; one process writes it."""
    if not ranks.is_first():
        return
    state = {key: t.detach().contiguous().clone() for key, t in graph.program.state_dict().items()}
    write_whole(work.run.file(name), save(state))


def _data(work: Work) -> Data:
    assert work.data is not None
    return work.data


def _judged(work: Work, cut: Cut, graph: Graph) -> Metric:
    return evaluate(graph.program, _data(work).validation, _data(work), most=cut.judged)
