"""Programs of plans to be measured: truly lowered, or the network's own with other sizes.

Lowering takes from ten seconds to minutes, rewriting sizes (cost/resizing.py) a second. What the
sizes in a program are is learnt from the baseline and a program at widths that tell dimensions
apart; plans that are lowered later teach more, but alone they would teach wrongly: most have many
dimensions alike. Where a program is rewritten, how long its file would be and the
memory it would plan are known all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from edgeprune.channels import channel_groups
from edgeprune.cost.program_sizes import planned_bytes
from edgeprune.cost.resizing import Ambiguous, CannotResize, Template, learn, program_bytes
from edgeprune.lowering import lower_for_latency, quantised_before
from edgeprune.planning import Known, by_hand
from edgeprune.planning.drawn import telling_widths
from edgeprune.plans import Plan
from edgeprune.records import ChannelGroups, Extent, Graph, Made, Scores, Target, Widths
from edgeprune.rewrites import as_run
from edgeprune.surgery import prune


@dataclass(frozen=True)
class Baseline:
    """The full network's program, its measured latency, and how long lowering it took.

    `as_priced` are milliseconds and bytes of the full network in the data type of the programs to
    be made, whose costs are known, where the baseline has another: in int8, beside one in fp32.
    """

    path: Path
    latency_ms: float
    size_bytes: int
    lowering_s: float = 0.0
    as_priced: tuple[float, int] | None = None

    @property
    def known(self) -> tuple[float, int]:
        """Milliseconds and bytes of the full network that costs are of."""
        return self.as_priced or (self.latency_ms, self.size_bytes)


@dataclass(frozen=True)
class Candidate:
    """A program of a plan; where it was resized, its sizes are those that lowering would give."""

    path: Path
    size_bytes: int
    planned_bytes: int
    made: Made


class Programs:
    """Programs of one network at any widths, for one target.

    `refused` says why none can be resized, where that is known; `lowering_s` are the seconds that
    each true lowering took. `seen` is what was measured, milliseconds asked of the cost model and
    taken: another budget for the same network begins with what earlier ones taught.
    """

    def __init__(self, graph: Graph, target: Target, baseline: Baseline) -> None:
        self.graph, self.target, self.baseline = graph, target, baseline
        self.lowering_s: list[float] = []
        self.seen: list[tuple[float, float]] = []
        self.refused = ""
        self._known: list[tuple[Widths, bytes]] = []
        self._template: Template | None = None
        self._told = False
        if quantised_before(target):
            self.refused = f"programs in {target.dtype} are not resized"

    @property
    def ready(self) -> bool:
        """Whether programs can be resized: `tell` was called, and nothing refused."""
        return self._told and not self.refused

    def lowered(self, plan: Plan, path: Path) -> Candidate:
        """The plan's true program, at `path`."""
        artifact = lower_for_latency(prune(self.graph, plan), self.target, path)
        self.lowering_s.append(artifact.seconds)
        if not plan.dropped:  # without its blocks a network has another program
            self._learn(plan.widths(), path)
        return Candidate(path, artifact.size_bytes, artifact.planned_bytes, "lowered")

    def resized(self, plan: Plan, path: Path) -> Candidate:
        """The network's program at the plan's widths, at `path`. Raises CannotResize where the
        plan drops blocks, and where the widths of some tensors cannot be told."""
        if plan.dropped:
            raise CannotResize("the plan drops blocks, whose programs are truly lowered")
        return self.at(plan.widths(), path)

    def at(self, widths: Widths, path: Path) -> Candidate:
        """The network's program at `widths`, at `path`. Raises CannotResize, as `resized` does."""
        if not self.ready:
            raise CannotResize(self.refused or "nothing was learnt yet")
        try:
            if self._template is None:
                self._template = learn(self._known, self._extents)
            parts = self._template.resized(widths)
            path.write_bytes(program_bytes(parts))
        except Ambiguous:
            raise
        except CannotResize as why:
            self.refused = str(why)
            raise
        return Candidate(path, self._template.file_bytes(parts), planned_bytes(parts), "resized")

    def tell(self, path: Path) -> tuple[Widths, ...]:
        """Lowers the network, to `path`, at widths that tell its dimensions apart (twice where once
        does not), and returns them."""
        told = telling_widths(self._run)
        same = Scores("none", {g.name: np.zeros(g.size) for g in self.groups.groups})
        for widths in told:
            self.lowered(by_hand(Known(self.graph, self.groups, same), widths), path)
        self._told = True
        return told

    def _learn(self, widths: Widths, path: Path) -> None:
        if self.refused:
            return
        if not self._known:
            self._known.append((self.groups.full_widths(), self.baseline.path.read_bytes()))
        self._known.append((widths, path.read_bytes()))
        self._template = None

    @cached_property
    def groups(self) -> ChannelGroups:
        """The whole network's channels."""
        return channel_groups(self.graph)

    @cached_property
    def _run(self) -> ChannelGroups:
        """The channels, with the dimensions that tensors have once the network is rewritten."""
        return as_run(self.graph, self.groups, self.target)[1]

    @cached_property
    def _extents(self) -> list[Extent]:
        return [extent for dims in self._run.extents.values() for extent in dims]
