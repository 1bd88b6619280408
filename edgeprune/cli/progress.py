"""Progress on stderr: bars with the time left on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgeprune.records import Progress
from edgeprune.units import show_seconds

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress() -> Iterator[Progress]:
    """A `Progress` to hand to long stages, for as long as the block lasts."""
    if not sys.stderr.isatty():
        yield PlainLines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.table import Column

    one_line = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}", markup=False, table_column=one_line),
    )
    with Bars(*columns, console=Console(stderr=True), expand=True) as bars:
        stages = StageBars(bars)
        yield stages
        stages.finish()


def say(text: str) -> None:
    """One line on stderr that is neither the result nor a stage."""
    sys.stderr.write(f"edgeprune: {text}\n")
    sys.stderr.flush()


class StageBars:
    """A bar for each stage, drawn from its first report on and left standing when it is done.

    A stage that reports a total of 0 does not know its length: its bar moves without filling, and
    is over when the next stage begins. One that begins again gets another bar.
    """

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._running: dict[str, TaskID] = {}
        self._ended: set[str] = set()

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        finished = 0 < total <= done
        if finished and stage in self._ended:
            return
        if stage not in self._running:
            self.finish()
            self._running[stage] = self._bars.add_task(stage, total=total or None, note=note)
        self._ended.discard(stage)
        self._bars.update(self._running[stage], completed=done, total=total or None, note=note)
        if finished:
            del self._running[stage]
            self._ended.add(stage)

    def finish(self) -> None:
        """Fill the bars of stages that could not know when they would be over."""
        totals = {task.id: task.total for task in self._bars.tasks}
        for stage, task in list(self._running.items()):
            if totals[task] is None:
                self._bars.update(task, completed=1, total=1)
                del self._running[stage]


class PlainLines:
    """A line when a stage begins and ends, and between them one every few seconds."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._ended: set[str] = set()
        self._last_line = 0.0

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        finished = 0 < total <= done
        if finished and stage in self._ended:
            return
        first = stage not in self._begun
        begun = self._begun.setdefault(stage, now)
        self._ended.discard(stage)
        if not (first or finished or now - self._last_line >= _SECONDS_BETWEEN_LINES):
            return
        self._last_line = now
        parts = [f"{stage}: {done}/{total}" if total else stage]
        if finished:
            parts.append(f"done in {show_seconds(now - begun)}")
            del self._begun[stage]
            self._ended.add(stage)
        elif done > 0 and now > begun:
            parts.append(f"{show_seconds((now - begun) / done * (total - done))} left")
        say(", ".join([*parts, *([note] if note else [])]))
