"""The stages of `fit`, in order: the page to read first.

capture → groups → baseline → scores → costs → closed loop of plan, cut, lower, measure →
fine-tune → lower → measure → report. Every finished stage is kept in the run's directory, and a
second run continues after the last of them.
"""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgeprune.channels import channel_groups
from edgeprune.closed_loop import Baseline, Found, close_the_loop, judge, worst
from edgeprune.cost import profile
from edgeprune.data import Data, evaluate
from edgeprune.footprint import layers, macs
from edgeprune.graph import capture, fingerprint, parameters_of
from edgeprune.lowering import lower
from edgeprune.measuring import Effort, compare, parity, speedup
from edgeprune.models import LoadedModel
from edgeprune.planning import Known
from edgeprune.plans import Plan
from edgeprune.records import (
    Artifact,
    ChannelGroups,
    CostModel,
    FitOptions,
    Graph,
    Measurement,
    Metric,
    Parity,
    Progress,
    Recipe,
    Report,
    Round,
    Side,
    Stage,
    Verdict,
    silent,
)
from edgeprune.report import write_report
from edgeprune.run import Run, write_atomically
from edgeprune.scoring import score
from edgeprune.surgery import prune
from edgeprune.tune import TrainingSession, Tuned, train

PARITY_SAMPLES = 32
BASELINE_LR = 0.05
BASELINE_KEPT = "baseline.safetensors"


def fit(
    model: LoadedModel | nn.Module,
    data: Data | None,
    options: FitOptions,
    *,
    progress: Progress = silent,
) -> Report:
    """Prune `model` to the budget, recover it, lower it, measure it; writes `options.out`.

    Raises BudgetError when the budget is known to be out of reach, OutputError when the directory
    holds another run. A budget that is missed as measured is a verdict in the report, no error.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    return _Fit(_loaded(model, data), data, options, progress).report()


def _loaded(model: LoadedModel | nn.Module, data: Data | None) -> LoadedModel:
    if isinstance(model, LoadedModel):
        return model
    if data is None:
        raise ValueError("fit(nn.Module) needs data to know the input shape: pass a LoadedModel")
    name = type(model).__name__
    return LoadedModel(model, (1, *data.sample_shape), name, has_weights=True)


@dataclass(frozen=True)
class _Trained:
    """What a training stage keeps beside its weights file."""

    before: Metric
    after: Metric
    epochs: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Measured:
    before: Measurement
    after: Measurement
    verdict: Verdict
    reasons: tuple[str, ...]


@dataclass
class _Fit:
    """One fit under way. Every property is a stage, computed or read back when first asked for."""

    model: LoadedModel
    data: Data | None
    options: FitOptions
    progress: Progress

    def report(self) -> Report:
        """Run what is not finished, and write the report."""
        before, after = self._sides()
        ratio, interval = speedup(self.final.before, self.final.after)
        verdict, reasons = self._verdict()
        report = Report(
            model=self.model.name,
            target=self.options.target,
            verdict=verdict,
            reasons=reasons,
            budget=self.options.budget,
            baseline=before,
            final=after,
            speedup=ratio,
            speedup_interval=interval,
            parity=self.parity,
            stages=self._stages(),
            rounds=self.found.rounds,
            layers=layers(self.graph, self.groups, self.found.plan.widths(), self.cost),
            pinned=self.groups.pinned,
            artifacts=_ARTIFACTS,
            versions=_versions(),
            notes=self._notes(),
        )
        write_report(report, self.options.out)
        return report

    # --- what is there ---------------------------------------------------------------------

    @cached_property
    def untrained(self) -> Graph:
        """The model as it came."""
        self.progress("capture", 0, 0, self.model.name)
        example = torch.zeros(self.model.input_shape)
        return capture(self.model.module, (example,), name=self.model.name)

    @cached_property
    def run(self) -> Run:
        request = {
            "model": self.model.name,
            "graph": fingerprint(self.untrained),
            "data": None if self.data is None else self.data.name,
            "target": asdict(self.options.target),
            "budget": asdict(self.options.budget),
            "recipe": asdict(self.options.recipe),
            "baseline epochs": self.options.baseline_epochs,
            "criterion": self.criterion,
            "seed": self.options.seed,
        }
        return Run.open(self.options.out, request, force=self.options.force)

    @property
    def criterion(self) -> str:
        """Taylor where there is data, L2 where there is none."""
        return self.options.criterion or ("taylor" if self.data is not None else "l2")

    @cached_property
    def groups(self) -> ChannelGroups:
        return channel_groups(self.graph)

    # --- baseline --------------------------------------------------------------------------

    @cached_property
    def graph(self) -> Graph:
        """The full network with the weights that everything is compared with."""
        if self.trained_baseline is None:
            return self.untrained
        self.untrained.program.load_state_dict(load_file(self.run.file(BASELINE_KEPT)))
        return self.untrained

    @cached_property
    def trained_baseline(self) -> _Trained | None:
        """Fresh weights are trained first; weights that came with the model stay."""
        if self.model.has_weights or self.data is None or not self.options.baseline_epochs:
            return None
        recipe = Recipe(
            epochs=self.options.baseline_epochs, lr=BASELINE_LR, distill=0.0, seed=self.options.seed
        )

        def compute() -> _Trained:
            return self._train(self.untrained, recipe, "train baseline", BASELINE_KEPT)

        return self.run.stage("train baseline", _Trained, compute)

    @cached_property
    def baseline(self) -> Artifact:
        def compute() -> Artifact:
            self.progress("lower baseline", 0, 0, self.options.target.name)
            return lower(self.graph, self.options.target, self.run.file("baseline.pte"))

        return self.run.stage("lower baseline", Artifact, compute)

    @cached_property
    def baseline_metric(self) -> Metric | None:
        """On the validation split."""
        return self._validated("check baseline", self.graph)

    # --- plan ------------------------------------------------------------------------------

    @cached_property
    def cost(self) -> CostModel:
        return profile(self.graph, self.options.target, self.groups, progress=self.progress)

    @cached_property
    def found(self) -> Found:
        rounds = self.run.stage("plan", tuple[Round, ...], self._plan)
        return Found(Plan.from_json(self.run.file("plan.json").read_text("utf-8")), rounds)

    def _plan(self) -> tuple[Round, ...]:
        target, budget = self.options.target, self.options.budget
        (measured,) = compare([self.baseline], target, Effort(processes=2))
        cost = self.cost
        self.progress("score", 0, 0, self.criterion)
        scores = score(self.graph, self.groups, self.criterion, self.data)
        known = Known(self.graph, self.groups, scores)
        base = Baseline(self.baseline.path, measured.median_ms, self.baseline.size_bytes)
        found = close_the_loop(known, cost, base, (budget, target), self.progress)
        text = replace(found.plan, target=target.name).to_json()
        write_atomically(self.run.file("plan.json"), lambda p: p.write_text(text, "utf-8"))
        return found.rounds

    # --- recovery --------------------------------------------------------------------------

    @cached_property
    def cut(self) -> Graph:
        """The pruned network, before any recovery."""
        return prune(self.graph, self.found.plan)

    @cached_property
    def cut_metric(self) -> Metric | None:
        _ = self.baseline_metric
        return self._validated("prune", self.cut)

    @cached_property
    def tuned(self) -> _Trained | None:
        if self.data is None or not self.options.recipe.epochs:
            return None

        def compute() -> _Trained:
            kept = "weights.safetensors"
            return self._train(self.cut, self.options.recipe, "fine-tune", kept, self.graph)

        return self.run.stage("fine-tune", _Trained, compute)

    @cached_property
    def pruned(self) -> Graph:
        """The final network."""
        _ = self.cut_metric
        if self.tuned is not None:
            self.cut.program.load_state_dict(load_file(self.run.file("weights.safetensors")))
        else:
            _save_weights(self.run, "weights.safetensors", self.cut)
        return self.cut

    # --- result ----------------------------------------------------------------------------

    @cached_property
    def artifact(self) -> Artifact:
        def compute() -> Artifact:
            self.progress("lower", 0, 0, self.options.target.name)
            _save_program(self.run, self.pruned)
            return lower(self.pruned, self.options.target, self.run.file("model.pte"))

        _ = self.pruned
        return self.run.stage("lower", Artifact, compute)

    @cached_property
    def final(self) -> _Measured:
        return self.run.stage("measure", _Measured, self._measure)

    def _measure(self) -> _Measured:
        """Baseline and final program in turns; more samples while the budget is undecidable."""
        paths = [self.baseline, self.artifact]
        for processes in (3, 6, 12):
            self.progress("measure", 0, 0, f"{processes} processes")
            before, after = compare(
                paths, self.options.target, Effort(processes=processes), self.progress
            )
            found, reasons = judge(before, after, self.artifact.size_bytes, self.options.budget)
            if found != "undecidable":
                break
        return _Measured(before, after, found, reasons)

    @cached_property
    def parity(self) -> Parity:
        def compute() -> Parity:
            self.progress("check parity", 0, 0, "eager against .pte")
            return parity(self.pruned, self.artifact, [self._real_inputs()])

        _ = self.final
        return self.run.stage("check parity", Parity, compute)

    @cached_property
    def test_metrics(self) -> tuple[Metric | None, Metric | None]:
        """Both networks on the test set, the one time that it is used."""
        data = self.data

        def compute() -> tuple[Metric | None, Metric | None]:
            if data is None or data.test is None:
                return None, None
            self.progress("test", 0, 0, "baseline and pruned, on the test set")
            return (
                evaluate(self.graph.program, data.test, data),
                evaluate(self.pruned.program, data.test, data),
            )

        _ = self.parity
        return self.run.stage("test", tuple[Metric | None, Metric | None], compute)

    def _sides(self) -> tuple[Side, Side]:
        before, after = self.test_metrics
        return (
            _side(self.graph, self.baseline, self.final.before, before or self.baseline_metric),
            _side(self.pruned, self.artifact, self.final.after, after or self._last_validated()),
        )

    def _verdict(self) -> tuple[Verdict, tuple[str, ...]]:
        limit = self.options.budget.max_drop
        before, after = self._sides()[0].metric, self._sides()[1].metric
        found, reasons = self.final.verdict, self.final.reasons
        if limit is None or before is None or after is None:
            return found, reasons
        drop = (before.value - after.value) * (1 if before.higher_is_better else -1)
        if drop <= limit:
            return found, reasons
        why = f"{after.name} fell by {drop:.2f} points, at most {limit:g} were allowed"
        return worst([found, "missed"]), (*reasons, why)

    # --- pieces ----------------------------------------------------------------------------

    def _train(
        self, graph: Graph, recipe: Recipe, stage: str, kept: str, teacher: Graph | None = None
    ) -> _Trained:
        assert self.data is not None
        session = TrainingSession(
            path=self.run.file(f".{stage.replace(' ', '-')}.checkpoint"),
            key=self._weights_key(graph),
            progress=self.progress,
            stage=stage,
        )
        tuned = train(
            graph,
            self.data,
            recipe,
            teacher=teacher.program if teacher is not None else None,
            session=session,
        )
        _save_weights(self.run, kept, tuned.graph)
        assert session.path is not None
        session.path.unlink(missing_ok=True)
        return _trained(tuned)

    def _weights_key(self, graph: Graph) -> str:
        """Ties a checkpoint to the weights that training starts from."""
        return f"{fingerprint(graph)} {sum(float(p.double().sum()) for p in _tensors(graph)):.9e}"

    def _validated(self, stage: str, graph: Graph) -> Metric | None:
        data = self.data
        if data is None:
            return None

        def compute() -> Metric:
            self.progress(stage, 0, 0, "metric on the validation split")
            return evaluate(graph.program, data.validation, data)

        return self.run.stage(stage, Metric, compute)

    def _last_validated(self) -> Metric | None:
        return self.tuned.after if self.tuned is not None else self.cut_metric

    def _real_inputs(self) -> Any:
        """Validation samples, or seeded noise where there is no data."""
        if self.data is None:
            shape = (8, *self.model.input_shape[1:])
            return np.random.default_rng(self.options.seed).standard_normal(shape, np.float32)
        inputs, _ = next(iter(self.data.validation))
        return inputs[:PARITY_SAMPLES].numpy()

    def _stages(self) -> tuple[Stage, ...]:
        metrics: dict[str, tuple[Metric | None, str]] = {
            "train baseline": _outcome(self.trained_baseline),
            "check baseline": (self.baseline_metric, ""),
            "prune": (self.cut_metric, "the cut alone, before any recovery"),
            "fine-tune": _outcome(self.tuned),
            "plan": (None, f"{len(self.found.rounds)} round(s), scores: {self.criterion}"),
        }
        return tuple(
            Stage(name, self.run.seconds(name), *metrics.get(name, (None, "")))
            for name in self.run.stages
        )

    def _notes(self) -> tuple[str, ...]:
        notes = list(self.model.notes)
        if self.trained_baseline is not None:
            notes.append(
                f"no weights were given: the baseline was trained here for "
                f"{self.trained_baseline.epochs} epochs"
            )
        elif not self.model.has_weights:
            notes.append("no weights were given and none were trained: accuracy means nothing here")
        if self.data is None:
            notes.append(
                "no data were given: channels were scored by L2 magnitude, not by the loss"
            )
        elif self.data.test is None:
            notes.append("there is no test set: both metrics are on the validation split")
        for trained in (self.trained_baseline, self.tuned):
            notes += trained.notes if trained is not None else ()
        return tuple(dict.fromkeys([*notes, *self.final.after.warnings]))


_ARTIFACTS = {
    "plan": "plan.json",
    "program": "model.pte",
    "baseline program": "baseline.pte",
    "retrainable program": "model.pt2",
    "weights": "weights.safetensors",
}


def _outcome(trained: _Trained | None) -> tuple[Metric | None, str]:
    if trained is None:
        return None, ""
    return trained.after, f"{trained.epochs} epochs, from {trained.before.value:.2f}"


def _trained(tuned: Tuned) -> _Trained:
    return _Trained(tuned.history[0].metric, tuned.metric, len(tuned.history) - 1, tuned.notes)


def _side(graph: Graph, artifact: Artifact, latency: Measurement, metric: Metric | None) -> Side:
    return Side(
        latency=latency,
        size_bytes=artifact.size_bytes,
        params=parameters_of(graph),
        macs=macs(graph),
        planned_bytes=artifact.planned_bytes,
        metric=metric,
    )


def _tensors(graph: Graph) -> list[torch.Tensor]:
    return [t for t in graph.program.state_dict().values() if t.is_floating_point()]


def _save_weights(run: Run, name: str, graph: Graph) -> None:
    state = {key: t.detach().contiguous().clone() for key, t in graph.program.state_dict().items()}
    write_atomically(run.file(name), lambda path: save_file(state, path))


def _save_program(run: Run, graph: Graph) -> None:
    """model.pt2: the pruned program, which `capture` and torch.export.load read again."""
    inputs, shapes = graph.example_inputs, None
    if graph.dynamic_batch:
        inputs = tuple(torch.cat([x, x]) if x.shape[0] == 1 else x for x in inputs)
        shapes = tuple({0: torch.export.Dim.AUTO} for _ in inputs)
    program = torch.export.export(graph.program, inputs, dynamic_shapes=shapes)

    def write(path: Any) -> None:
        with path.open("wb") as file:
            torch.export.save(program, file)

    write_atomically(run.file("model.pt2"), write)


def _versions() -> dict[str, str]:
    names = ("edgeprune", "torch", "torchvision", "executorch")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
