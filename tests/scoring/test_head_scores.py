"""Criteria and strategies on attention: whole heads and the channels inside of them are scored and
planned like any others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from residuals import Transformer
from test_scoring import Batches

from edgeprune import capture, channel_groups, plan, prune, score
from edgeprune.choices import CRITERIA
from edgeprune.records import ChannelGroup, ChannelGroups, Graph, Scores

QKV = "layers.0.attn.qkv"
WIDTH = 16


def transformer(faint: int | None = None) -> tuple[Transformer, Graph, ChannelGroups]:
    """A transformer of two heads, of which one of the first layer may be all but silent."""
    torch.manual_seed(0)
    model = Transformer(width=WIDTH)
    if faint is not None:
        inside = slice(faint * 8, faint * 8 + 8)
        attention = model.layers[0].attn
        with torch.no_grad():
            for rows in attention.qkv.weight.view(3, WIDTH, WIDTH):
                rows[inside] *= 0.01
            attention.qkv.bias.view(3, WIDTH)[:, inside] *= 0.01
            attention.proj.weight[:, inside] *= 0.01
    graph = capture(model, (torch.randn(1, 3, 16, 16),))
    return model, graph, channel_groups(graph)


def batches() -> Batches:
    torch.manual_seed(1)
    return Batches([(torch.randn(8, 3, 16, 16), torch.randint(0, 5, (8,)))])


def heads(groups: ChannelGroups) -> ChannelGroup:
    return groups[f"{QKV}.heads"]


@pytest.mark.parametrize("criterion", [name for name in CRITERIA if name != "bn"])
def test_every_criterion_scores_every_group(criterion: str) -> None:
    _, graph, groups = transformer()
    values = score(graph, groups, criterion, batches()).values
    assert set(values) == {group.name for group in groups.groups}
    for group in groups.groups:
        assert values[group.name].shape == (group.size,)
        assert np.isfinite(values[group.name]).all()
        assert (values[group.name] >= 0).all()


@pytest.mark.parametrize("criterion", ["l1", "l2", "taylor", "fisher", "activation"])
@pytest.mark.parametrize("faint", [0, 1])
def test_a_head_that_says_nothing_scores_least(criterion: str, faint: int) -> None:
    _, graph, groups = transformer(faint)
    values = score(graph, groups, criterion, batches()).values
    whole = values[heads(groups).name]
    assert whole[faint] < 0.2 * whole[1 - faint]
    # and so does every channel inside of it, against every one of the other head
    inside = values[QKV].reshape(2, 8)
    assert inside[faint].max() < inside[1 - faint].min()


def test_l1_of_a_head_counts_every_weight_it_owns() -> None:
    model, graph, groups = transformer()
    got = score(graph, groups, "l1").values[heads(groups).name]
    attention = model.layers[0].attn
    made = attention.qkv.weight.abs().view(3, 2, 8, WIDTH).sum((0, 2, 3))
    read = attention.proj.weight.abs().view(WIDTH, 2, 8).sum((0, 2))
    total = (made + read).detach().numpy()
    np.testing.assert_allclose(got / got.sum(), total / total.sum(), rtol=1e-5)


def test_a_local_plan_keeps_all_heads_and_its_share_of_what_is_inside() -> None:
    _, graph, groups = transformer()
    made = plan(graph, groups, keep=0.5, strategy="local")
    for group in groups.groups:
        kept = made.kept.get(group.name, tuple(range(group.size)))
        assert len(kept) == (group.size if group.holds else group.size // 2)
        counts = np.bincount(group.part_of[list(kept)], minlength=group.parts)
        assert len(set(counts.tolist())) == 1  # as many of every head


def test_a_global_plan_takes_the_head_that_says_nothing() -> None:
    _, graph, groups = transformer(faint=1)
    values = dict(score(graph, groups, "l1").values)
    values[heads(groups).name] = np.array([10.0, 0.0])
    made = plan(graph, groups, keep=0.7, strategy="global", scores=Scores("l1", values))
    assert made.kept[heads(groups).name] == (0,)
    weight = dict(prune(graph, made).module().named_parameters())["layers.0.attn.proj.weight"]
    assert weight.shape[1] <= 8


@pytest.mark.parametrize("strategy", ["local", "global"])
def test_no_plan_takes_all_heads(strategy: str) -> None:
    _, graph, groups = transformer()
    made = plan(graph, groups, keep=0.05, strategy=strategy)
    for group in groups.groups:
        assert len(made.kept.get(group.name, range(group.size))) >= group.parts
    with torch.no_grad():
        assert prune(graph, made).module()(torch.randn(2, 3, 16, 16)).shape == (2, 5)
