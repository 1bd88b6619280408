"""Programs that the user exported: any batch, any mode, strict or not, from a file, decomposed."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from networks import lively, random_plan, relative_error
from residuals import ResidualNet, Transformer
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from edgeprune import capture, channel_groups, mask, prune
from edgeprune.blocks import blocks

SIZE = 16


def exported(model: nn.Module, batch: int, *, strict: bool = False) -> ExportedProgram:
    """A program of open batch where `batch` is 0."""
    shapes = None if batch else ({0: Dim.DYNAMIC},)
    x = torch.randn(batch or 2, 3, SIZE, SIZE)
    return export(model, (x,), dynamic_shapes=shapes, strict=strict)


def through_a_file(program: ExportedProgram) -> ExportedProgram:
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file)


def check(program: ExportedProgram, model: nn.Module, batch: int) -> None:
    """The captured program is the model in eval mode; removing from it is zeroing; it trains."""
    example = torch.randn(batch or 2, 3, SIZE, SIZE)
    graph = capture(program, (example,))
    assert graph.dynamic_batch == (batch == 0)
    x = torch.randn(batch or 3, 3, SIZE, SIZE)
    with torch.no_grad():
        assert relative_error(graph.module()(x), model.eval()(x)) < 1e-5
    groups = channel_groups(graph)
    names = [block.name for block in blocks(graph)]
    drawn = random_plan(groups, 1)
    if isinstance(model, Transformer):  # removing from what a layer norm sees is not zeroing
        drawn = replace(drawn, kept={k: v for k, v in drawn.kept.items() if "mlp" in k})
    assert any(len(kept) < groups[name].size for name, kept in drawn.kept.items())
    assert names
    plan = replace(drawn, dropped=(names[1],))
    small = prune(graph, plan)
    with torch.no_grad():
        assert relative_error(small.module()(x), mask(graph, plan).module()(x)) < 1e-5
    module = small.module().train()
    before = {name: value.clone() for name, value in module.named_buffers()}
    module(x).square().mean().backward()
    assert all(p.grad is not None for p in module.parameters())
    means = [name for name in before if name.endswith("running_mean")]
    now = dict(module.named_buffers())
    assert all(not torch.equal(before[name], now[name]) for name in means)


@pytest.mark.parametrize("make", [ResidualNet, Transformer])
@pytest.mark.parametrize("batch", [0, 1, 2])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_however_it_was_exported(
    make: type[nn.Module], batch: int, training: bool, strict: bool
) -> None:
    model = lively(make()).train(training)
    check(exported(model, batch, strict=strict), model, batch)


@pytest.mark.parametrize("make", [ResidualNet, Transformer])
@pytest.mark.parametrize(
    "change",
    [through_a_file, ExportedProgram.run_decompositions],
    ids=["file", "decomposed"],
)
def test_whatever_happened_to_it_since(
    make: type[nn.Module], change: Callable[[ExportedProgram], ExportedProgram]
) -> None:
    model = lively(make())
    check(change(exported(model, 0)), model, 0)


def test_dropout_that_the_model_always_does_stays() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(x, 0.5, training=True)

    module = capture(Noisy().eval(), (torch.ones(1, 64),)).module().eval()
    assert bool((module(torch.ones(1, 64)) == 0).any())


def test_decomposed_convolutions_of_every_kind_come_back() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, dilation=1, groups=1),
        nn.GroupNorm(4, 8),
        nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        nn.Flatten(2),
        nn.Conv1d(6, 4, 3, padding=2, dilation=2, groups=2, bias=False),
        nn.LayerNorm(SIZE * SIZE),
        nn.Linear(SIZE * SIZE, 3, bias=False),
        nn.Softmax(1),
    )
    program = exported(model.eval(), 2)
    whole = capture(program, (torch.randn(2, 3, SIZE, SIZE),))
    again = capture(program.run_decompositions(), (torch.randn(2, 3, SIZE, SIZE),))
    ops = {str(n.target) for n in again.program.graph.nodes if n.op == "call_function"}
    assert not ops & {"aten.convolution.default", "aten.native_layer_norm.default"}
    assert ops >= {"aten.conv_transpose2d.input", "aten.conv1d.default", "aten.group_norm.default"}
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        assert relative_error(again.module()(x), whole.module()(x)) < 1e-6
    assert [g.size for g in channel_groups(again).groups] == [
        g.size for g in channel_groups(whole).groups
    ]


def test_a_saved_program_on_the_command_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from edgeprune.cli import main

    model = lively(ResidualNet())
    saved = tmp_path / "net.pt2"
    torch.export.save(exported(model, 0), saved)
    plan = tmp_path / "plan.json"
    words = ["plan", "--model", str(saved), "--keep", "0.5", "--drop", "body.1", "-o", str(plan)]
    assert main(words) == 0
    assert "drops body.1" in capfd.readouterr().out
    assert main(["inspect", "--model", str(saved)]) == 0
    out = capfd.readouterr().out
    assert "residual blocks that can be dropped whole: 5" in out
    assert main(["plan", "--model", str(saved), "--drop", "bodi.1", "-o", str(plan) + "2"]) == 2
    assert "did you mean body" in capfd.readouterr().err
