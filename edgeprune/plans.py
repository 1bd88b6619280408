"""The plan: which channels of each group stay, which blocks go. The waist of the house.

Everything before it only reads the graph; everything after it only executes the plan. It is a small
JSON file that can be diffed, edited by hand, checked and replayed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeprune.errors import PlanError
from edgeprune.records import ChannelGroups, Sparsity, block_key
from edgeprune.usercode import close_matches

SCHEMA = "edgeprune-plan/1"


@dataclass(frozen=True)
class Plan:
    """Kept channels by group name and dropped blocks, with what was asked for and predicted.

    `kept[group]` are channel indices in ascending order; a group that is not named keeps all.
    `dropped` names residual blocks (see blocks.py) whose branch goes whole. `inputs` are the
    model's inputs as they were when it was captured, as in "float32 1x3x224x224".
    `fingerprint` is the graph's (structure, not weights): a plan applies only to its own graph.
    `sparsity` names single weights of what is left that become zero. `importance` is the share of
    the network's importance that stays, `gap` by how much of it the best plan within the same
    limits may be better (0: none is).
    """

    kept: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]
    fingerprint: str
    model: str = "model"
    target: str | None = None
    criterion: str = "l2"
    strategy: str = "local"
    predicted_ms: float | None = None
    predicted_bytes: int | None = None
    notes: tuple[str, ...] = field(default=())
    sparsity: Sparsity | None = None
    dropped: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    importance: float | None = None
    gap: float | None = None

    def widths(self) -> dict[str, int]:
        """Channels kept by group, and 0 for every dropped block."""
        kept = {
            name: len(self.kept[name]) if name in self.kept else size
            for name, size in self.sizes.items()
        }
        return {**kept, **{block_key(name): 0 for name in self.dropped}}

    def to_json(self) -> str:
        """The plan as JSON text, one line per group."""
        rows = ",\n".join(
            f"    {json.dumps(name)}: {json.dumps(list(kept))}" for name, kept in self.kept.items()
        )
        head: dict[str, Any] = {
            "schema": SCHEMA,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "target": self.target,
            "criterion": self.criterion,
            "strategy": self.strategy,
            "predicted_ms": self.predicted_ms,
            "predicted_bytes": self.predicted_bytes,
            **({"importance": self.importance} if self.importance is not None else {}),
            **({"gap": self.gap} if self.gap is not None else {}),
            "notes": list(self.notes),
            **({"dropped": list(self.dropped)} if self.dropped else {}),
            **({"inputs": list(self.inputs)} if self.inputs else {}),
            "sizes": dict(self.sizes),
        }
        if self.sparsity is not None:
            head["sparsity"] = asdict(self.sparsity)
        text = json.dumps(head, indent=2, ensure_ascii=False)
        return f'{text[:-2]},\n  "kept": {{\n{rows}\n  }}\n}}\n'

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan; raises PlanError that lists every problem with its path."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise PlanError(f"the plan is not JSON: {error}") from None
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise PlanError(f"not a plan this version reads: schema {found!r}, expected {SCHEMA!r}")
        try:
            read = _File.model_validate(data)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()
            )
            raise PlanError(f"the plan has {error.error_count()} problem(s): {problems}") from None
        fields: dict[str, Any] = read.model_dump(exclude={"schema_"})
        if read.sparsity is not None:
            fields["sparsity"] = Sparsity(**read.sparsity.model_dump())
        fields["kept"] = {name: tuple(kept) for name, kept in read.kept.items()}
        fields["notes"] = tuple(read.notes)
        fields["dropped"] = tuple(read.dropped)
        fields["inputs"] = tuple(read.inputs)
        return cls(**fields)


class _Sparsity(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    pattern: str
    share: float | None
    scope: Literal["global", "layer"]
    seed: int = 0


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    schema_: str = Field(alias="schema")
    model: str
    fingerprint: str
    target: str | None
    criterion: str
    strategy: str
    predicted_ms: float | None
    predicted_bytes: int | None
    importance: float | None = None
    gap: float | None = None
    notes: list[str] = []
    sparsity: _Sparsity | None = None
    dropped: list[str] = []
    inputs: list[Annotated[str, Field(pattern=r"^[a-z]+[0-9]* [0-9]+(x[0-9]+)*$")]] = []
    sizes: dict[str, int]
    kept: dict[str, list[int]]


def check_plan(plan: Plan, groups: ChannelGroups, blocks: Collection[str] = ()) -> None:
    """Raise PlanError, listing everything that keeps `plan` from applying to these groups.

    `blocks` are the names of the graph's residual blocks.
    """
    if plan.fingerprint != groups.fingerprint:
        raise PlanError(
            f"the plan was made for another graph (fingerprint {plan.fingerprint}, this one is "
            f"{groups.fingerprint}): plan again, or load the model the plan was made for"
        )
    known = {group.name: group for group in groups.groups}
    problems = []
    for name, kept in plan.kept.items():
        if name not in known:
            problems.append(f"{name}: no such group{close_matches(name, known)}")
            continue
        group = known[name]
        if sorted(set(kept)) != list(kept):
            problems.append(f"{name}: kept channels must be ascending and without repeats")
        elif not kept:
            problems.append(f"{name}: keeps no channel")
        elif kept[0] < 0 or kept[-1] >= group.size:
            problems.append(f"{name}: channels must lie in 0..{group.size - 1}")
        else:
            counts = [0] * group.parts
            for channel in kept:
                counts[int(group.part_of[channel])] += 1
            if len(set(counts)) > 1:
                problems.append(f"{name}: its {group.parts} parts keep unequal counts {counts}")
    if not problems:
        widths = {
            group.name: len(plan.kept.get(group.name, range(group.size))) for group in groups.groups
        }
        for constraint in groups.equal_counts:
            sums = [sum(n * widths[g] for g, n in part) for part in constraint.parts]
            if len(set(sums)) > 1:
                names = sorted({g for part in constraint.parts for g, _ in part})
                problems.append(
                    f"{', '.join(names)}: must keep equal counts on both sides of a shuffle, "
                    f"not {[int(s) for s in sums]}"
                )
    problems += _wrong_blocks(plan.dropped, blocks)
    if problems:
        raise PlanError(f"the plan has {len(problems)} problem(s): " + "; ".join(problems))


def check_blocks(dropped: Iterable[str], known: Collection[str]) -> None:
    """Raise PlanError for names that are no block's, or are there twice."""
    problems = _wrong_blocks(dropped, known)
    if problems:
        raise PlanError("; ".join(problems))


def _wrong_blocks(dropped: Iterable[str], known: Collection[str]) -> list[str]:
    problems = []
    seen: set[str] = set()
    for name in dropped:
        if name not in known:
            among = close_matches(name, known) or f" (there are {', '.join(known) or 'none'})"
            problems.append(f"{name}: no such block to drop{among}")
        elif name in seen:
            problems.append(f"{name}: dropped twice")
        seen.add(name)
    return problems
