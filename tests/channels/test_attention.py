"""Attention, however it is written: heads and head widths are groups, and removing is zeroing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from attention_modules import (
    Conditioned,
    Cross,
    Decoder,
    Encoder,
    Padded,
    PaddedByHand,
    Pooled,
    Torchs,
    Torchvisions,
    Windowed,
)
from attention_styles import (
    CORES,
    HEADS,
    INSIDE,
    PROJECTIONS,
    TOKENS,
    WIDTH,
    Around,
    Attention,
    Grouped,
)
from exactness import EXACT, Checked, captured, check
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeprune import prune
from edgeprune.errors import PlanError
from edgeprune.plans import Plan, check_plan

SEEDS = range(2)


def tokens(count: int = TOKENS) -> Tensor:
    return torch.randn(1, count, 5)


def heads_in(checked: Checked) -> list[int]:
    """How many heads each attention offers to remove whole."""
    return [g.size for g in checked.groups.groups if g.name.split("#")[0].endswith(".heads")]


def widths_in(checked: Checked) -> list[int]:
    """The sizes of the groups of channels inside of heads."""
    held = {name for g in checked.groups.groups for name in g.holds}
    return sorted(g.size for g in checked.groups.groups if g.name in held)


# What each style leaves to choose: channels of queries and values, several of them tied where
# positions, norms or rotations are the same in every head.
FULL = [HEADS * INSIDE, HEADS * INSIDE]
INSIDE_GROUPS = {
    "LayerNorm": [INSIDE, HEADS * INSIDE],
    "RMSNorm": [INSIDE, HEADS * INSIDE],
    "Rotary": [INSIDE // 2, HEADS * INSIDE],
    "RotaryInterleaved": [INSIDE // 2, HEADS * INSIDE],
    "Sinks": [INSIDE, INSIDE],
}


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_every_way_to_project(projection: str) -> None:
    checked = check(Around(Attention(projection, "Fused")), tokens(), seeds=SEEDS)
    assert heads_in(checked) == [HEADS]
    assert widths_in(checked) == INSIDE_GROUPS.get(projection, FULL)
    assert [pin.name for pin in checked.groups.pinned] == ["head"]


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("projection", ["Separate", "Permuted"])
def test_every_way_to_attend(projection: str, core: str) -> None:
    checked = check(Around(Attention(projection, core)), tokens(), seeds=SEEDS)
    assert widths_in(checked) == INSIDE_GROUPS.get(core, FULL)
    # mixed heads are those of queries and those of values, and those in between
    assert heads_in(checked) == ([HEADS, HEADS] if core.startswith("Talking") else [HEADS])
    assert [pin.name for pin in checked.groups.pinned] == ["head"]


@pytest.mark.parametrize("way", ["interleave", "expand", "gqa", "grouped queries"])
def test_grouped_queries_go_with_their_keys(way: str) -> None:
    checked = check(Around(Grouped(way)), tokens(), seeds=SEEDS)
    assert heads_in(checked) == [2]
    assert widths_in(checked) == [2 * INSIDE, 2 * INSIDE]
    half = prune(checked.graph, chosen(checked, heads=(1,))).module()
    shapes = {name: tuple(p.shape) for name, p in half.named_parameters()}
    assert shapes["attn.q.weight"] == (2 * INSIDE, WIDTH)  # two of four heads of queries
    assert shapes["attn.k.weight"] == (INSIDE, WIDTH)  # one of two of keys


def chosen(checked: Checked, heads: tuple[int, ...], width: int | None = None) -> Plan:
    """A plan by hand: these heads, and the first channels of each part of what is inside."""
    kept: dict[str, tuple[int, ...]] = {}
    for group in checked.groups.groups:
        if group.holds:
            kept[group.name] = heads
            for name in group.holds if width is not None else ():
                inside = checked.groups[name]
                parts = [
                    [int(i) for i in (inside.part_of == p).nonzero()[0]]
                    for p in range(inside.parts)
                ]
                kept[name] = tuple(sorted(i for part in parts for i in part[:width]))
    return Plan(kept, checked.groups.full_widths(), checked.groups.fingerprint)


@pytest.mark.parametrize("heads", [(0, 1, 2), (0, 2), (1,)])
@pytest.mark.parametrize("width", [None, 5, 1])
@pytest.mark.parametrize("projection", ["Permuted", "Separate"])
def test_whichever_combination_a_plan_asks_for(
    projection: str, heads: tuple[int, ...], width: int | None
) -> None:
    checked = captured(Around(Attention(projection, "Manual")), tokens())
    plan = Plan.from_json(chosen(checked, heads, width).to_json())
    assert checked.error(plan, tokens().double()) < EXACT
    parameters = dict(prune(checked.graph, plan).module().named_parameters())
    rows = len(heads) * (INSIDE if width is None else width)
    assert parameters["attn.out.weight"].shape[1] == rows
    made = [
        p.shape[0] for name, p in parameters.items() if name.endswith(("qkv.weight", "q.weight"))
    ]
    assert made == [3 * rows if projection == "Permuted" else rows]


def test_an_attention_without_heads_is_no_plan() -> None:
    checked = captured(Around(Attention("Permuted", "Fused")), tokens())
    with pytest.raises(PlanError, match="heads: keeps no channel"):
        check_plan(chosen(checked, heads=()), checked.groups)


MODULES: dict[str, tuple[Callable[[], nn.Module], int, list[int]]] = {
    "torch": (lambda: Torchs(), TOKENS, [HEADS]),
    "torch, batch first": (lambda: Torchs(batch_first=True), TOKENS, [HEADS]),
    "torch, weights": (lambda: Torchs(needs_weights=True), TOKENS, [HEADS]),
    "torch, no bias": (lambda: Torchs(bias=False), TOKENS, [HEADS]),
    "torch, bias of keys": (lambda: Torchs(add_bias_kv=True), TOKENS, [HEADS]),
    "torch, a zero key": (lambda: Torchs(add_zero_attn=True), TOKENS, []),
    "windows": (Windowed, 16, [HEADS]),
    "torchvision": (lambda: Torchvisions(1), 16, [HEADS]),
    "torchvision, shifted": (lambda: Torchvisions(1, 1), 16, [HEADS]),
    "torchvision v2": (lambda: Torchvisions(2), 16, [HEADS]),
    "torchvision v2, shifted": (lambda: Torchvisions(2, 1), 16, [HEADS]),
    "pooled": (Pooled, TOKENS, [HEADS]),
    "conditioned": (Conditioned, 16, [HEADS]),
}


@pytest.mark.parametrize("name", MODULES)
def test_whole_modules(name: str) -> None:
    make, count, heads = MODULES[name]
    checked = check(Around(make()), tokens(count), seeds=SEEDS)
    assert heads_in(checked) == heads
    assert [pin.name for pin in checked.groups.pinned] == ["head"]


def test_a_memory_of_other_widths() -> None:
    checked = check(Cross(), tokens(), torch.randn(1, 7, 5), seeds=SEEDS)
    assert heads_in(checked) == [HEADS]
    assert {"keys", "values", "stem"} <= checked.names


@pytest.mark.parametrize("make", [Padded, PaddedByHand])
def test_masks_of_padded_keys(make: type[nn.Module]) -> None:
    padding = torch.zeros(1, TOKENS, dtype=torch.bool)
    padding[0, -3:] = True
    checked = check(make(), tokens(), padding, seeds=SEEDS)
    assert heads_in(checked) == [HEADS]


@pytest.mark.parametrize(("first", "batch_first"), [(False, True), (True, False)])
def test_torchs_encoder(first: bool, batch_first: bool) -> None:
    checked = check(Encoder(first, batch_first), tokens(), seeds=SEEDS)
    assert heads_in(checked) == [HEADS, HEADS]
    assert {"layers.layers.0.linear1", "layers.layers.1.linear1", "stem"} <= checked.names


def test_torchs_decoder() -> None:
    checked = check(Decoder(), torch.tensor([[1, 2, 3]]), tokens(), seeds=SEEDS)
    assert heads_in(checked) == [HEADS, HEADS]
    assert "words" in checked.names


def test_positions_turn_what_looks_back_only() -> None:
    check(Around(Attention("Rotary", "Causal")), tokens(), seeds=SEEDS)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    projection=st.sampled_from(sorted(PROJECTIONS)),
    core=st.sampled_from(sorted(CORES)),
)
def test_any_way_to_project_with_any_way_to_attend(seed: int, projection: str, core: str) -> None:
    torch.manual_seed(seed)
    check(Around(Attention(projection, core)), tokens(), seeds=range(seed, seed + 2))
