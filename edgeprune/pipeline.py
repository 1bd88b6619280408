"""The stages of `fit`, in order: the page to read first.

Every finished stage is kept in the run's directory; a second run reads it back and continues after
the last one. What each stage does is in stages.py.
"""

from __future__ import annotations

from torch import nn

from edgeprune import findings, stages
from edgeprune.channels import channel_groups
from edgeprune.data import Data
from edgeprune.footprint import layers
from edgeprune.iterative import standing
from edgeprune.measuring import speedup
from edgeprune.models import LoadedModel
from edgeprune.records import FitOptions, Progress, Report, silent
from edgeprune.report import write_report
from edgeprune.rounds import early_rounds
from edgeprune.surgery import prune


def fit(
    model: LoadedModel | nn.Module,
    data: Data | None,
    options: FitOptions,
    *,
    progress: Progress = silent,
) -> Report:
    """Prune `model` to the budget, recover it, lower it, measure it; writes `options.out`.

    `data` may be None: channels are then scored by their weights, nothing is trained, and no metric
    is reported. Raises BudgetError when the budget is known to be out of reach, OutputError when
    the directory holds another run. A budget that is missed as measured is a verdict in the report,
    not an error.
    """
    work = stages.begin(stages.loaded(model, data), data, options, progress)

    graph, baseline_training = stages.train_baseline(work)
    baseline_metric = stages.check(work, "check baseline", graph)
    groups = channel_groups(graph)
    baseline = stages.lower_baseline(work, graph)
    cost = stages.profile_costs(work, graph, groups)
    cut, early = early_rounds(work, standing(graph, groups), (cost, baseline))
    scores = stages.score_channels(work, cut)
    plan, rounds = stages.make_plan(work, cut, (scores, cost, baseline))

    pruned = prune(cut.whole, plan)
    cut_metric = stages.check(work, "prune", pruned)
    pruned, training = stages.recover(work, pruned, graph)
    artifact = stages.lower_pruned(work, pruned)

    measured = stages.measure_both(work, baseline, artifact)
    parity = stages.check_parity(work, pruned, artifact)
    tested = stages.test_both(work, graph, pruned)

    before = findings.side(graph, baseline, measured.before, tested.before or baseline_metric)
    last = training.after if training is not None else cut_metric
    after = findings.side(pruned, artifact, measured.after, tested.after or last)
    options = work.options
    verdict, reasons = findings.final_verdict(measured, (before, after), options)
    ratio, interval = speedup(measured.before, measured.after)
    report = Report(
        model=work.model.name,
        target=options.target,
        verdict=verdict,
        reasons=reasons,
        budget=options.budget,
        baseline=before,
        final=after,
        speedup=ratio,
        speedup_interval=interval,
        parity=parity,
        stages=findings.history(
            work.run,
            {
                "train baseline": findings.outcome(baseline_training),
                "check baseline": (baseline_metric, ""),
                **early,
                "score": (None, work.criterion),
                "plan": (None, findings.planned(plan, rounds)),
                "prune": (cut_metric, "the cut alone, before any recovery"),
                "fine-tune": findings.outcome(training),
            },
        ),
        rounds=rounds,
        layers=layers(graph, groups, plan.widths(), cost),
        pinned=groups.pinned,
        artifacts=findings.ARTIFACTS,
        versions=findings.versions(),
        notes=(
            *findings.dropped(plan.dropped),
            *plan.notes,
            *findings.notes(work.given, baseline_training, training),
            *(findings.on_zeros(before, after) if plan.sparsity is not None else ()),
        ),
        sparsity=plan.sparsity,
    )
    write_report(report, options.out)
    return report
