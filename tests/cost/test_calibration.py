"""The factor between predictions and whole programs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.cost.calibration import calibrated


@given(st.floats(0.5, 2), st.lists(st.floats(0.1, 100), min_size=2, max_size=8))
def test_a_constant_factor_is_found_and_leaves_no_error(factor, predicted):
    found = calibrated([(p, factor * p) for p in predicted])
    assert found.factor == pytest.approx(factor)
    assert found.held_out == pytest.approx([0.0] * len(predicted), abs=1e-9)


def test_one_disturbed_program_moves_no_factor_but_shows_in_the_margin():
    found = calibrated([(1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (4.0, 5.0)])
    assert found.factor == pytest.approx(1.0)
    assert found.margin == pytest.approx(0.2)


def test_one_program_has_no_error_to_tell():
    found = calibrated([(2.0, 2.2)])
    assert (found.factor, found.held_out, found.margin) == (pytest.approx(1.1), (), 0.0)


def test_nothing_measured_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        calibrated([])
