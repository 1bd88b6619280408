"""The user's own class with smaller layers: equal to the pruned graph, or refused with the line."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torchvision
from networks import Residual, TextbookNet, lively, random_plan, relative_error
from residuals import Nested, ResidualNet, Transformer
from torch import Tensor, nn
from torch.nn import functional as F

from edgeprune import capture, channel_groups, plan, prune
from edgeprune.blocks import blocks
from edgeprune.errors import PlanError
from edgeprune.plans import Plan
from edgeprune.writeback import to_module

SIZE = 16
LAYER = "encoder.layers.encoder_layer_"


def vision_transformer() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=SIZE, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32,
        num_classes=5,
    )  # fmt: skip


def small_densenet() -> nn.Module:
    return torchvision.models.DenseNet(8, (2, 3), 16)


def written(model: nn.Module, chosen: Plan, shape: tuple[int, ...]) -> nn.Module:
    """The smaller module, after checking that it is one and computes what the graph does."""
    before = copy.deepcopy(model.state_dict())
    graph = capture(model, (torch.randn(1, *shape),))
    small = to_module(model, chosen, graph)
    assert type(small) is type(model)
    pruned = prune(graph, chosen).module()
    x = torch.randn(3, *shape)
    with torch.no_grad():
        assert relative_error(small.eval()(x), pruned(x)) < 1e-5
    names = dict(small.named_parameters())
    for name, parameter in pruned.named_parameters():
        assert names[name].shape == parameter.shape
    after = model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    return small


def random(model: nn.Module, shape: tuple[int, ...], seed: int = 0) -> Plan:
    return random_plan(channel_groups(capture(model, (torch.randn(1, *shape),))), seed)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (TextbookNet, (1, 28, 28)),
        (ResidualNet, (3, SIZE, SIZE)),
        (Nested, (3, SIZE, SIZE)),
        (Transformer, (3, SIZE, SIZE)),
        (torchvision.models.resnet18, (3, 32, 32)),
        (torchvision.models.mobilenet_v2, (3, 32, 32)),
        (small_densenet, (3, 32, 32)),
        pytest.param(torchvision.models.densenet121, (3, 32, 32), marks=pytest.mark.slow),
    ],
)
def test_smaller_layers_in_the_same_class(make: type[nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = lively(make())
    half = plan(capture(model, (torch.randn(1, *shape),)), keep=0.5)
    small = written(model, half, shape)
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            outputs, inputs = module.weight.shape[:2]
            assert (module.out_channels, module.in_channels) == (outputs, inputs * module.groups)
        if isinstance(module, nn.Linear):
            assert (module.out_features, module.in_features) == module.weight.shape
        if isinstance(module, nn.BatchNorm2d):
            assert module.num_features == len(module.weight) == len(module.running_mean)
    again = capture(small, (torch.randn(1, *shape),))
    assert channel_groups(again).groups  # it can be pruned once more


@pytest.mark.parametrize("make", [TextbookNet, ResidualNet, Transformer])
@pytest.mark.parametrize("seed", range(3))
def test_random_plans(make: type[nn.Module], seed: int) -> None:
    shape = (1, 28, 28) if make is TextbookNet else (3, SIZE, SIZE)
    model = lively(make())
    chosen = random(model, shape, seed)
    kept = {name: left for name, left in chosen.kept.items() if "att" not in name}
    written(model, replace(chosen, kept=kept), shape)


def test_a_vision_transformer_loses_hidden_units() -> None:
    model = lively(vision_transformer())
    graph = capture(model, (torch.randn(1, 3, SIZE, SIZE),))
    half = plan(graph, keep=0.5)
    hidden = replace(half, kept={k: v for k, v in half.kept.items() if "mlp" in k})
    small = written(model, hidden, (3, SIZE, SIZE))
    assert small.encoder.layers[0].mlp[0].out_features == 16
    assert small.image_size == SIZE


def test_weights_that_were_trained_since_are_written() -> None:
    model = lively(Transformer())
    graph = capture(model, (torch.randn(1, 3, SIZE, SIZE),))
    half = plan(graph, keep=0.5)
    tuned = prune(graph, half).module()
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    small = to_module(model, half, graph, tuned.state_dict())
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        assert relative_error(small(x), tuned(x)) < 1e-5


def test_the_plan_remembers_the_inputs() -> None:
    model = lively(TextbookNet()).train()
    made = plan(capture(model, (torch.randn(2, 1, 28, 28),)), keep=0.5)
    made = Plan.from_json(made.to_json())
    assert made.inputs == ("float32 2x1x28x28",)
    small = to_module(model, made)
    assert small.conv2.in_channels == 2
    assert small.training
    with pytest.raises(PlanError, match="give to_module the graph"):
        to_module(model, replace(made, inputs=()))
    with pytest.raises(PlanError, match="does not begin with a type"):
        to_module(model, replace(made, inputs=("float33 1x1x28x28",)))


def test_tied_weights_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(11, 8)
            self.mix = nn.Linear(8, 8)
            self.head = nn.Linear(8, 11, bias=False)
            self.head.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.mix(self.table(x))))

    model = Tied().eval()
    words = torch.randint(0, 11, (1, 6))
    graph = capture(model, (words,))
    small = to_module(model, plan(graph, keep=0.5), graph)
    assert small.head.weight is small.table.weight
    with torch.no_grad():
        pruned = prune(graph, plan(graph, keep=0.5)).module()
        assert relative_error(small(words), pruned(words)) < 1e-5


# --- dropped blocks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "dropped", "replaced"),
    [
        # the last block's ReLU does something: what comes in is not positive
        (
            ResidualNet,
            ("body.1", "last.1"),
            {"body.1": nn.Identity, "last.1.gate": nn.Threshold, "last.1.conv1": nn.Identity},
        ),
        (Nested, ("inner.0", "left"), {"inner.0": nn.Identity, "left": nn.Threshold}),
        (Nested, ("inner",), {"out": nn.Threshold, "inner": nn.Identity}),
        (
            vision_transformer,
            (f"{LAYER}0.self_attention", f"{LAYER}0.mlp", f"{LAYER}1.mlp"),
            {
                f"{LAYER}0": nn.Identity,
                f"{LAYER}1.mlp": nn.Threshold,
                f"{LAYER}1.ln_2": nn.Identity,
            },
        ),
    ],
)
def test_dropped_blocks(
    make: type[nn.Module], dropped: tuple[str, ...], replaced: dict[str, type[nn.Module]]
) -> None:
    model = lively(make())
    shape = (3, SIZE, SIZE)
    graph = capture(model, (torch.randn(1, *shape),))
    chosen = replace(plan(graph, keep=0.5), dropped=dropped)
    if make is vision_transformer:  # torch's attention has one width: only hidden units go
        chosen = replace(chosen, kept={k: v for k, v in chosen.kept.items() if "mlp" in k})
    small = written(model, chosen, shape)
    for path, kind in replaced.items():
        assert type(small.get_submodule(path)) is kind, path
    left = {name for name, _ in small.named_parameters()}
    assert left == {name for name, _ in prune(graph, chosen).module().named_parameters()}


def test_attention_alone_goes_too() -> None:
    model = lively(vision_transformer())
    shape = (3, SIZE, SIZE)
    graph = capture(model, (torch.randn(1, *shape),))
    chosen = plan(graph, drop=[f"{LAYER}1.self_attention"])
    small = written(model, chosen, shape)
    count = sum(p.numel() for p in small.parameters())
    assert count == sum(p.numel() for p in prune(graph, chosen).module().parameters())


def test_a_block_that_is_no_module_is_refused() -> None:
    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            x = x + torch.relu(F.conv2d(x, self.weight))
            return x.mean((2, 3))

    model = ByHand().eval()
    graph = capture(model, (torch.randn(1, 3, SIZE, SIZE),))
    (block,) = blocks(graph)
    with pytest.raises(PlanError, match=rf"no module computes block {block.name}.*F\.conv2d"):
        to_module(model, plan(graph, drop=[block.name]), graph)


# --- classes that cannot hold a plan ---------------------------------------------------------


class Reshaped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(128, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.conv(x)), 4)
        x = x.view(-1, 8 * 16)
        return self.head(x)


class Checked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).mean((2, 3))
        if x.shape[1] != 8:
            raise ValueError("eight channels, please")
        return self.head(x)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 8)
        self.b = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        x = x / x.shape[1]
        return self.b(x)


class Halved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.one = nn.Conv2d(4, 5, 1)
        self.other = nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv(x).chunk(2, 1)
        return (self.one(a) - self.other(b)).mean((2, 3))


def test_halves_that_are_no_halves_any_more() -> None:
    model = Halved().eval()
    graph = capture(model, (torch.randn(1, 3, SIZE, SIZE),))
    first, *_ = channel_groups(graph).groups
    with pytest.raises(PlanError, match=r"a, b = self\.conv\(x\)\.chunk\(2, 1\) gives"):
        to_module(model, plan(graph, keep={first.name: 1}), graph)


@pytest.mark.parametrize(
    ("make", "shape", "line"),
    [
        (
            Reshaped,
            (3, SIZE, SIZE),
            r"test_writeback\.py:\d+ in forward: x = x\.view\(-1, 8 \* 16\)",
        ),
        (Residual, (3, SIZE, SIZE), r"networks\.py:\d+ in forward: short = nn\.functional\.pad"),
        (Checked, (3, SIZE, SIZE), r"raise ValueError.*raises ValueError: eight channels, please"),
        (Scaled, (4,), r"x = x / x\.shape\[1\] gives other values"),
    ],
)
def test_the_line_that_cannot_follow_is_named(
    make: type[nn.Module], shape: tuple[int, ...], line: str
) -> None:
    model = make().eval()
    graph = capture(model, (torch.randn(1, *shape),))
    with pytest.raises(PlanError, match=f"{make.__name__} cannot hold this plan: .*{line}"):
        to_module(model, plan(graph, keep=0.5), graph)


def test_attention_of_torch_has_one_width() -> None:
    model = vision_transformer().eval()
    graph = capture(model, (torch.randn(1, 3, SIZE, SIZE),))
    half = plan(graph, keep=0.5)
    other = replace(half, kept={k: v for k, v in half.kept.items() if "attention" not in k})
    with pytest.raises(
        PlanError, match=r"vision_transformer\.py:\d+ in forward: x, _ = self\.self"
    ):
        to_module(model, other, graph)
