"""What a user demands of single groups and blocks. Imports nothing that is slow to import."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from edgeprune.errors import PlanError
from edgeprune.usercode import close_matches


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


def check_rules(rules: Rules, names: Iterable[str]) -> None:
    """Raise PlanError for patterns that fit no group and no block."""
    known = list(names)
    problems = [
        f"{pattern}: no group or block has such a name{close_matches(pattern, known)}"
        for pattern in rules.patterns
        if not any(fnmatchcase(name, pattern) for name in known)
    ]
    if problems:
        raise PlanError("; ".join(problems) + " (`edgeprune inspect` lists them)")
