"""What a plan must stay within, what may be chosen, and what a network takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeprune.records import Block
from edgeprune.rules import Rules

__all__ = ["Blocks", "Limits", "Rules", "Usage"]


@dataclass(frozen=True)
class Limits:
    """What a plan must stay within (None: no limit), and the least share of a group that stays.

    `memory_bytes` limits the activations that live at one time. With `importance` (a share of the
    full network's) nothing else needs a limit: the fastest plan that keeps it is wanted.
    """

    latency_ms: float | None = None
    size_bytes: int | None = None
    floor: float = 0.1
    memory_bytes: int | None = None
    macs: int | None = None
    importance: float | None = None

    def exceeded(self, usage: Usage) -> bool:
        """Whether a network takes more than may be."""
        pairs = (
            (usage.latency_ms, self.latency_ms),
            (usage.size_bytes, self.size_bytes),
            (usage.memory_bytes, self.memory_bytes),
            (usage.macs, self.macs),
        )
        return any(most is not None and taken > most for taken, most in pairs)

    @property
    def given(self) -> bool:
        """Whether anything is asked for at all."""
        wishes = (self.latency_ms, self.size_bytes, self.memory_bytes, self.macs, self.importance)
        return any(wish is not None for wish in wishes)


@dataclass(frozen=True)
class Blocks:
    """A network's residual blocks: `known` are all, `importance` those that may be dropped (by
    name, in the scores' units), `dropped` the names of those that are dropped in any case."""

    known: tuple[Block, ...] = ()
    importance: Mapping[str, float] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Usage:
    """What a network takes, as the cost model predicts it; memory and MACs where they matter."""

    latency_ms: float
    size_bytes: int
    memory_bytes: int = 0
    macs: int = 0
