"""What a plan must stay within, what may be chosen, and what a network takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from edgeprune.records import Block


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
class Rules:
    """What a user demands of single groups and blocks, by patterns of their names ("layer4.*").

    `keep` names what stays whole (groups and blocks); `at_least` the fewest channels of a group,
    `multiple` what its kept channels must be a multiple of (the full size always may stay), `most`
    the largest share of a group's channels that may go. Where several patterns fit, the strictest
    holds.
    """

    keep: tuple[str, ...] = ()
    at_least: Mapping[str, int] = field(default_factory=dict)
    multiple: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)

    def stays(self, name: str) -> bool:
        """Whether a group or block must stay whole."""
        return any(fnmatchcase(name, pattern) for pattern in self.keep)

    def fewest(self, name: str, size: int) -> int:
        """The fewest channels of a group of `size` that may stay."""
        if self.stays(name):
            return size
        counts = [n for pattern, n in self.at_least.items() if fnmatchcase(name, pattern)]
        shares = [s for pattern, s in self.most.items() if fnmatchcase(name, pattern)]
        kept = [-int(-(1 - share) * size // 1) for share in shares]
        return min(size, max([1, *counts, *kept]))

    def multiples(self, name: str) -> tuple[int, ...]:
        """What a group's kept channels must be multiples of."""
        return tuple(n for pattern, n in self.multiple.items() if fnmatchcase(name, pattern))

    def allow(self, name: str, size: int, width: int) -> bool:
        """Whether a group of `size` may keep `width` channels."""
        if width == size:
            return True
        return width >= self.fewest(name, size) and all(
            width % n == 0 for n in self.multiples(name)
        )

    @property
    def patterns(self) -> tuple[str, ...]:
        """All patterns, in the order given."""
        return tuple(dict.fromkeys([*self.keep, *self.at_least, *self.multiple, *self.most]))


@dataclass(frozen=True)
class Usage:
    """What a network takes, as the cost model predicts it; memory and MACs where they matter."""

    latency_ms: float
    size_bytes: int
    memory_bytes: int = 0
    macs: int = 0
