"""`profile` for any target: kernels executed here, or on the board or phone the target names."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeprune.cost import MeasuredCost
from edgeprune.cost import profile as profile_here
from edgeprune.cost.known import KnownRuns
from edgeprune.cost.runs import KernelRuns, TracedRuns
from edgeprune.cost.table import CostTable, default_path
from edgeprune.lowering.in_int8 import as_priced
from edgeprune.measuring.adb import adb_boards
from edgeprune.measuring.board import Board, Dropped
from edgeprune.measuring.onboard import OnBoard
from edgeprune.measuring.runners import KIT
from edgeprune.measuring.session import Session
from edgeprune.measuring.ssh import ssh_boards
from edgeprune.measuring.vela_kernels import VelaRuns
from edgeprune.records import ChannelGroups, Conditions, Graph, Progress, Target, silent

_BOARDS: dict[str, Callable[[Target], Sequence[Board]]] = {"ssh": ssh_boards, "adb": adb_boards}


def profile(
    graph: Graph,
    target: Target,
    groups: ChannelGroups,
    *,
    progress: Progress = silent,
    table: Path | None = None,
) -> MeasuredCost:
    """What `graph` costs on `target` at any widths, from kernels executed on it.

    On this host, over ssh or over adb; see `cost.profile`, which this calls, for what is kept and
    what is raised. A target whose runner is "roofline" is estimated, and nothing is executed. Where
    programs for `target` are rewritten or in int8, kernels are those of the network that it runs.
    """
    graph, groups = as_priced(graph, groups, target)
    with kernel_runs(target, progress, table) as runs:
        return profile_here(graph, target, groups, progress=progress, table=table, runs=runs)


@contextmanager
def kernel_runs(
    target: Target, progress: Progress = silent, table: Path | None = None
) -> Iterator[KernelRuns | None]:
    """Where `target`'s kernels are executed: the first of its devices, or a compiler that estimates
    them; None for this host. Those of runner "kit" were executed, and are in `table`.

    The connection is kept until the end of the `with` block. Raises as `measure` does.
    """
    if target.runner == "vela":
        yield VelaRuns(target)
        return
    if target.runner == KIT:
        yield KnownRuns(CostTable(table or default_path()), target)
        return
    boards = _BOARDS.get(target.runner)
    if boards is None:
        yield None
        return
    with (
        closing(boards(target)[0]) as board,
        tempfile.TemporaryDirectory(prefix="edgeprune-") as folder,
    ):
        ready = OnBoard(
            board,
            Session((), target),
            lambda note: progress("profile", 0, 0, f"{board.name}: {note}"),
        )
        ready.prepare()
        told: dict[str, Any] = {}

        def trace(program: bytes, rounds: int) -> bytes:
            path = Path(folder) / "kernels.pte"
            path.write_bytes(program)
            answer, dump = ready.trace(path, rounds)
            told.update(answer)
            return dump

        def conditions() -> Conditions:
            if not told:
                told.update(ready.identity())
            return _conditions(board.name, target, told)

        try:
            yield TracedRuns(trace, conditions)
        finally:
            with suppress(Dropped):
                ready.leave()


def _conditions(name: str, target: Target, told: dict[str, Any]) -> Conditions:
    machine = told["machine"]
    return Conditions(
        device=name,
        cpu=machine["cpu"],
        runtime=told["runtime"],
        backend=target.backend,
        dtype=target.dtype,
        threads=target.threads,
        governor=machine["governor"],
        frequency_mhz=told.get("after", {}).get("frequency_mhz"),
        temperature_c=told.get("after", {}).get("temperature_c"),
        load=machine["load"] or 0.0,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
