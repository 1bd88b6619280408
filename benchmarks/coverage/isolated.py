"""Run a function in a process of its own, within limits, and keep what it found until it ended."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import psutil

Noting = Callable[[str, Callable[[dict[str, Any]], None]], None]


@dataclass(frozen=True)
class Limits:
    """What a process may take: CPU seconds, wall seconds, resident bytes."""

    cpu_s: float = 600.0
    wall_s: float = 1800.0
    memory_bytes: float = 12 * 2**30


class Isolated:
    """Processes that are forked from one that has imported `modules` already."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(modules))

    def run(self, function: Noting, name: str, limits: Limits) -> dict[str, Any]:
        """What `function(name, note)` noted; where it failed, `failed` says how."""
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_child, args=(function, name, theirs), daemon=True)
        process.start()
        theirs.close()
        found: dict[str, Any] = {}
        started = time.monotonic()
        reason = None
        while reason is None and not found.get("done"):
            if not ours.poll(0.2):
                reason = _beyond(process.pid, limits, started)
            elif (more := _received(ours)) is not None:
                found.update(more)
            else:
                process.join()
                reason = f"died ({process.exitcode})"
        if reason is not None:
            _end(process.pid)
        process.join()
        found.pop("done", None)
        if reason and "failed" not in found:
            found["failed"] = f"{reason} in {found.get('stage', 'the beginning')}"
        if "failed" not in found:
            found.pop("stage", None)
        return found


def _child(function: Noting, name: str, pipe: Connection) -> None:
    try:
        function(name, pipe.send)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
        first = (str(error).strip().splitlines() or [""])[0]
        pipe.send({"failed": f"{type(error).__name__}: {first} ({place})"})
    pipe.send({"done": True})
    pipe.close()


def _received(pipe: Connection) -> dict[str, Any] | None:
    """What was sent; None where the sender is gone."""
    try:
        sent: dict[str, Any] = pipe.recv()
    except EOFError:
        return None
    return sent


def _beyond(pid: int | None, limits: Limits, started: float) -> str | None:
    """Which limit a process and its children have passed."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        times = [p.cpu_times() for p in family]
        resident = sum(p.memory_info().rss for p in family)
    except psutil.Error:
        return None
    if sum(t.user + t.system for t in times) > limits.cpu_s:
        return f"more than {limits.cpu_s:.0f} s of CPU time"
    if time.monotonic() - started > limits.wall_s:
        return f"more than {limits.wall_s:.0f} s"
    if resident > limits.memory_bytes:
        return f"more than {limits.memory_bytes / 2**30:.0f} GiB"
    return None


def _end(pid: int | None) -> None:
    try:
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            one.kill()
    except psutil.Error:
        return
