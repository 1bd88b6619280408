"""Criteria and blocks that compete: what wins, what is passed over, what is put back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from residual_fits import RESIDUAL, residual_fit
from residuals import ResidualNet

import edgeprune.contest
from edgeprune import capture, channel_groups, fit, load_target
from edgeprune.blocks import blocks
from edgeprune.contest import Entrant, Tried, _Contest
from edgeprune.errors import EdgepruneError, PlanError
from edgeprune.iterative import standing
from edgeprune.models import ModelRequest, load_model
from edgeprune.plans import Plan
from edgeprune.records import Budget, FitOptions, Metric


class Scored(_Contest):
    """A contest whose outcomes are in a table: the metric by the blocks that are dropped."""

    table: dict[frozenset[str], float]

    def _outcome(self, entrant: Entrant) -> Tried:
        value = self.table.get(frozenset(entrant.drop))
        metric = None if value is None else Metric("top1", value)
        return Tried(metric, "", entrant.drop)


def contest(table: dict[frozenset[str], float], *forced: str) -> Scored:
    """One that has been entered with all blocks of a network dropped."""
    graph = capture(ResidualNet().eval(), (torch.zeros(1, 3, 16, 16),))
    work: Any = SimpleNamespace(options=SimpleNamespace(drop=forced), data=None)
    unused: Any = None
    made = Scored(work, standing(graph, channel_groups(graph)), unused, unused)
    made.table = table
    made.enter(Entrant("l2", False, tuple(block.name for block in blocks(graph))))
    return made


def table_of(score: Callable[[frozenset[str]], float | None]) -> dict[frozenset[str], float]:
    names = [b.name for b in blocks(capture(ResidualNet().eval(), (torch.zeros(1, 3, 16, 16),)))]
    sets = (frozenset(s) for n in range(len(names) + 1) for s in combinations(names, n))
    return {s: value for s in sets if (value := score(s)) is not None}


def test_blocks_are_put_back_while_that_is_better() -> None:
    names = sorted(max(table_of(lambda s: 1.0), key=len))
    good = frozenset(names[:2])
    made = contest(table_of(lambda s: 90 - 5 * len(s ^ good)))
    made.put_back()
    best = made.best()
    assert best is not None
    assert frozenset(best.drop) == good
    assert set(best.back) == set(names) - good
    assert len({entrant.name for entrant in made.tried}) == len(made.tried)


def test_what_is_no_better_or_has_no_plan_is_not_put_back() -> None:
    whole = max(table_of(lambda s: 1.0), key=len)
    for others in (50.0, None):
        made = contest(table_of(lambda s, others=others: 50.0 if s == whole else others))
        first = made.best()
        made.put_back()
        assert made.best() == first
        assert len(made.tried) == 1 + len(whole)


def test_what_must_go_is_never_put_back() -> None:
    names = sorted(max(table_of(lambda s: 1.0), key=len))
    made = contest(table_of(lambda s: 90.0 - len(s)), names[0])
    made.put_back()
    best = made.best()
    assert best is not None
    assert best.drop == (names[0],)


def test_with_all_blocks_back_it_is_what_was_tried_at_first() -> None:
    made = contest(table_of(lambda s: 90.0 - len(s)))
    made.enter(Entrant("l2", False))
    made.put_back()
    assert [entrant.drop for entrant in made.tried].count(()) == 1
    assert made.best() == Entrant("l2", False)


@pytest.mark.parametrize("alone", [70.0, 99.0])
def test_blocks_are_put_back_though_channels_alone_were_better_at_first(alone: float) -> None:
    names = sorted(max(table_of(lambda s: 1.0), key=len))
    good = frozenset(names[:2])
    made = contest(table_of(lambda s: 90 - 15 * len(s ^ good) if s else alone))
    made.enter(Entrant("taylor", False))
    first = made.best()
    assert first == Entrant("taylor", False)
    made.put_back()
    best = made.best()
    assert best is not None
    assert frozenset(best.drop) == (good if alone < 90 else frozenset())


def test_trials_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edgeprune.contest, "TRIALS", 2)
    made = contest(table_of(lambda s: 90.0 - len(s)))
    made.put_back()
    assert len(made.tried) == 3


def test_auto_takes_what_does_best_on_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edgeprune.contest, "TRIALS", 2)
    report = residual_fit(tmp_path, criterion="auto")
    tried = {s.name.removeprefix("try "): s for s in report.stages if s.name.startswith("try ")}
    names = ["taylor", "l2", "taylor with blocks", "l2 with blocks"]
    assert list(tried)[:4] == names
    assert all(" with blocks but " in name for name in list(tried)[4:])
    values = {name: stage.metric.value for name, stage in tried.items() if stage.metric}
    best = max(values, key=lambda name: values[name])
    assert [name for name, stage in tried.items() if "chosen" in stage.note] == [best]
    plan = Plan.from_json((tmp_path / "run" / "plan.json").read_text())
    assert plan.criterion == best.split()[0]
    assert plan.dropped == () or "blocks" in best
    mended = [s.metric.value for s in report.stages if s.name == "reconstruct" and s.metric]
    assert mended[0] == pytest.approx(values[best], abs=10)  # of the same kind of plan
    assert residual_fit(tmp_path, criterion="auto") == report


def test_auto_passes_over_what_has_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edgeprune.contest, "TRIALS", 2)
    report = residual_fit(tmp_path, criterion="auto", floor=1.0)
    tried = {s.name: s for s in report.stages if s.name.startswith("try ")}
    assert tried["try taylor"].metric is None
    assert "cannot be met" in tried["try l2"].note or "budget" in tried["try l2"].note
    assert Plan.from_json((tmp_path / "run" / "plan.json").read_text()).dropped


def test_auto_without_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(RESIDUAL)
    request = ModelRequest(f"{tmp_path / 'net.py'}:make", input_shape=(1, 1, 8, 8), classes=10)
    options = FitOptions(load_target("host"), Budget(speedup=2), tmp_path, criterion="auto")
    with pytest.raises(EdgepruneError, match="needs data"):
        fit(load_model(request), None, options)


def test_blocks_named_by_the_user_go(tmp_path: Path) -> None:
    report = residual_fit(tmp_path, criterion="l2", drop=("2",))
    plan = Plan.from_json((tmp_path / "run" / "plan.json").read_text())
    assert plan.dropped == ("2",)
    assert report.final.params < report.baseline.params - 4672


def test_a_block_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no such block to drop"):
        residual_fit(tmp_path, criterion="l2", drop=("layer9",))
