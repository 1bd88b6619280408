"""How long one execution takes: warm, calibrated blocks of it, programs taking turns.

Works on any callables and knows nothing of the runtime. The method is pyperf's and hyperfine's:
inner loops long enough for the clock, a warm-up that ends when the times settle, and every
sample kept.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

Execute = Callable[[], object]

_SETTLED = 0.02
_LEAST_MS = 100.0
_WINDOW = 4


@dataclass(frozen=True)
class Block:
    """`executions` of one program back to back: nanoseconds of wall and of this thread's CPU."""

    executions: int
    wall_ns: int
    cpu_ns: int

    @property
    def wall_ms(self) -> float:
        """Wall time of one execution."""
        return self.wall_ns / self.executions / 1e6

    @property
    def cpu_ms(self) -> float:
        """CPU time of one execution, of the calling thread only."""
        return self.cpu_ns / self.executions / 1e6


def turns(programs: int, rounds: int) -> list[tuple[int, ...]]:
    """The order of programs in each round: everyone once a round, each first equally often.

    Drift of the machine then falls on all of them alike, and so does whatever the last one to
    run leaves in the caches.
    """
    return [tuple((first + i) % programs for i in range(programs)) for first in range(rounds)]


def timed(execute: Execute, executions: int) -> Block:
    """One block."""
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    for _ in range(executions):
        execute()
    cpu_ns = time.thread_time_ns() - cpu
    return Block(executions, time.perf_counter_ns() - wall, cpu_ns)


def calibrated(execute: Execute, min_block_ms: float) -> int:
    """How many executions make a block of at least about `min_block_ms`."""
    executions = 1
    while True:
        block = timed(execute, executions)
        if block.wall_ns >= min_block_ms * 1e6:
            return executions
        wanted = math.ceil(executions * min_block_ms * 1e6 / max(block.wall_ns, 1))
        # At most tenfold: the first executions are slow and say little about the rest.
        executions = max(executions + 1, min(wanted, executions * 10))


def warmed_up(execute: Execute, executions: int, limit_ms: float) -> bool:
    """Run blocks until the median of the last few is that of the few before; False at the limit.

    For a while in any case: threads that have just woken may share a processor for some tens of
    milliseconds, which looks settled and is not.
    """
    times: list[float] = []
    started = time.perf_counter_ns()
    while (passed := time.perf_counter_ns() - started) < limit_ms * 1e6:
        times.append(timed(execute, executions).wall_ms)
        if len(times) >= 2 * _WINDOW and passed >= min(_LEAST_MS, limit_ms / 2) * 1e6:
            last, before = median(times[-_WINDOW:]), median(times[-2 * _WINDOW : -_WINDOW])
            if abs(last - before) <= _SETTLED * before:
                return True
    return False


def interleaved(
    programs: Sequence[Execute], executions: Sequence[int], rounds: int
) -> list[list[Block]]:
    """`rounds` blocks of each program, taken in turns; garbage is not collected meanwhile.

    Where programs take turns, each block is first run untimed, so that every sample is of a
    program whose weights are back in the caches. Without that the first execution after another
    program's was 10 % slower (mobilenet_v2 against itself: 1.72, 1.64, 1.60, 1.57, 1.56 ms), and
    comparing gave other times than measuring alone.
    """
    blocks: list[list[Block]] = [[] for _ in programs]
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for order in turns(len(programs), rounds):
            for i in order:
                if len(programs) > 1:
                    timed(programs[i], executions[i])
                blocks[i].append(timed(programs[i], executions[i]))
    finally:
        if collecting:
            gc.enable()
    return blocks
