"""Upstream's long messages become one line and the user's own line of code."""

from __future__ import annotations

from edgeprune.reasons import reason_of, source_of

LONG = """
While executing %where : [num_users=1]
Data-dependent branching is not supported

Original traceback:
  File "/home/me/net.py", line 12, in forward
    if x.sum() > 0:
  File "/opt/lib/python3.11/site-packages/torch/nn/modules/linear.py", line 125, in forward
    return F.linear(input, self.weight, self.bias)
"""


def test_first_useful_line_and_the_users_frame() -> None:
    error = RuntimeError(LONG)
    assert reason_of(error) == "RuntimeError: Data-dependent branching is not supported"
    assert source_of(error) == "/home/me/net.py:12"


def test_the_deepest_cause_speaks() -> None:
    error = RuntimeError("An error occurred when running the 'X' pass")
    error.__cause__ = KeyError("no visitor for aten.erfinv")
    assert "no visitor for aten.erfinv" in reason_of(error)
    assert source_of(error) is None


def test_an_error_without_words_gives_its_type() -> None:
    assert reason_of(AssertionError()) == "AssertionError"
    assert reason_of(RuntimeError("x" * 5000)) == "RuntimeError: " + "x" * 300


def test_a_cycle_of_causes_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert reason_of(first) == "ValueError: b"
