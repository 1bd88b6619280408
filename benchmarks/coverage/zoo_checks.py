"""What is asked of every model of the zoo; each check runs in a process of its own.

A check gets a model's name and a function that takes what is known so far: where the process is
stopped, what it had found by then is not lost.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from kept_statistics import KeptStatistics
from networks import random_plan, relative_error
from torch import Tensor
from torch.utils._pytree import tree_leaves
from zoo_models import Entry, zoo

from edgeprune.channels import channel_groups
from edgeprune.channels.grouping import partition
from edgeprune.errors import PlanError
from edgeprune.graph import capture, parameters_of
from edgeprune.lowering import lower
from edgeprune.measuring import parity
from edgeprune.measuring.memory import peak_bytes, reset_peak, resident_bytes
from edgeprune.planning.widths import families, nearest
from edgeprune.plans import Plan
from edgeprune.records import ChannelGroups, Graph
from edgeprune.surgery import mask, prune
from edgeprune.targets import load_target

Note = Callable[[dict[str, Any]], None]

EXACT = 1e-5
"""The largest difference over the largest value that removing may make against zeroing (fp32)."""

PARITY = 1e-4
"""Likewise between the lowered program and eager."""

MIB = 2**20


def check_pruning(name: str, note: Note) -> None:
    """Capture, analyse, cut at random to at most half, and hold the result against the original.

    Notes seconds (wall and CPU of this thread), memory (MiB over what was resident before), sizes,
    and errors relative to the largest output.
    """
    entry = _ready(name)
    graph = _captured(note, entry)
    groups = _timed(note, "analysis", channel_groups, graph)
    plan = _half(groups)
    pruned = _timed(note, "surgery", prune, graph, plan)
    note(_sizes(graph, groups, plan, pruned))
    note(_exactness(entry, graph, plan, pruned))
    del graph
    note(_training(entry, pruned))
    x = entry.inputs(1)
    again = capture(pruned.module().eval(), (x,))
    with torch.no_grad():
        difference = _difference(again.module()(x), pruned.module()(x))
    note({"again": difference, "groups_again": len(channel_groups(again).groups)})


def check_lowering(name: str, note: Note) -> None:
    """Cut as `check_pruning` does, lower for the host, and run the program beside eager."""
    entry = _ready(name)
    torch.manual_seed(0)
    graph = capture(entry.make(), (entry.inputs(1),))
    pruned = prune(graph, _half(channel_groups(graph)))
    del graph
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pte"
        artifact = _timed(note, "lower", lower, pruned, load_target("host"), path)
        note({"pte_mb": artifact.size_bytes / 1e6, "outside": sum(artifact.other_ops.values())})
        note({"parity": parity(pruned, path, [entry.inputs(1).numpy()]).max_rel})


def failures(found: dict[str, Any]) -> list[str]:
    """What is wrong in what the checks noted; an empty list where all is well."""
    wrong = []
    if "failed" in found:
        wrong.append(str(found["failed"]))
    limits = {"captured": EXACT, "exact": EXACT, "free": EXACT, "again": EXACT, "parity": PARITY}
    for key, limit in limits.items():
        if not found.get(key, 0.0) <= limit:
            wrong.append(f"{key}: {found[key]:.1e}")
    if found.get("kept_share", 0.0) > 0.5:
        wrong.append(f"kept {found['kept_share']:.0%} of a group")
    if found.get("parameters_left", 0.0) > 0.6:
        wrong.append(f"{found['parameters_left']:.0%} of the parameters left")
    if found.get("loss") == "stuck" or not found.get("gradients", True):
        wrong.append("does not train")
    return wrong


def _ready(name: str) -> Entry:
    torch.set_num_threads(1)
    return zoo()[name]


def _captured(note: Note, entry: Entry) -> Graph:
    """The model's graph; the model itself is gone afterwards. Notes how far the two differ."""
    torch.manual_seed(0)
    model, x = entry.make(), entry.inputs(1)
    graph: Graph = _timed(note, "export", capture, model, (x,))
    with torch.no_grad():
        note({"captured": _difference(graph.module()(x), model(x))})
    return graph


def _timed(note: Note, key: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns; notes its seconds and the memory it needed while it ran."""
    note({"stage": key})
    reset_peak()
    before, cpu, wall = resident_bytes(), time.process_time(), time.perf_counter()
    made = function(*arguments)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    found = {f"{key}_s": wall, f"{key}_cpu_s": cpu, "stage": f"after {key}"}
    peak = peak_bytes()
    if before is not None and peak is not None:
        found[f"{key}_mib"] = max(peak - before, 0) / MIB
    note(found)
    return made


def _half(groups: ChannelGroups, seed: int = 1) -> Plan:
    """A random plan that keeps between a tenth and a half of every group."""
    return random_plan(groups, seed, 0.1, 0.5)


def _sizes(graph: Graph, groups: ChannelGroups, plan: Plan, pruned: Graph) -> dict[str, Any]:
    """Counts of the model, and what is pinned and why.

    `kept_share` is the largest share kept of a group that could be halved at all: one channel of
    every part always stays, and counts that must be equal may ask for more.
    """
    before, after = parameters_of(graph), parameters_of(pruned)
    least: dict[str, int] = {}
    for family in families(groups):
        least.update(nearest(family, groups.equal_counts, dict.fromkeys(groups.full_widths(), 0.0)))
    halves = [g for g in groups.groups if 2 * least[g.name] <= g.size]
    removable = sum(g.size for g in groups.groups if not g.holds)
    pins: Counter[tuple[str, str]] = Counter()
    for pin in groups.pinned:
        pins[pin.op, pin.reason] += pin.size
    return {
        "nodes": len(graph.program.graph.nodes),
        "groups": len(groups.groups),
        "heads": sum(bool(g.holds) for g in groups.groups),
        "channels": removable,
        "pins": [[op, reason, count] for (op, reason), count in pins.most_common()],
        "kept_share": max((len(plan.kept[g.name]) / g.size for g in halves), default=0.0),
        "parameters": before,
        "parameters_left": after / before,
        "open_batch": graph.dynamic_batch,
    }


def _exactness(entry: Entry, graph: Graph, plan: Plan, pruned: Graph) -> dict[str, Any]:
    """Removing against zeroing, at two batch sizes.

    Where an op computes a statistic over channels, against a reference that computes it over the
    kept ones (`exact`), and the groups that no statistic crosses also by themselves (`free`).
    """
    crossed = partition(graph).crossed
    batches = (1, 3) if graph.dynamic_batch else (1,)
    found: dict[str, Any] = {
        "batches": list(batches),
        "crossed": sorted({op for ops in crossed.values() for op in ops}),
    }
    with torch.no_grad():
        xs = [entry.inputs(n) for n in batches]
        made = [pruned.module()(x) for x in xs]
        if not crossed:
            zeroed = mask(graph, plan).module()
            found["exact"] = max(_difference(y, zeroed(x)) for x, y in zip(xs, made, strict=True))
            return found
        reference = KeptStatistics(graph, plan)
        found["exact"] = _difference(made[0], reference.run(xs[0]))
        del reference
        free = _without(plan, crossed)
        try:
            smaller, zeroed = prune(graph, free).module(), mask(graph, free).module()
        except PlanError as error:
            return {**found, "free_refused": str(error)}
        found["free_groups"] = sum(len(k) < plan.sizes[name] for name, k in free.kept.items())
        found["free"] = max(_difference(smaller(x), zeroed(x)) for x in xs)
    return found


def _without(plan: Plan, crossed: Any) -> Plan:
    """The plan with all channels of some groups kept."""
    kept = {
        name: tuple(range(plan.sizes[name])) if name in crossed else channels
        for name, channels in plan.kept.items()
    }
    return Plan(kept, plan.sizes, plan.fingerprint)


def _training(entry: Entry, pruned: Graph) -> dict[str, Any]:
    """One step of gradient descent in train mode on two samples, then back to eval mode."""
    module = pruned.module().train()
    x = entry.inputs(2 if pruned.dynamic_batch else 1)
    state = {name: value.clone() for name, value in module.state_dict().items()}

    def loss() -> Tensor:
        torch.manual_seed(0)  # the same dropout before and after the step
        outputs = [y for y in _outputs(module(x)) if y.is_floating_point()]
        return torch.stack([y.square().mean() for y in outputs]).mean()

    before = loss()
    before.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    finite = bool(gradients) and all(bool(g.isfinite().all()) for g in gradients)
    size = max((float(g.abs().max()) for g in gradients), default=0.0)
    with torch.no_grad():
        for p in module.parameters():
            if p.grad is not None:
                p -= 1e-4 / max(size, 1e-12) * p.grad
        after = loss()
    moved = bool(after.isfinite()) and float(after) != float(before)
    module.zero_grad()
    module.load_state_dict(state)
    module.eval()
    return {
        "gradients": finite,
        "loss": [float(before), float(after)] if moved else "stuck",
        "learning": len(gradients) / max(len(list(module.parameters())), 1),
    }


def _difference(got: Any, wanted: Any) -> float:
    """The largest relative difference over all outputs; infinite where any is not finite."""
    pairs = list(zip(_outputs(got), _outputs(wanted), strict=True))
    if not pairs or any(a.shape != b.shape or not bool(b.isfinite().all()) for a, b in pairs):
        return float("inf")
    found = [relative_error(a.float(), b.float()) for a, b in pairs if b.numel()]
    return max((e if e == e else float("inf") for e in found), default=float("inf"))


def _outputs(made: Any) -> Sequence[Tensor]:
    return [y for y in tree_leaves(made) if isinstance(y, Tensor)]
