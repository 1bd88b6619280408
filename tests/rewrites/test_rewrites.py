"""Every rewrite computes what the operator computes, and the delegate takes more of the program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from calls import HERE, Body, Calls
from torch import Tensor, nn

from edgeprune.errors import LoweringError
from edgeprune.graph import capture
from edgeprune.lowering import lower
from edgeprune.measuring.execute import execute
from edgeprune.rewrites import rewritten


def shifted_mask(x: Tensor) -> Tensor:
    """As shifted windows do it: a mask made in place, from the shape of the input alone."""
    mask = x.new_zeros(x.shape[-1])
    mask[:2] = 1
    mask[2:] = 2
    seen = mask[:, None] - mask[None, :]
    return x @ seen.masked_fill(seen != 0, -100.0).softmax(-1)


def first_rows(mask: Tensor) -> Body:
    return lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=mask)


SEES = torch.ones(6, 6).tril().bool()
BLIND = SEES & (torch.arange(6) != 0)

CASES: dict[str, tuple[Body, tuple[int, ...], str]] = {
    "pads": (lambda x: F.avg_pool2d(x, 3, 1, 1), (2, 4, 9, 7), "average pooling"),
    "rounds up, pads counted": (
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        (2, 4, 10, 8),
        "average pooling",
    ),
    "rounds up, pads not counted": (
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        (2, 4, 9, 8),
        "average pooling",
    ),
    "a last window outside": (
        lambda x: F.avg_pool2d(x, 2, 2, 1, ceil_mode=True),
        (1, 2, 5, 5),
        "average pooling",
    ),
    "a divisor": (
        lambda x: F.avg_pool2d(x, (2, 3), divisor_override=5),
        (2, 4, 10, 8),
        "average pooling",
    ),
    "a line": (lambda x: F.avg_pool1d(x, 3, 2, 1), (2, 4, 9), "average pooling"),
    "uneven": (
        lambda x: F.adaptive_avg_pool2d(x, (3, 7)),
        (2, 4, 10, 9),
        "adaptive average pooling",
    ),
    "even": (lambda x: F.adaptive_avg_pool2d(x, (5, 3)), (2, 4, 10, 9), "adaptive average pooling"),
    "as it is": (lambda x: F.adaptive_avg_pool2d(x, 9), (2, 4, 9, 9), "adaptive average pooling"),
    "uneven line": (
        lambda x: F.adaptive_avg_pool1d(x, 2),
        (2, 4, 9),
        "adaptive average pooling",
    ),
    "mean of tokens": (lambda x: x.mean(1), (2, 9, 8), "mean"),
    "sum over the outer": (lambda x: x.sum((0, 2), keepdim=True), (2, 9, 8), "sum"),
    "length": (lambda x: F.normalize(x, dim=1), (2, 9, 8), "vector norm"),
    "attention": (
        lambda x: F.scaled_dot_product_attention(x, x + 1, x * 2, scale=0.3),
        (2, 4, 6, 5),
        "attention",
    ),
    "causal": (
        lambda x: F.scaled_dot_product_attention(x[:, :, :4], x, x, is_causal=True),
        (2, 4, 6, 5),
        "attention",
    ),
    "grouped queries": (
        lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, 2:], enable_gqa=True),
        (2, 4, 6, 5),
        "attention",
    ),
    "causal grouped queries": (
        lambda x: F.scaled_dot_product_attention(
            x, x[:, :2], x[:, 2:], is_causal=True, enable_gqa=True
        ),
        (2, 4, 6, 5),
        "attention",
    ),
    "boolean mask": (first_rows(SEES), (2, 4, 6, 5), "attention"),
    "added mask": (
        first_rows(torch.zeros(6, 6).masked_fill(~SEES, -torch.inf) + 0.5),
        (2, 4, 6, 5),
        "attention",
    ),
    "attention seen as its fused kernel leaves it": (
        lambda x: (
            F.scaled_dot_product_attention(x, x + 1, x * 2)
            .permute(2, 0, 1, 3)
            .contiguous()
            .view(12, 20)
        ),
        (2, 4, 6, 5),
        "attention",
    ),
    "product": (lambda x: x @ x.transpose(-1, -2), (2, 3, 4, 5), "batched product"),
    "einsum of rows with tables": (
        lambda x: torch.einsum("bhwc,hkc->bhwk", x, x[0, :, :4] + 1),
        (2, 3, 4, 5),
        "einsum",
    ),
    "einsum of sums over several letters": (
        lambda x: torch.einsum("abcd, dbae -> ec", x, x.permute(3, 1, 0, 2) * 2),
        (2, 3, 4, 5),
        "einsum",
    ),
    "einsum with nothing in common": (
        lambda x: torch.einsum("ab,cde->dbeca", x[0, 0], x[1]),
        (2, 3, 4, 5),
        "einsum",
    ),
    "made mask": (shifted_mask, (2, 3, 5), "constants"),
    "roll": (lambda x: torch.roll(x, (-3, 2), (1, 2)), (2, 9, 7), "join"),
    "join of one": (lambda x: torch.cat([x * 0.5], 1) + 0.5, (2, 9, 7), "join"),
    "whole numbers": (lambda x: (3 - (x + 3) * 2 - 1) / 4, (2, 9, 7), "numbers"),
    "in place": (lambda x: x.sin().add_(3).mul_(2), (2, 9, 7), "numbers"),
    "hard sigmoid": (lambda x: F.hardsigmoid(x * 4.0), (2, 9, 7), "numbers"),
    "stack": (lambda x: torch.stack([x, x * 2], 1), (2, 9, 7), "join"),
    "parts": (lambda x: sum(x.chunk(3, 1), torch.zeros(())), (2, 9, 3), "slice"),
    "picked": (lambda x: x[:, -1] + x[:, 0], (2, 9, 3), "slice"),
    "unbound": (lambda x: torch.cat([p * 2 for p in x.unbind(1)]), (2, 3, 3), "slice"),
    "pixels": (lambda x: F.pixel_shuffle(x, 2), (2, 8, 3, 5), "pixel shuffle"),
}


def program_of(body: Body, shape: tuple[int, ...]) -> tuple[torch.export.ExportedProgram, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(shape)
    return torch.export.export(Calls(body).eval(), (x,)), x


@pytest.mark.parametrize("case", CASES)
def test_a_rewrite_computes_the_same(case: str) -> None:
    body, shape, name = CASES[case]
    exported, x = program_of(body, shape)
    program, applied = rewritten(exported)
    assert applied.get(name, 0) >= 1
    torch.testing.assert_close(program.module()(x), body(x), rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize(
    "body",
    [
        lambda x: torch.einsum("ab,bc", x, x),
        lambda x: torch.einsum("aa,ab->b", x, x),
        lambda x: torch.einsum("ab,cb->a", x, x),
        lambda x: torch.einsum("ab,cb->ac", x, x[:, :1]),
        lambda x: torch.einsum("...b,cb->...c", x, x),
        lambda x: torch.einsum("ab,bc,cd->ad", x, x, x),
    ],
    ids=["no result", "diagonal", "one operand's sum", "broadcast", "dots", "three"],
)
def test_einsums_left_to_pytorch_are_right(body: Body) -> None:
    exported, x = program_of(body, (4, 4))
    program, applied = rewritten(exported)
    assert "einsum" not in applied
    torch.testing.assert_close(program.module()(x), body(x))


def test_mean_of_an_image_is_one_that_keeps_its_dimensions() -> None:
    exported, x = program_of(lambda x: x.mean((-1, 2)), (2, 3, 9, 8))
    program, _ = rewritten(exported)
    torch.testing.assert_close(program.module()(x), x.mean((2, 3)))
    means = [n for n in program.graph.nodes if n.target is torch.ops.aten.mean.dim]
    assert [n.args[1:] for n in means] == [([2, 3], True)]


@pytest.mark.parametrize("step", [2, 3, 4])
@pytest.mark.parametrize("start", [0, 1, -4])
def test_every_so_many(step: int, start: int) -> None:
    exported, x = program_of(lambda x: x[:, start::step, 1:7:step], (2, 9, 8))
    program, _ = rewritten(exported)
    assert torch.equal(program.module()(x), x[:, start::step, 1:7:step])
    steps = [n.args[4] for n in program.graph.nodes if len(n.args) > 4]
    assert all(step == 1 for step in steps)


def test_a_row_that_sees_nothing_stays_guarded() -> None:
    exported, x = program_of(first_rows(BLIND), (2, 4, 6, 5))
    program, applied = rewritten(exported)
    assert "attention" not in applied
    torch.testing.assert_close(program.module()(x), first_rows(BLIND)(x), equal_nan=True)


def test_a_mask_that_is_given_stays_guarded() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x, attn_mask=mask)

    args = (torch.randn(1, 2, 6, 5), torch.zeros(6, 6))
    _, applied = rewritten(torch.export.export(Masked().eval(), args))
    assert "attention" not in applied


def test_what_the_delegate_takes_stays() -> None:
    exported, _ = program_of(lambda x: F.avg_pool2d(x.relu(), 2).softmax(-1), (1, 2, 4, 4))
    program, applied = rewritten(exported)
    assert not applied
    targets = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert targets == ["aten.relu.default", "aten.avg_pool2d.default", "aten.softmax.int"]


def test_whole_numbers_among_whole_numbers_stay() -> None:
    exported, x = program_of(lambda x: (x * 4.0).to(torch.int64) * 3 + 1, (2, 5))
    program, applied = rewritten(exported)
    assert not applied
    assert torch.equal(program.module()(x), (x * 4.0).to(torch.int64) * 3 + 1)


def test_nothing_small_is_left_outside(tmp_path: Path) -> None:
    def body(x: Tensor) -> Tensor:
        return F.hardsigmoid(torch.cat([x.relu()], 1)) * 3 - 1

    x = torch.randn(1, 2, 6, 8)
    graph = capture(Calls(body).eval(), (x,))
    before = lower(graph, replace(HERE, rewrite=False), tmp_path / "before.pte")
    after = lower(graph, HERE, tmp_path / "after.pte")
    assert before.other_ops == {"dim_order_ops._to_dim_order_copy": 4, "aten.cat": 1}
    assert after.other_ops == {}
    (made,) = execute(after, (x.numpy(),))
    torch.testing.assert_close(torch.from_numpy(made), body(x))


def test_parameters_are_still_the_parameters() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)).eval()
    exported = torch.export.export(module, (torch.randn(2, 4),))
    program, _ = rewritten(exported)
    names = dict(module.named_parameters())
    assert torch.equal(program.state_dict["0.weight"], names["0.weight"])


@pytest.mark.parametrize(
    ("dtype", "outside", "close"),
    [("fp32", set(), 1e-5), ("fp16", {"dim_order_ops._to_dim_order_copy"}, 5e-3)],
)
def test_more_is_on_the_delegate_unless_the_target_asks_for_no_rewriting(
    dtype: str, outside: set[str], close: float, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 6, 8)

    def body(x: Tensor) -> Tensor:
        mixed = F.scaled_dot_product_attention(x, x, x, attn_mask=SEES)
        return F.avg_pool2d(torch.roll(mixed, 2, 3), 3, 1, 1)

    graph = capture(Calls(body).eval(), (x,))
    target = replace(HERE, dtype=dtype)
    before = lower(graph, replace(target, rewrite=False), tmp_path / "before.pte")
    after = lower(graph, target, tmp_path / "after.pte")
    assert len(before.other_ops) > len(outside)
    assert not before.rewrites
    assert set(after.other_ops) == outside
    assert set(after.rewrites) >= {"attention", "average pooling", "join"}
    (made,) = execute(after, (x.numpy(),))
    torch.testing.assert_close(torch.from_numpy(made), body(x), rtol=close, atol=close)


def test_what_cannot_be_rewritten_says_how_to_go_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise RuntimeError("no such operator")

    exported, _ = program_of(lambda x: torch.roll(x, 2, 1), (2, 9, 7))
    monkeypatch.setattr("edgeprune.rewrites.constants.folded", refuse)
    with pytest.raises(LoweringError, match=r"no such operator.*--no-rewrite"):
        rewritten(exported)


def test_a_constant_of_one_channel_keeps_its_rows(tmp_path: Path) -> None:
    """A table of positions for a single head: (1, 1, 5, 7), its strides those of (5, 7, 1)."""
    table = torch.randn(35, 1)

    def body(x: Tensor) -> Tensor:
        bias = table[torch.arange(34, -1, -1)].view(5, 7, 1).permute(2, 0, 1).contiguous()
        return (torch.relu(x) + bias.unsqueeze(0)).softmax(-1)

    x = torch.randn(1, 4, 1, 5, 7)
    made = lower(capture(Calls(body).eval(), (x,)), HERE, tmp_path / "table.pte")
    assert not made.other_ops
    (y,) = execute(made, (x.numpy(),))
    torch.testing.assert_close(torch.from_numpy(y), body(x))
