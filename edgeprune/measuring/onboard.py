"""One board: what is put on it, and how a step of a session is run there and its answer fetched.

Everything lies under the board's folder: `files/` holds what was pushed, under the hash of its
content, so that nothing is pushed twice; `runs/` holds what the steps of this session write.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from edgeprune.errors import MeasureError
from edgeprune.measuring.answers import FORMAT, WARMUP_MS
from edgeprune.measuring.board import Answer, Board, called, persistently
from edgeprune.measuring.bundle import digest_of, sources
from edgeprune.measuring.engines import Engine, choose_engine
from edgeprune.measuring.process import last_log_line
from edgeprune.measuring.session import Session

T = TypeVar("T")

_WAIT_S = 20
_MOST_LOSSES = 2
_KEPT_DAYS = "7"
_COOL_WAIT_S = 300.0


@dataclass(frozen=True)
class Step:
    """One process on a board: these programs, taking turns, `rounds` samples of each."""

    index: int
    programs: tuple[Path, ...]
    rounds: int
    note: str


@dataclass
class OnBoard:
    """A board made ready for a session."""

    board: Board
    session: Session
    note: Callable[[str], None]
    warnings: list[str] = field(default_factory=list)
    _run: str = ""
    _step_sh: str = ""
    _engine: Engine | None = None
    _pushed: dict[Path, str] = field(default_factory=dict)
    _traces: int = 0

    def prepare(self) -> None:
        """Put the runner and the programs there. Raises MeasureError where neither kind can run."""
        self.note("connecting")
        for folder in ("files", "runs"):
            self._called(["mkdir", "-p", f"{self.board.folder}/{folder}"])
        # What nobody used for a week: programs of old sessions, runners of old versions.
        old = ["find", self.board.folder, "-type", "f", "-mtime", f"+{_KEPT_DAYS}"]
        self._persistently(lambda: self.board.call([*old, "-exec", "rm", "-f", "{}", "+"]))
        self._run = f"{self.board.folder}/runs/{uuid.uuid4().hex}"
        self._called(["mkdir", "-p", self._run])
        self._step_sh = self._put(sources() / "step.sh")
        self._engine, warning = self._persistently(
            lambda: choose_engine(self.board, self.session.target, self._put_together)
        )
        if warning:
            self.warnings.append(warning)
        for program in self.session.programs:
            self.note(f"pushing {program.name}")
            self._pushed[program] = self._put(program)

    def run(self, step: Step) -> dict[str, Any]:
        """The answer of one step; a dropped connection is taken up again where it broke off.

        Raises BoardLost where the board stays away (the step may be done elsewhere), MeasureError
        where the runner says why it cannot, dies, or takes longer than the effort allows.
        """
        return self._done(str(step.index), _names(step), lambda place: self._arguments(step, place))

    def identity(self) -> dict[str, Any]:
        """What the runner says of the board and its runtime, without running any program."""
        self._must_trace()
        return self._done("info", "the runner", lambda place: self._shared("info", place))

    def trace(self, program: Path, rounds: int) -> tuple[dict[str, Any], bytes]:
        """The answer of `rounds` executions on random inputs, and what the event tracer wrote.

        Raises MeasureError where the board measures by Python, which cannot trace, or as `run`.
        """
        self._must_trace()
        self._traces += 1
        remote, dump = (f"{self._run}/trace-{self._traces}.{kind}" for kind in ("pte", "etdp"))
        self._persistently(lambda: self.board.push(program, remote))

        def arguments(place: str) -> list[str]:
            how = ["--etdump", dump, "--rounds", str(rounds)]
            return [*self._shared("trace", place), *how, remote]

        answer = self._done(f"trace-{self._traces}", "kernels", arguments)
        data = self._persistently(lambda: self.board.pull(dump))
        self._called(["rm", "-f", remote, dump])
        return answer, data

    def leave(self) -> None:
        """Remove what this session's steps wrote; programs and runner stay for the next one."""
        if self._run:
            self.board.call(["rm", "-rf", self._run])

    def _must_trace(self) -> None:
        assert self._engine is not None
        if not self._engine.traces:
            raise MeasureError(
                "kernels are measured by the C++ runner only: " + "; ".join(self.warnings)
            )

    # --- a step ---------------------------------------------------------------------------------

    def _done(
        self, name: str, what: str, arguments: Callable[[str], Sequence[str]]
    ) -> dict[str, Any]:
        """The answer of one process of the runner, run again where the board lost it."""
        for attempt in range(_MOST_LOSSES + 1):
            place = f"{self._run}/{name}-{attempt}"
            code = self._ended(what, place, arguments(place))
            if code is not None:
                return self._answer(what, place, code)
            self.warnings.append(
                f"{self.board.name} lost a running process (did it restart?); it was run again"
            )
        raise MeasureError(f"{self.board.name} lost the process that ran {what} again and again")

    def _ended(self, what: str, place: str, arguments: Sequence[str]) -> int | None:
        """The exit code of the process, started if it was not; None where it got lost."""
        assert self._engine is not None
        command = self._engine.command(arguments)
        self._called(["sh", self._step_sh, "start", place, *command])
        deadline = time.monotonic() + self.session.effort.timeout_s
        while True:
            seconds = max(1, min(_WAIT_S, round(deadline - time.monotonic())))
            wait = ["sh", self._step_sh, "wait", place, str(seconds)]
            words = self._called(wait, timeout_s=_WAIT_S + 60).text.split()
            if words[:1] == ["done"]:
                return int(words[1])
            if words[:1] == ["lost"]:
                return None
            if time.monotonic() > deadline:
                self._persistently(lambda: self.board.call(["sh", self._step_sh, "stop", place]))
                raise MeasureError(
                    f"{what} was not done on {self.board.name} after "
                    f"{self.session.effort.timeout_s:g} s and was stopped; "
                    "measure fewer rounds, or allow more time"
                )

    def _arguments(self, step: Step, place: str) -> list[str]:
        effort, reach = self.session.effort, self.session.target.reach
        arguments = [
            *self._shared("time", place),
            *("--rounds", str(step.rounds), "--min-block-ms", f"{effort.min_block_ms:g}"),
            *("--warmup-ms", f"{WARMUP_MS:g}"),
        ]
        if reach.cool_below_c is not None:
            most = min(_COOL_WAIT_S, effort.timeout_s / 2)
            arguments += ["--cool-below", f"{reach.cool_below_c:g}", "--cool-wait-s", f"{most:g}"]
        return [*arguments, *(self._pushed[program] for program in step.programs)]

    def _shared(self, task: str, place: str) -> list[str]:
        target = self.session.target
        arguments = [task, "--out", f"{place}/result.json", "--threads", str(target.threads)]
        arguments += ["--seed", str(self.session.effort.seed)]
        if target.reach.cpus:
            arguments += ["--cpus", ",".join(str(cpu) for cpu in target.reach.cpus)]
        return arguments

    def _answer(self, what: str, place: str, code: int) -> dict[str, Any]:
        log = self._persistently(lambda: self.board.pull(f"{place}/log")).decode(errors="replace")
        try:
            text = self._persistently(lambda: self.board.pull(f"{place}/result.json"))
            answer: dict[str, Any] = json.loads(text)
        except (MeasureError, ValueError):
            lines = [line.strip() for line in log.splitlines() if line.strip()]
            said = " | ".join(lines[-5:]) or "it wrote nothing"
            raise MeasureError(
                f"running {what} on {self.board.name} ended with exit code {code}: {said}"
            ) from None
        if "error" in answer:
            said = last_log_line(log) or ""
            raise MeasureError(
                f"{self.board.name}: {answer['error']}" + (f" ({said})" if said else "")
            )
        if answer.get("format") != FORMAT:
            raise MeasureError(
                f"{self.board.name}: the runner answers in format {answer.get('format')!r}, and "
                f"this edgeprune reads {FORMAT!r}; build the runner of this version"
            )
        return answer

    # --- files ----------------------------------------------------------------------------------

    def _put(self, path: Path) -> str:
        return f"{self._put_together([path], digest_of(path)[:16])}/{path.name}"

    def _put_together(self, files: Sequence[Path], digest: str) -> str:
        """The folder on the board that holds `files`, pushed unless they are there already."""
        folder = f"{self.board.folder}/files/{digest}"
        if (
            self._persistently(lambda: self.board.call(["test", "-f", f"{folder}/.whole"])).code
            != 0
        ):
            self._called(["mkdir", "-p", folder])
            for path in files:
                self._persistently(lambda path=path: self.board.push(path, f"{folder}/{path.name}"))  # type: ignore[misc]
                self._check(path, f"{folder}/{path.name}")
            self._called(["touch", f"{folder}/.whole"])
        else:
            self._called(["find", folder, "-type", "f", "-exec", "touch", "{}", "+"])
        return folder

    def _check(self, path: Path, remote: str) -> None:
        size = self._called(["wc", "-c", remote]).text.split()[:1]
        if size != [str(path.stat().st_size)]:
            raise MeasureError(
                f"{self.board.name}: {remote} has {' '.join(size)} bytes instead of "
                f"{path.stat().st_size}; is there room on the device?"
            )
        self._called(["chmod", "700", remote])

    # --- calls that outlive a dropped connection ------------------------------------------------

    def _persistently(self, action: Callable[[], T]) -> T:
        return persistently(self.board, self.session.target.reach.reconnect_s, action)

    def _called(self, argv: Sequence[str], timeout_s: float = 60.0) -> Answer:
        return self._persistently(lambda: called(self.board, argv, timeout_s))


def _names(step: Step) -> str:
    return " and ".join(path.name for path in step.programs)
