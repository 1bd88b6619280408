"""The stages of `fit`, in order: the page to read first.

Every finished stage is kept in the run's directory; a second run reads it back and continues after
the last one. What each stage does is in stages.py and mending.py.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from edgeprune import findings, int8, mending, ranks, stages
from edgeprune.channels import channel_groups
from edgeprune.contest import entered
from edgeprune.data import Data
from edgeprune.footprint import layers
from edgeprune.iterative import positions_left, standing
from edgeprune.measuring import speedup
from edgeprune.models import LoadedModel
from edgeprune.records import FitOptions, Progress, Report, silent
from edgeprune.recovery.features import matches
from edgeprune.report import write_report
from edgeprune.rounds import early_rounds
from edgeprune.sparsity import sparsify
from edgeprune.surgery import kept_positions, prune
from edgeprune.travelling import Parcel, travel


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

    graph, baseline_training = mending.train_baseline(work)
    baseline_metric = stages.check(work, "check baseline", graph)
    groups = channel_groups(graph)
    baseline = stages.lower_baseline(work, graph)
    cost = stages.profile_costs(work, graph, groups)
    start = standing(graph, groups)
    work, contest = entered(work, start, (cost, baseline))
    cut, early = early_rounds(work, start, (cost, baseline))
    scores = stages.score_channels(work, cut)
    plan, rounds = stages.make_plan(work, cut, (scores, cost, baseline))

    pruned = prune(cut.whole, replace(plan, sparsity=None))
    cut_metric = stages.check(work, "prune", pruned)
    stay = kept_positions(cut.whole, plan)
    last_cut = mending.Cut(cut.current, pruned, positions_left(cut, stay), cut_metric)
    pruned, reached, mended = mending.mend(work, last_cut)
    if plan.sparsity is not None:  # last, so that layers are refitted whole
        pruned = sparsify(pruned, plan.sparsity)
        reached = stages.check(work, "zeros", pruned)
    reached_untrained = reached
    same = matches(graph, pruned, stay)
    pruned, training = mending.recover(work, pruned, mending.Teacher(graph, same))
    final, in_int8, quantised = int8.quantised(work, pruned, graph)
    artifact = stages.lower_pruned(work, pruned, final)

    measured = stages.measure_both(work, baseline, artifact)
    parity = stages.check_parity(work, final, artifact)
    target = work.options.target
    travel(work, Parcel(graph, baseline, target), Parcel(final, artifact, work.final_target))
    tested = stages.test_both(work, graph, pruned)
    tested_after = int8.tested(work, final, artifact, tested.after)

    before = findings.side(graph, baseline, measured.before, tested.before or baseline_metric)
    reached = in_int8 or (training.after if training is not None else reached)
    after = findings.side(pruned, artifact, measured.after, tested_after or reached)
    options = work.options
    verdict, reasons = findings.final_verdict(measured, (before, after), options)
    ratio, interval = speedup(measured.before, measured.after)
    report = Report(
        model=work.model.name,
        target=work.final_target,
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
                **contest,
                **early,
                "score": (None, work.criterion),
                "plan": (None, findings.planned(plan, rounds)),
                "prune": (cut_metric, "the cut alone, before any recovery"),
                **mended,
                "zeros": (reached_untrained, "single weights set to zero"),
                "fine-tune": findings.outcome(training),
                **quantised,
                "test": (tested.after, "the pruned network on the test set"),
                "test int8": (tested_after, int8.test_note(work)),
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
            *findings.on_rewrites(artifact),
            *findings.on_parity(parity),
            *int8.costs_notes(options),
            *findings.notes(work.given, baseline_training, training),
            *(findings.on_zeros(before, after) if plan.sparsity is not None else ()),
        ),
        sparsity=plan.sparsity,
    )
    if ranks.is_first():
        write_report(report, options.out)
    return report
