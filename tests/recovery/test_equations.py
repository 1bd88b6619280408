from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgeprune.recovery.equations import Equations


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def equations(x: Tensor, error: Tensor, pieces: int = 4) -> Equations:
    found = Equations(x.shape[0], x.shape[2], error.shape[2], x.device)
    for i, (rows, wanted) in enumerate(
        zip(x.chunk(pieces, 1), error.chunk(pieces, 1), strict=True)
    ):
        found.add(i % 2, rows, wanted)
    return found


def left(x: Tensor, error: Tensor, found: Equations, constant: bool) -> float:
    change = found.solve(constant=constant)
    rest = error.double() - x.double() @ change.weight.mT - change.constant[:, None]
    assert float(rest.square().sum()) == pytest.approx(change.after, rel=1e-6, abs=1e-6)
    return change.after


def test_an_exact_relation_is_found_however_the_rows_come() -> None:
    x, w, b = drawn(0, 3, 200, 5) + 1, drawn(1, 3, 4, 5), drawn(2, 3, 1, 4)
    error = x @ w.mT + b
    for pieces in (2, 7):
        change = equations(x, error, pieces).solve(constant=True)
        torch.testing.assert_close(change.weight.float(), w, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(change.constant[:, None].float(), b, rtol=1e-4, atol=1e-4)
        assert change.after < 1e-6 * change.before


def test_it_is_the_least_squares_solution_where_there_are_plenty_of_rows() -> None:
    x, noise = drawn(0, 1, 4000, 6), drawn(1, 1, 4000, 2)
    error = x @ drawn(2, 1, 2, 6).mT + 0.5 * noise
    change = equations(x, error).solve(constant=False)
    best = torch.linalg.lstsq(x[0].double(), error[0].double()).solution
    torch.testing.assert_close(change.weight[0].mT, best, rtol=1e-3, atol=1e-3)
    assert not change.constant.any()


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6), st.integers(1, 3), st.integers(2, 40), st.integers(1, 12),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_the_error_never_grows(
    seed: int, groups: int, rows: int, inputs: int, constant: bool, degenerate: bool
) -> None:
    x, error = drawn(seed, groups, rows, inputs), drawn(seed + 1, groups, rows, 3)
    if degenerate:
        x[..., inputs // 2 :] = 0
    found = equations(x, error, pieces=2)
    assert left(x, error, found, constant) <= float(error.double().square().sum()) * (1 + 1e-12)


def test_what_does_not_carry_over_to_other_samples_is_not_learned() -> None:
    x, noise = drawn(0, 1, 60, 50), drawn(1, 1, 60, 8)
    change = equations(x, noise, pieces=2).solve(constant=False)
    assert float(change.weight.abs().max()) < 0.1, "60 rows of noise say nothing of 50 unknowns"


def test_no_error_means_no_change() -> None:
    change = equations(drawn(0, 2, 30, 4), torch.zeros(2, 30, 3)).solve(constant=True)
    assert change.ridge is None
    assert not change.weight.any()


def test_one_half_alone_is_trusted_little() -> None:
    x = drawn(0, 1, 50, 3)
    found = Equations(1, 3, 2, x.device)
    found.add(0, x, x[..., :2])
    change = found.solve(constant=True)
    assert 0 < change.after < change.before
    assert float(change.weight.abs().max()) < 0.75
