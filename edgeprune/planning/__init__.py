"""Groups, scores, costs and a budget → a Plan. Pure: the same problem gives the same plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from torch import Tensor

from edgeprune.blocks import blocks
from edgeprune.channels import channel_groups
from edgeprune.choices import STRATEGIES, Strategy
from edgeprune.errors import BudgetError, PlanError
from edgeprune.planning.limits import Blocks, Limits, Rules
from edgeprune.planning.memory import Moment, moments
from edgeprune.planning.planner import Planner, Proof
from edgeprune.planning.shares import SHARINGS, widest
from edgeprune.planning.solve import TIME_LIMIT
from edgeprune.planning.widths import strongest
from edgeprune.plans import Plan, check_plan
from edgeprune.records import Budget, ChannelGroups, CostModel, Graph, Scores
from edgeprune.rules import check_rules
from edgeprune.scoring import score

__all__ = [
    "Blocks",
    "Known",
    "Limits",
    "Planner",
    "Rules",
    "by_hand",
    "plan",
    "plan_within",
    "planner_for",
    "share_of",
    "within",
]


@dataclass(frozen=True)
class Known:
    """What planning rests on: groups and scores of a graph, the blocks that may go, and how widths
    are chosen.

    With `before`, an earlier cut of `graph`, groups and scores are of the channels that it left,
    under the names that they have in `graph`; plans are of `graph` all the same.
    """

    graph: Graph
    groups: ChannelGroups
    scores: Scores
    strategy: Strategy = "budget"
    before: Plan | None = None
    blocks: Blocks = field(default_factory=Blocks)
    rules: Rules = field(default_factory=Rules)
    time_limit: float = TIME_LIMIT

    @property
    def sizes(self) -> dict[str, int]:
        """Every group's size in `graph`."""
        before = self.before
        return self.groups.full_widths() if before is None else dict(before.sizes)


def plan(  # what is known, then what is wished: each may be left out
    graph: Graph,
    groups: ChannelGroups | None = None,
    scores: Scores | None = None,
    cost: CostModel | None = None,
    *,
    budget: Budget | None = None,
    keep: float | Mapping[str, int] | None = None,
    strategy: Strategy | None = None,
    drop: Sequence[str] = (),
    droppable: Mapping[str, float] | None = None,
    rules: Rules | None = None,
) -> Plan:
    """Which channels stay, and which residual blocks go.

    With `keep` as a share (0 < keep <= 1): that share of every group ("local"), or of all channels
    in one ranking by score ("global"), no target needed; as a mapping: that many channels of the
    groups it names, all of the others. With `cost` and a `budget`: the most importance kept within
    it, or with a strategy the largest share that fits; a speed-up is relative to the predicted
    latency of the full network. The blocks named in `drop` go in any case; those of `droppable`
    (their importance by name, see `scoring.score_blocks`) may go where a budget asks for it. Scores
    default to L2 magnitude. Raises BudgetError when the budget is below what can be reached,
    PlanError when neither or both of keep and budget are given, or a block does not exist.
    """
    groups = groups if groups is not None else channel_groups(graph)
    scores = scores if scores is not None else score(graph, groups, "l2")
    chosen: Strategy = strategy or ("local" if budget is None else "budget")
    if chosen not in STRATEGIES:
        raise PlanError(f"no strategy {chosen!r}: there are {', '.join(STRATEGIES)}")
    droppables = Blocks(blocks(graph), droppable or {}, tuple(drop))
    demands = rules if rules is not None else Rules()
    known = Known(graph, groups, scores, chosen, blocks=droppables, rules=demands)
    if drop:
        check_plan(_made(known, groups.full_widths(), ""), groups, _names(known))
        keep = 1.0 if keep is None and budget is None else keep
    if (keep is None) == (budget is None):
        raise PlanError("plan needs either keep=SHARE or budget=Budget(...), not both")
    if isinstance(keep, Mapping):
        if strategy is not None:
            raise PlanError(f"keep names every width: there is nothing left to choose {strategy!r}")
        return by_hand(known, keep)
    if keep is not None:
        return share_of(known, keep)
    if cost is None:
        raise PlanError("a budget needs a cost model: cost=profile(graph, target, groups)")
    assert budget is not None
    limit = budget.latency_ms
    if budget.speedup is not None:
        faster = cost.latency_ms(groups.full_widths()) / budget.speedup
        limit = faster if limit is None else min(limit, faster)
    limits = Limits(limit, budget.size_bytes, memory_bytes=budget.memory_bytes, macs=budget.macs)
    return plan_within(known, cost, limits)


def share_of(known: Known, keep: float) -> Plan:
    """A share of the channels, the highest scores: of every group ("local") or of all ("global").

    Raises PlanError for a share that makes no sense, and for a strategy that needs a budget.
    """
    if not 0 < keep <= 1:
        raise PlanError(f"keep must lie above 0 and at most at 1, not {keep:g}")
    if known.strategy not in SHARINGS:
        raise PlanError(f"strategy {known.strategy!r} needs a budget: choose {', '.join(SHARINGS)}")
    widths = SHARINGS[known.strategy](known.groups, known.scores, keep, 0.0)
    return _made(known, widths, known.strategy)


def by_hand(known: Known, keep: Mapping[str, int]) -> Plan:
    """As many channels of each group as `keep` says, the highest scores of each."""
    widths = known.groups.full_widths()
    unknown = [name for name in keep if name not in widths]
    if unknown:
        raise PlanError(f"no such group: {', '.join(unknown)}; there are {', '.join(widths)}")
    made = _made(known, {**widths, **keep}, strategy="by hand")
    check_plan(made, known.groups, _names(known))
    return made


def plan_within(known: Known, cost: CostModel, limits: Limits) -> Plan:
    """The most importance kept within limits, as the cost model predicts them; with the strategies
    "local" and "global" the largest share kept."""
    return within(known, planner_for(known, cost), limits)


def planner_for(known: Known, cost: CostModel) -> Planner:
    """What plans for any limits, tabulated once: see `Planner`. Raises PlanError for demands on
    groups or blocks that do not exist."""
    blocks = known.blocks
    check_rules(known.rules, [*known.groups.full_widths(), *_names(known)])

    @cache
    def live() -> tuple[Moment, ...]:
        return moments(known.graph, known.groups.extents, cost.kernels, blocks.known)

    parts = (known.groups, known.scores, cost, blocks, known.rules)
    return Planner(*parts, moments=live, time_limit=known.time_limit)


def within(known: Known, planner: Planner, limits: Limits) -> Plan:
    """The plan of `known` within limits, by a planner of the same network.

    Raises BudgetError where nothing is asked for or nothing fits, PlanError where a strategy cannot
    do what is asked.
    """
    if not limits.given:
        raise BudgetError("no budget: give a latency, a speed-up or a size")
    proof: Proof | None = None
    if known.strategy == "budget":
        chosen = planner.within(limits)
        widths, usage, proof = chosen.widths, chosen.usage, chosen.proof
    else:
        if limits.importance is not None or known.rules != Rules():
            raise PlanError(
                f"strategy {known.strategy!r} has one share for all: an importance to keep, and "
                "demands on single groups, need the strategy budget"
            )
        widths = widest(SHARINGS[known.strategy], planner, limits)
        usage = planner.usage(widths)
    made = _made(known, widths, known.strategy)
    return replace(
        made,
        predicted_ms=round(usage.latency_ms, 6),
        predicted_bytes=usage.size_bytes,
        importance=None if proof is None else round(proof.importance, 9),
        gap=None if proof is None else round(proof.gap, 9),
        notes=() if proof is None else proof.notes,
    )


def _names(known: Known) -> list[str]:
    return [block.name for block in known.blocks.known]


def _made(known: Known, widths: dict[str, int], strategy: str) -> Plan:
    kept = {g.name: strongest(g, known.scores, widths[g.name]) for g in known.groups.groups}
    if known.before is not None:
        earlier = known.before.kept
        kept = {
            name: tuple(earlier[name][i] for i in channels) if name in earlier else channels
            for name, channels in kept.items()
        }
    found = [b.name for b in known.blocks.known if widths.get(b.key) == 0]
    dropped = (*known.blocks.dropped, *(n for n in found if n not in known.blocks.dropped))
    return Plan(
        kept=kept,
        sizes=known.sizes,
        fingerprint=known.groups.fingerprint,
        model=known.graph.name,
        criterion=known.scores.criterion,
        strategy=strategy,
        dropped=dropped,
        inputs=tuple(_written(x) for x in known.graph.example_inputs),
    )


def _written(x: Tensor) -> str:
    """An input's type and shape, as in "float32 1x3x224x224"."""
    return f"{str(x.dtype).removeprefix('torch.')} {'x'.join(map(str, x.shape))}"
