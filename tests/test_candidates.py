"""Programs that were resized beside true ones, and a closed loop that uses them.

The target is one whose latency is estimated from the program itself, so all of it is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeprune import calibrating, closed_loop
from edgeprune.blocks import blocks
from edgeprune.candidates import Baseline, Programs
from edgeprune.channels import channel_groups
from edgeprune.closed_loop import USED_ENOUGH, Wanted, close_the_loop
from edgeprune.cost.pte_parts import take_apart
from edgeprune.cost.resizing import Ambiguous, CannotResize, Template, differences
from edgeprune.errors import MeasureError
from edgeprune.graph import capture
from edgeprune.lowering import lower
from edgeprune.measuring import compare, compare_until
from edgeprune.measuring.kernels import profile
from edgeprune.planning import Blocks, Known, by_hand
from edgeprune.planning.drawn import around, telling_widths
from edgeprune.records import Budget, Graph, Round
from edgeprune.scoring import score
from edgeprune.targets import load_target

TARGET = load_target("raspberry-pi-5-estimate")


class Net(nn.Module):
    """Delegate calls with a split between them, a residual block, a layer norm at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.left = nn.Conv2d(16, 40, 3, padding=1)
        self.down = nn.Conv2d(56, 48, 3, stride=2, padding=1)
        self.mid = nn.Conv2d(48, 24, 3, padding=1)
        self.back = nn.Conv2d(24, 48, 3, padding=1)
        self.norm = nn.LayerNorm(48)
        self.head = nn.Linear(48, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = F.relu(self.stem(x)).chunk(2, 1)
        x = F.relu(self.down(torch.cat([self.left(first), second], 1)))
        x = F.relu(x + self.back(F.relu(self.mid(x))))
        return self.head(self.norm(x.flatten(2).mean(2)))


@dataclass(frozen=True)
class Subject:
    graph: Graph
    known: Known
    baseline: Baseline


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    torch.manual_seed(0)
    graph = capture(Net().eval(), (torch.randn(1, 3, 16, 16),), name="net")
    groups = channel_groups(graph)
    artifact = lower(graph, TARGET, tmp_path_factory.mktemp("programs") / "baseline.pte")
    (measured,) = compare([artifact], TARGET)
    found = blocks(graph)
    importance = {block.name: 1.0 for block in found}
    known = Known(graph, groups, score(graph, groups, "l2"), blocks=Blocks(found, importance))
    return Subject(graph, known, Baseline(artifact.path, measured.median_ms, artifact.size_bytes))


@pytest.fixture(scope="module")
def told(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Programs that know two true ones."""
    programs = Programs(subject.graph, TARGET, subject.baseline)
    programs.tell(tmp_path_factory.mktemp("told") / "telling.pte")
    return programs


def test_nothing_is_resized_from_one_program(subject: Subject, tmp_path: Path) -> None:
    programs = Programs(subject.graph, TARGET, subject.baseline)
    assert not programs.ready
    with pytest.raises(CannotResize, match="nothing was learnt"):
        programs.at(subject.known.sizes, tmp_path / "x.pte")


@pytest.mark.parametrize("share", [0.45, 0.8])
def test_a_resized_program_is_what_lowering_makes(
    subject: Subject, told: Programs, tmp_path: Path, share: float
) -> None:
    """Sizes, the file's length to the byte, the memory that is planned."""
    wanted = {name: share * size for name, size in subject.known.sizes.items()}
    widths = around(subject.known.groups, {k: max(2, int(v)) for k, v in wanted.items()}, 3)
    plan = by_hand(subject.known, widths)
    made = told.resized(plan, tmp_path / "resized.pte")
    true = Programs(subject.graph, TARGET, subject.baseline).lowered(plan, tmp_path / "true.pte")
    parts = [take_apart(path.read_bytes()) for path in (made.path, true.path)]
    assert differences(*parts) == []
    assert (made.size_bytes, made.planned_bytes) == (true.size_bytes, true.planned_bytes)
    ours, theirs = compare([made.path, true.path], TARGET)
    assert ours.median_ms == theirs.median_ms


def test_plans_without_their_blocks_are_not_resized(
    subject: Subject, told: Programs, tmp_path: Path
) -> None:
    plan = replace(by_hand(subject.known, {}), dropped=(subject.known.blocks.known[0].name,))
    with pytest.raises(CannotResize, match="drops blocks"):
        told.resized(plan, tmp_path / "x.pte")


def test_groups_that_were_never_cut_are_not_guessed(told: Programs) -> None:
    parts = take_apart(told.baseline.path.read_bytes())
    template = Template(parts, {}, {}, fixed={"stem": 32})
    assert template.numbers({"stem": 32, "left": 7}) == {}
    with pytest.raises(Ambiguous, match="never cut"):
        template.numbers({"stem": 31, "left": 7})


def test_int8_programs_are_not_resized(subject: Subject) -> None:
    programs = Programs(subject.graph, replace(TARGET, dtype="int8"), subject.baseline)
    assert "int8" in programs.refused
    assert not programs.ready


def test_telling_widths_leave_no_two_dimensions_alike(subject: Subject) -> None:
    groups = subject.known.groups
    full, (widths,) = groups.full_widths(), telling_widths(groups)
    assert (widths,) == telling_widths(groups)
    seen: dict[tuple[int, int], str] = {}
    for group in groups.groups:
        assert seen.setdefault((full[group.name], widths[group.name]), group.name) == group.name
        assert widths[group.name] < group.size


def test_more_groups_than_widths_are_told_apart_by_two_programs() -> None:
    class Many(nn.Module):
        """Twelve convolutions of eight channels each: only six widths of two or more are less."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Conv2d(3, 8, 3) for _ in range(12))
            self.head = nn.Conv2d(96, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.cat([layer(x) for layer in self.layers], 1))

    groups = channel_groups(capture(Many().eval(), (torch.randn(1, 3, 8, 8),)))
    first, second = telling_widths(groups)
    assert len({(first[g.name], second[g.name]) for g in groups.groups}) == 12


# --- the loop ----------------------------------------------------------------------------------


def closed(subject: Subject, programs: Programs, wanted: Wanted) -> tuple[Round, ...]:
    graph, groups = subject.graph, subject.known.groups
    cost = profile(graph, TARGET, groups)
    known = replace(subject.known, blocks=Blocks(subject.known.blocks.known))
    return close_the_loop(known, cost, programs, wanted).rounds


def test_a_resized_round_that_hits_is_lowered_and_measured_again(
    subject: Subject, told: Programs
) -> None:
    rounds = closed(subject, told, Wanted(Budget(speedup=1.6)))
    *way, resized, true = rounds
    assert (resized.made, true.made) == ("resized", "lowered")
    assert all(turn.made == "resized" for turn in way)
    assert true.verdict == "met"
    assert USED_ENOUGH <= (true.measured_ms or 0) / (true.budget_ms or 1) <= 1
    assert true.predicted_ms == resized.predicted_ms
    assert true.size_bytes == resized.size_bytes


def test_a_true_program_that_misses_is_followed_by_another_round(
    subject: Subject, told: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resized programs are made to look 4 % faster than they are; the true ones decide."""

    def flattering(programs, target, effort, decided):  # type: ignore[no-untyped-def]
        before, after = compare_until(programs, target, effort, decided)
        names = take_apart(Path(programs[1]).read_bytes()).program["named_data"]
        true = any(item.get("segment_index", 0) for item in names)
        if true:
            return before, after
        faster = tuple(0.96 * ms for ms in after.samples_ms)
        interval = (0.96 * after.interval_ms[0], 0.96 * after.interval_ms[1])
        return before, replace(
            after, samples_ms=faster, median_ms=0.96 * after.median_ms, interval_ms=interval
        )

    monkeypatch.setattr(closed_loop, "compare_until", flattering)
    limit = subject.baseline.latency_ms / 1.6
    rounds = closed(subject, told, Wanted(Budget(latency_ms=limit)))
    true = [turn for turn in rounds if turn.made == "lowered"]
    assert true[0].verdict == "missed"
    assert rounds.index(true[0]) < len(rounds) - 1
    assert true[-1].verdict == "met"
    assert rounds[-1].made == "lowered"


def test_every_round_is_lowered_where_nothing_was_told(subject: Subject) -> None:
    programs = Programs(subject.graph, TARGET, subject.baseline)
    rounds = closed(subject, programs, Wanted(Budget(speedup=1.6)))
    assert {turn.made for turn in rounds} == {"lowered"}
    assert not programs.ready
    assert rounds[-1].verdict == "met"


def test_a_resized_program_that_does_not_run_is_lowered(
    subject: Subject, told: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(programs, *rest):  # type: ignore[no-untyped-def]
        if told.refused == "" and Path(programs[1]).name == "candidate.pte":
            raise MeasureError("it crashed")
        return compare_until(programs, *rest)

    monkeypatch.setattr(closed_loop, "compare_until", failing)
    rounds = closed(subject, told, Wanted(Budget(speedup=1.6)))
    assert "it crashed" in told.refused
    assert {turn.made for turn in rounds} == {"lowered"}
    told.refused = ""  # others use it too


def test_calibration_lowers_one_telling_program_and_says_how_far_off_it_was(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = Programs(subject.graph, TARGET, subject.baseline)
    told: list[str] = []
    original = calibrating.calibrate

    def watched(*args):  # type: ignore[no-untyped-def]
        line = original(*args)
        told.append(f"{len(line.held_out)} {programs.ready} {len(programs.lowering_s)}")
        return line

    monkeypatch.setattr(closed_loop, "calibrate", watched)
    rounds = closed(subject, programs, Wanted(Budget(speedup=1.6), calibrate=4))
    assert told == ["5 True 1"]
    assert [turn.made for turn in rounds][-2:] == ["resized", "lowered"]


@pytest.mark.parametrize(
    ("asked", "seconds", "programs"), [(None, 10.0, 0), (None, 90.0, 3), (0, 90.0, 0), (5, 1.0, 5)]
)
def test_calibration_is_worth_it_where_lowering_is_dear(
    asked: int | None, seconds: float, programs: int
) -> None:
    assert Wanted(Budget(speedup=2), calibrate=asked).programs_around(seconds) == programs
    assert Wanted(Budget(size_bytes=9), calibrate=asked).programs_around(seconds) == 0
