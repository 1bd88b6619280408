"""Programs on real inputs: parity with the graph, whatever the number of samples."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeprune import findings
from edgeprune.errors import MeasureError
from edgeprune.measuring import execute, parity
from edgeprune.measuring.agreement import agreement

IMAGES = np.random.default_rng(0).normal(size=(7, 3, 16, 16)).astype(np.float32)


def test_parity_of_one_and_of_two_at_a_time(narrow, pairs) -> None:
    for made in (narrow, pairs):
        found = parity(made.graph, made.artifact, [IMAGES])
        assert found.samples == 7
        assert found.max_rel < 1e-5
        assert 0 <= found.max_abs < 1e-4
        assert found.top1_agreement == 1.0


def test_parity_finds_other_weights(narrow, pairs) -> None:
    other = copy.deepcopy(narrow.graph.program)
    with torch.no_grad():
        other.head.bias += 1.0
    found = parity(replace(narrow.graph, program=other), narrow.artifact, [IMAGES])
    assert found.max_abs == pytest.approx(1.0, abs=1e-4)


def test_parity_of_zeros_is_told_apart() -> None:
    """A head that was never trained agrees with whatever else gives zeros."""
    zeros, almost = np.zeros((2, 10), np.float32), np.zeros((2, 10), np.float32)
    almost[1, 3] = 1e-30
    assert agreement([zeros], [zeros]).all_zero
    assert not agreement([almost], [almost]).all_zero
    assert not agreement([zeros, almost], [zeros, almost]).all_zero
    assert findings.on_parity(agreement([zeros], [zeros]))
    assert not findings.on_parity(agreement([almost], [zeros]))
    assert not findings.on_parity(None)


def test_outputs_come_in_the_order_of_inputs(narrow, pairs) -> None:
    one, two = execute(narrow.artifact, [IMAGES])[0], execute(pairs.artifact, [IMAGES])[0]
    assert one.shape == (7, 10)
    np.testing.assert_allclose(one, two, atol=1e-5)
    backwards = execute(narrow.artifact, [IMAGES[::-1]])[0]
    np.testing.assert_array_equal(backwards, one[::-1])


def test_the_runtime_reads_our_inputs_in_place(narrow, foreign) -> None:
    from edgeprune.measuring.loaded import load

    assert not load(narrow.artifact.path, seed=0).planned_inputs
    assert load(foreign, seed=0).planned_inputs


def test_executing_again_computes_the_same(narrow) -> None:
    """What is timed, `execute` after one `set_inputs`, is the whole computation every time."""
    from edgeprune.measuring.loaded import load

    program = load(narrow.artifact.path, seed=3)
    expected = narrow.graph.program(*program.inputs)
    for _ in range(3):
        program.execute()
    (got,) = program.method.get_outputs()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_other_inputs_are_refused_with_both_shapes(narrow) -> None:
    with pytest.raises(MeasureError, match=r"\(1, 3, 16, 16\).*not \[\(7, 3, 8, 8\)\]"):
        execute(narrow.artifact, [IMAGES[:, :, :8, :8]])
    with pytest.raises(MeasureError, match="batch first"):
        execute(narrow.artifact, [IMAGES, IMAGES])
    with pytest.raises(MeasureError, match="same number of samples"):
        execute(narrow.artifact, [IMAGES[:0]])


def test_agreement_of_known_outputs() -> None:
    x = np.array([[1.0, 4.0], [2.0, -8.0]])
    found = agreement([x], [x + np.array([[0.0, 0.5], [0.0, 0.0]])])
    assert (found.max_abs, found.max_rel, found.samples) == (0.5, 0.5 / 8, 2)
    assert found.top1_agreement == 1.0
    swapped = agreement([x], [x[:, ::-1]])
    assert swapped.top1_agreement == 0.0
    assert agreement([x.ravel()], [x.ravel()]).top1_agreement is None


def test_a_nan_on_one_side_is_an_infinite_difference() -> None:
    x = np.array([[1.0, np.nan], [np.inf, 2.0]])
    assert agreement([x], [x]).max_abs == 0.0
    y = x.copy()
    y[0, 0] = np.nan
    assert agreement([x], [y]).max_abs == np.inf
    assert agreement([np.zeros((1, 2))], [np.ones((1, 2))]).max_rel == np.inf
