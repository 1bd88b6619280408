"""Residual blocks: found where they are and nowhere else; dropping one computes what zero does."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import lively, random_plan, relative_error
from residuals import Nested, NoBlocks, ResidualNet, Transformer
from torch import nn

from edgeprune import capture, channel_groups, mask, prune
from edgeprune.blocks import blocks
from edgeprune.errors import PlanError
from edgeprune.plans import Plan
from edgeprune.records import ChannelGroups, Graph

EXACT = 1e-6
SIZE = 16


def vision_transformer() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=SIZE, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32,
        num_classes=5,
    )  # fmt: skip


def resnet20() -> nn.Module:
    from resnet_cifar import resnet20

    return resnet20()


NETWORKS = {
    "residual": ResidualNet,
    "nested": Nested,
    "transformer": Transformer,
    "vit": vision_transformer,
    "resnet20": resnet20,
    "resnet18": torchvision.models.resnet18,
    "mobilenet_v2": torchvision.models.mobilenet_v2,
    "convnext": lambda: torchvision.models.ConvNeXt(
        [torchvision.models.convnext.CNBlockConfig(8, 12, 2)], num_classes=5
    ),
}
# statistics cross channels here: removing channels of the stream itself is not zeroing them
NORMALISED = ("transformer", "vit", "convnext")


@cache
def captured(name: str) -> tuple[Graph, ChannelGroups]:
    torch.manual_seed(0)
    graph = capture(lively(NETWORKS[name]()), (torch.randn(1, 3, SIZE, SIZE),), name=name)
    return graph, channel_groups(graph)


def names(graph: Graph) -> list[str]:
    return [block.name for block in blocks(graph)]


def error(one: Graph, other: Graph) -> float:
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        return relative_error(one.module()(x), other.module()(x))


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("residual", ["body.0", "body.1", "body.2", "last.0", "last.1"]),
        ("nested", ["inner.0", "inner.1", "inner", "left", "right"]),
        ("transformer", ["layers.0.attn", "layers.0.mlp", "layers.1.attn", "layers.1.mlp"]),
        (
            "vit",
            [
                f"encoder.layers.encoder_layer_{i}.{part}"
                for i in range(2)
                for part in ("self_attention", "mlp")
            ],
        ),
        ("resnet18", ["layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1"]),
        ("mobilenet_v2", [f"features.{i}" for i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]),
        ("convnext", ["features.1.0", "features.1.1"]),
    ],
)
def test_blocks_are_found_and_named(network: str, expected: list[str]) -> None:
    graph, _ = captured(network)
    assert names(graph) == expected


def test_strided_shortcuts_without_parameters_are_no_blocks() -> None:
    graph, _ = captured("resnet20")
    assert len(blocks(graph)) == 7  # of nine: two change the shape


def test_sums_that_are_no_blocks() -> None:
    graph = capture(NoBlocks().eval(), (torch.randn(1, 3, SIZE, SIZE),))
    assert blocks(graph) == ()


def test_shifted_windows_write_their_masks_in_place_inside_the_branch() -> None:
    swin = torchvision.models.SwinTransformer(
        patch_size=[4, 4], embed_dim=8, depths=[2], num_heads=[2], window_size=[2, 2], num_classes=5
    )
    graph = capture(swin.eval(), (torch.randn(1, 3, 32, 32),))
    found = names(graph)
    assert found == [f"features.1.{i}.{part}" for i in range(2) for part in ("attn", "mlp")]
    none = Plan({}, channel_groups(graph).full_widths(), channel_groups(graph).fingerprint)
    plan = replace(none, dropped=("features.1.1.attn",))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        removed, zeroed = prune(graph, plan).module()(x), mask(graph, plan).module()(x)
    assert relative_error(removed, zeroed) < EXACT


@pytest.mark.parametrize("network", NETWORKS)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_dropping_is_zeroing(network: str, data: st.DataObject, seed: int) -> None:
    graph, groups = captured(network)
    dropped = tuple(data.draw(st.lists(st.sampled_from(names(graph)), unique=True)))
    whole = Plan({}, groups.full_widths(), groups.fingerprint, dropped=dropped)
    assert error(prune(graph, whole), mask(graph, whole)) < EXACT
    drawn = random_plan(groups, seed)
    kept = {name: left for name, left in drawn.kept.items() if "att" not in name}
    both = replace(drawn, kept=kept, dropped=dropped)
    if network in NORMALISED:
        cut = prune(graph, replace(both, dropped=()))
        again = channel_groups(cut)
        alone = Plan({}, again.full_widths(), again.fingerprint, dropped=dropped)
        assert error(prune(graph, both), mask(cut, alone)) < EXACT
    else:
        assert error(prune(graph, both), mask(graph, both)) < 1e-5


@pytest.mark.parametrize("network", NETWORKS)
def test_what_only_a_branch_reads_goes_with_it(network: str) -> None:
    graph, groups = captured(network)
    before = set(graph.module().state_dict())
    everything = Plan({}, groups.full_widths(), groups.fingerprint, dropped=tuple(names(graph)))
    small = prune(graph, everything)
    gone = {name for block in blocks(graph) for name in block.parameters}
    assert set(small.module().state_dict()) == before - gone
    read = {str(n.target) for n in small.program.graph.nodes if n.op == "get_attr"}
    assert read >= {name for name, _ in small.module().named_parameters()}
    assert blocks(small) == ()


def test_a_dropped_network_trains_and_is_captured_again() -> None:
    graph, groups = captured("residual")
    plan = replace(random_plan(groups, 3), dropped=("body.1", "last.1"))
    small = prune(graph, plan)
    small.module().train()(torch.randn(4, 3, SIZE, SIZE)).square().mean().backward()
    assert all(p.grad is not None for p in small.module().parameters())
    small.module().eval()
    again = capture(small.module(), (torch.randn(1, 3, SIZE, SIZE),))
    assert error(again, small) < EXACT
    assert len(blocks(again)) == 3


def test_parameters_read_twice_stay() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + self.conv(x)
            return (x + torch.relu(self.conv(x))).mean((2, 3))

    graph = capture(Twice().eval(), (torch.randn(1, 3, SIZE, SIZE),))
    found = blocks(graph)
    assert [block.parameters for block in found] == [(), ()]
    groups = channel_groups(graph)
    for dropped in (found[:1], found[1:], found):
        plan = Plan({}, {}, groups.fingerprint, dropped=tuple(b.name for b in dropped))
        small = prune(graph, plan)
        assert error(small, mask(graph, plan)) < EXACT
        assert len(list(small.module().parameters())) == (0 if len(dropped) == 2 else 2)


def test_a_plan_with_dropped_blocks_survives_a_file() -> None:
    _, groups = captured("residual")
    plan = replace(random_plan(groups, 0), dropped=("body.1",))
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.widths()["block:body.1"] == 0
    old = replace(plan, dropped=())
    assert "dropped" not in old.to_json()
    assert Plan.from_json(old.to_json()) == old


def test_wrong_blocks_are_all_told_with_what_is_close() -> None:
    graph, groups = captured("residual")
    dropped = ("body.1", "bodi.0", "body.1", "elsewhere")
    plan = Plan({}, groups.full_widths(), groups.fingerprint, dropped=dropped)
    said = r"3 problem.*bodi\.0: no such block to drop; did you mean.*body\.1: dropped twice"
    with pytest.raises(PlanError, match=rf"{said}.*elsewhere.*there are body\.0"):
        prune(graph, plan)


def test_the_graph_stays_as_it_was() -> None:
    graph, groups = captured("nested")
    code = graph.program.code
    plan = Plan({}, groups.full_widths(), groups.fingerprint, dropped=tuple(names(graph)))
    prune(graph, plan)
    mask(graph, plan)
    assert graph.program.code == code
    assert np.isfinite(error(graph, graph))


def test_a_view_after_a_dropped_block_still_finds_its_numbers() -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(3, 3)
            self.head = nn.Linear(48, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x[:, :, :4, :4].flatten(2).transpose(1, 2)
            x = torch.relu(self.mix(x)) + x  # laid out as the branch is; the shortcut is not
            return self.head(x.view(x.shape[0], 48))

    graph = capture(Viewed().eval(), (torch.randn(1, 3, SIZE, SIZE),))
    (block,) = blocks(graph)
    plan = Plan({}, {}, channel_groups(graph).fingerprint, dropped=(block.name,))
    assert error(prune(graph, plan), mask(graph, plan)) < EXACT
