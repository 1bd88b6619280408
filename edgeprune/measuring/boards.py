"""A session on one or several boards alike: who does which step, and what comes of it all."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from edgeprune.errors import MeasureError
from edgeprune.measuring.answers import heat_warnings, program_samples
from edgeprune.measuring.board import Board, BoardLost, Dropped
from edgeprune.measuring.onboard import OnBoard, Step
from edgeprune.measuring.session import Session, SessionSamples
from edgeprune.records import Conditions, Progress

_MEMORY_ROUNDS = 1
_BUSY = 0.5
_ALIKE = 0.1


def measure_on(boards: Sequence[Board], session: Session, progress: Progress) -> SessionSamples:
    """Time a session's programs on `boards`, which take its processes from one queue.

    All programs of one process run on one board, so that ratios compare like with like. A board
    that stays away leaves its steps to the others, with a warning. Raises MeasureError where all
    are lost, where boards differ in processor or runtime, and where a program cannot be run.
    """
    work = _Work(session, progress, deque(_steps(session)))
    threads = [threading.Thread(target=work.do_on, args=(board,), daemon=True) for board in boards]
    for thread in threads:
        thread.start()
    for thread in threads:
        # With a timeout, so that Ctrl-C is heard while we wait.
        while thread.is_alive():
            thread.join(0.2)
    work.finish()
    return _gathered(session, work)


def _steps(session: Session) -> list[Step]:
    """The processes of a session; where programs are compared, one more for each one's memory."""
    effort, programs = session.effort, session.programs
    steps = [
        Step(i, programs, effort.rounds, f"process {i + 1} of {effort.processes}")
        for i in range(effort.processes)
    ]
    if len(programs) > 1:
        steps += [
            Step(effort.processes + i, (path,), _MEMORY_ROUNDS, f"memory of {path.name}")
            for i, path in enumerate(programs)
        ]
    return steps


@dataclass
class _Work:
    """The queue of steps, and what the boards' threads have brought so far."""

    session: Session
    progress: Progress
    waiting: deque[Step]
    answers: dict[int, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    failed: list[Exception] = field(default_factory=list)
    lost: list[BoardLost] = field(default_factory=list)
    total: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.total = len(self.waiting)

    def do_on(self, board: Board) -> None:
        """One board's thread: get ready, then step after step until none is left."""
        ready = OnBoard(board, self.session, lambda note: self._tell(f"{board.name}: {note}"))
        step: Step | None = None
        try:
            ready.prepare()
            while (step := self._next()) is not None:
                self._tell(f"{board.name}: {step.note}")
                answer = ready.run(step)
                with self.lock:
                    self.answers[step.index] = (board.name, answer)
                step = None
            ready.leave()
        except BoardLost as error:
            with self.lock:
                self.lost.append(error)
                if step is not None:
                    self.waiting.appendleft(step)
        except Dropped:
            pass  # while tidying up: what was measured is here already
        except Exception as error:  # handed to the thread that waits
            with self.lock:
                self.failed.append(error)
                self.waiting.clear()
        with self.lock:
            self.warnings += ready.warnings

    def finish(self) -> None:
        """Raise what stopped the boards; the others' work is enough where one was lost."""
        if self.failed:
            raise self.failed[0]
        if len(self.answers) < self.total:
            raise (
                self.lost[0]
                if len(self.lost) == 1
                else MeasureError("; ".join(str(error) for error in self.lost))
            )
        self.warnings += [f"{error}; the other board did its share" for error in self.lost]
        self.progress("measure", self.total, self.total)

    def _next(self) -> Step | None:
        with self.lock:
            return self.waiting.popleft() if self.waiting else None

    def _tell(self, note: str) -> None:
        with self.lock:
            self.progress("measure", len(self.answers), self.total, note)


def _gathered(session: Session, work: _Work) -> SessionSamples:
    processes = session.effort.processes
    timed = [work.answers[i] for i in range(processes)]
    answers = [answer for _, answer in timed]
    alone = len(session.programs) == 1
    if alone:
        peaks = [max(answer["peak_rss_bytes"] or 0 for answer in answers)]
    else:
        memory = [work.answers[processes + i][1] for i in range(len(session.programs))]
        peaks = [int(answer["peak_rss_bytes"] or 0) for answer in memory]
    programs = tuple(
        program_samples([answer["programs"][i] for answer in answers], int(peak))
        for i, peak in enumerate(peaks)
    )
    warnings = [
        *work.warnings,
        *heat_warnings(answers, session.target.reach.cool_below_c),
        *_busy(timed),
        *_unlike(timed),
    ]
    return SessionSamples(programs, _conditions(session, timed), tuple(dict.fromkeys(warnings)))


def _conditions(session: Session, timed: Sequence[tuple[str, Any]]) -> Conditions:
    """What the boards say of themselves; MeasureError where they are not alike."""
    names = sorted({name for name, _ in timed})
    for what, told in (
        ("processor", [answer["machine"]["cpu"] for _, answer in timed]),
        ("runtime", [answer["runtime"] for _, answer in timed]),
        ("kind of runner", [answer["runner"] for _, answer in timed]),
    ):
        if len(set(told)) > 1:
            each = {f"{name}: {one}" for (name, _), one in zip(timed, told, strict=True)}
            raise MeasureError(
                "boards that share a session must be alike, and they differ in "
                f"{what}: {'; '.join(sorted(each))}"
            )
    answers = [answer for _, answer in timed]
    machine, target = answers[0]["machine"], session.target
    return Conditions(
        device=" and ".join(names),
        cpu=machine["cpu"],
        runtime=answers[0]["runtime"],
        backend=target.backend,
        dtype=target.dtype,
        threads=target.threads,
        governor=machine["governor"],
        frequency_mhz=_most(answers, "frequency_mhz"),
        temperature_c=_most(answers, "temperature_c"),
        load=machine["load"] or 0.0,
        date=machine["date"],
    )


def _most(answers: Sequence[Any], key: str) -> float | None:
    return max((a["after"][key] for a in answers if a["after"][key] is not None), default=None)


def _busy(timed: Sequence[tuple[str, Any]]) -> list[str]:
    """The load when the first process began is other people's; later ones hold ours."""
    name, first = timed[0]
    load = first["machine"]["load"] or 0.0
    if load <= _BUSY:
        return []
    return [f"{name} was busy (load {load:.1f}) when measuring began"]


def _unlike(timed: Sequence[tuple[str, Any]]) -> list[str]:
    """Boards of one kind whose times differ all the same."""
    found = []
    for i in range(len(timed[0][1]["programs"])):
        by_board: dict[str, list[float]] = {}
        for name, answer in timed:
            by_board.setdefault(name, []).extend(answer["programs"][i]["wall_ms"])
        medians = {name: median(samples) for name, samples in by_board.items()}
        if max(medians.values()) > (1 + _ALIKE) * min(medians.values()):
            each = ", ".join(f"{name} {value:.4g} ms" for name, value in sorted(medians.items()))
            found.append(f"the boards are not equally fast ({each}); their samples are pooled")
    return found
