"""The line between predictions and whole programs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.cost.calibration import calibrated

times = st.lists(st.floats(1, 100), min_size=4, max_size=8, unique_by=lambda ms: round(ms, 1))


@given(st.floats(0.5, 2), st.floats(-0.2, 0.5), times)
def test_a_line_is_found_and_leaves_no_error(factor, offset, predicted):
    if max(predicted) < 3 * min(predicted):
        predicted = [*predicted, 3 * max(predicted), 5 * max(predicted)]
    found = calibrated([(p, factor * p + offset) for p in predicted])
    assert found.at(10.0) == pytest.approx(factor * 10 + offset, rel=1e-6)
    assert max(map(abs, found.held_out)) < 0.5  # without its end, a line is extended


def test_programs_of_one_size_give_a_factor_that_one_disturbed_measurement_does_not_move():
    found = calibrated([(1.0, 1.0), (1.1, 1.1), (1.2, 1.2), (1.3, 1.95)])
    assert (found.factor, found.offset_ms) == (pytest.approx(1.0), 0.0)
    assert found.margin == pytest.approx(1 / 3)


def test_one_program_has_no_error_to_tell():
    found = calibrated([(2.0, 2.2)])
    assert (found.factor, found.held_out, found.margin) == (pytest.approx(1.1), (), 0.0)


def test_nothing_measured_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        calibrated([])
