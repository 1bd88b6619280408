"""What a runner is asked for and what it answers: the same for this machine and for any board."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgeprune.records import Conditions, Target


@dataclass(frozen=True)
class Effort:
    """How hard to measure.

    A sample is the mean of one block of executions that lasts at least `min_block_ms`. Each of
    `processes` fresh processes takes `rounds` samples of every program, in turns.
    `max_processes` is where `measure_until_decided` gives up; `timeout_s` is per process. Without
    `memory` a program that takes turns with others is not run once more by itself on this host, and
    its peak memory is not known (0).
    """

    processes: int = 3
    rounds: int = 20
    min_block_ms: float = 5.0
    max_processes: int = 12
    timeout_s: float = 600.0
    seed: int = 0
    memory: bool = True

    def __post_init__(self) -> None:
        for name in ("processes", "rounds", "min_block_ms", "max_processes", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Effort.{name} must be positive, not {getattr(self, name)}")


@dataclass(frozen=True)
class Session:
    """A request to a runner: time these programs against each other on this target."""

    programs: tuple[Path, ...]
    target: Target
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True)
class ProgramSamples:
    """Samples of one program: milliseconds of one execution, one inner tuple per process.

    `cpu_ms` is the CPU time of the same samples where one thread runs, else empty. All processes
    have the same number of samples, and sample i of every program of a session was taken in the
    same round.
    """

    wall_ms: tuple[tuple[float, ...], ...]
    cpu_ms: tuple[tuple[float, ...], ...]
    peak_rss_bytes: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SessionSamples:
    """A runner's answer: samples in the order of `Session.programs`.

    `estimated` where nothing was run: the one "sample" is what a model of the device says.
    """

    programs: tuple[ProgramSamples, ...]
    conditions: Conditions
    warnings: tuple[str, ...] = ()
    estimated: bool = False
