"""Products of two tensors: matrix products, einsum, attention.

Every one of them is the elementwise product of its operands, laid out over all dimensions they have
between them, summed over those that the result lacks. So the rules are those of elementwise ops and
of sums; labels are broadcast views, so the large layout costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from edgeprune.channels.core import Flow, Value, aten, rule
from edgeprune.channels.elementwise import join
from edgeprune.channels.movement import permute, unsqueeze
from edgeprune.channels.reduction import crosses, summed


@rule(aten.matmul.default, aten.bmm.default, aten.mm.default, aten.mv.default, aten.dot.default)
def matmul(flow: Flow, a: Value, b: Value) -> Value:
    """Ids (..., M, K) x (..., K, N) → (..., M, N): K is contracted, the rest passes."""
    row, column = len(a.shape) == 1, len(b.shape) == 1
    a = unsqueeze(flow, a, 0) if row else a
    b = unsqueeze(flow, b, 1) if column else b
    wide = unsqueeze(flow, a, -1)
    tall = unsqueeze(flow, b, len(b.shape) - 2)
    shape = torch.broadcast_shapes(wide.shape, tall.shape)
    rank = len(shape)
    gone = {rank - 2, *([rank - 3] if row else []), *([rank - 1] if column else [])}
    return summed(flow, join(flow, [_plain(wide), _plain(tall)], tuple(shape)), gone, keep=False)


@rule(aten.addmm.default, aten.baddbmm.default, aten.addbmm.default)
def matmul_added(flow: Flow, bias: Value, a: Value, b: Value, **kwargs: Any) -> Value:
    """A product and what is added to it."""
    made = matmul(flow, a, b)
    if flow.node.target is aten.addbmm.default:
        made = summed(flow, made, {0}, keep=False)
    return join(flow, [made, bias], made.shape)


@rule(aten.outer.default, aten.ger.default)
def outer(flow: Flow, a: Value, b: Value) -> Value:
    """Ids (M), (N) → (M, N)."""
    shape = (*a.shape, *b.shape)
    return join(flow, [_plain(unsqueeze(flow, a, 1)), _plain(unsqueeze(flow, b, 0))], shape)


@rule(aten.cosine_similarity.default)
def cosine_similarity(flow: Flow, a: Value, b: Value, dim: int = 1, *args: Any) -> Value:
    """Products and squares summed along `dim`: what is removed was zero."""
    shape = tuple(torch.broadcast_shapes(a.shape, b.shape))
    return summed(flow, join(flow, [_plain(a), _plain(b)], shape), {dim % len(shape)}, keep=False)


@rule(aten.einsum.default)
def einsum(flow: Flow, equation: str, operands: Sequence[Value], **kwargs: Any) -> Value:
    """Letters are dimensions; those that the right side lacks are summed over."""
    left, result = _letters(equation, [len(x.shape) for x in operands])
    every = [*result, *sorted({letter for letters in left for letter in letters} - set(result))]
    laid = [_laid_out(flow, x, letters, every) for x, letters in zip(operands, left, strict=True)]
    shape = tuple(torch.broadcast_shapes(*(x.shape for x in laid)))
    return summed(flow, join(flow, laid, shape), set(range(len(result), len(every))), keep=False)


def _letters(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """The letters of every operand and of the result; `...` becomes numbered dimensions."""
    sides = equation.replace(" ", "").split("->")
    given = sides[0].split(",")
    widest = max(
        rank - len(text.replace("...", "")) for text, rank in zip(given, ranks, strict=True)
    )
    left = [
        _spelled(text, rank - len(text.replace("...", "")), widest)
        for text, rank in zip(given, ranks, strict=True)
    ]
    if len(sides) > 1:
        return left, _spelled(sides[1], widest, widest)
    seen = [letter for letters in left for letter in letters]
    dots = [str(i) for i in range(widest)] if "..." in sides[0] else []
    once = sorted(c for c in set(seen) if seen.count(c) == 1 and not c.isdigit())
    return left, [*dots, *once]


def _spelled(text: str, count: int, widest: int) -> list[str]:
    before, dots, after = text.partition("...")
    middle = [str(i) for i in range(widest - count, widest)] if dots else []
    return [*before, *middle, *after]


def _laid_out(flow: Flow, x: Value, letters: list[str], every: list[str]) -> Value:
    """An operand with its dimensions in the order of `every`, size 1 where it lacks one."""
    if len(set(letters)) < len(letters):
        raise NotImplementedError("einsum over a diagonal")
    order = [letters.index(letter) for letter in every if letter in letters]
    x = _plain(permute(flow, x, order))
    for d, letter in enumerate(every):
        if letter not in letters:
            x = unsqueeze(flow, x, d)
    return x


def _plain(x: Value) -> Value:
    """A parameter as an operand whose order follows from its own position only."""
    return replace(x, parameter=None)


@rule(aten.scaled_dot_product_attention.default)
def attention(
    flow: Flow, q: Value, k: Value, v: Value, mask: Value | None = None, *args: Any, **kwargs: Any
) -> Value:
    """softmax(q kᵀ) v over (..., T, D): q and k meet along D, v's D passes (Vaswani et al. 2017).

    With `enable_gqa`, every head of k and v serves several heads of q (Ainslie et al. 2023).
    """
    if kwargs.get("enable_gqa"):
        from edgeprune.channels.movement import repeat_interleave

        times = q.shape[-3] // k.shape[-3]
        k = repeat_interleave(flow, k, times, len(k.shape) - 3)
        v = repeat_interleave(flow, v, times, len(v.shape) - 3)
    rank = len(k.shape)
    turned = permute(flow, k, [*range(rank - 2), rank - 1, rank - 2])
    scores = matmul(flow, q, turned)
    for label in scores.varying(len(scores.shape) - 1):
        crosses(flow, label)
    if mask is not None:
        scores = join(flow, [scores, mask], scores.shape)
    return matmul(flow, scores, v)
